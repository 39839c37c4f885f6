"""Forecasts from the analysis of a cycle, the products made of them, and their scores where nature is known already.

    forecast.nc            the members at every lead
    forecast_products.nc   what forecasters read (`products.forecast_file`), lead 0 being the analysis
    diag/forecast_scores.json   by lead: score sums, and the fractions skill score at the radii (window 2 r + 1 cells)

The forecasts have noise of their own: with the draws of the background, which the analysis holds already, errors of the
first step would add up instead of being independent. A real archive ends; leads beyond it are not scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cycler_da.cycle.scoring import flat_scores, member_sums
from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.ensemble import append_times
from cycler_da.errors import MissingInput
from cycler_da.forecasts_block import ForecastsBlock
from cycler_da.layout import Layout
from cycler_da.nature import Nature
from cycler_da.noise import Noise
from cycler_da.products.dataset import read_ensemble, write_ensemble
from cycler_da.products.forecast_file import ForecastProducts, write_forecast_products
from cycler_da.times import iso_time, time_stamp
from cycler_da.verification.neighbourhood import fraction_sums
from cycler_da.verification.scores import event_scores

FORECAST, PRODUCTS = "forecast.nc", "forecast_products.nc"


def block_of(work: CycleWork) -> ForecastsBlock | None:
    """What is forecast in this cycle; None where nothing is."""
    block = work.setting.config.forecasts
    if block is None or work.is_start or (block.chains and work.chain.name not in block.chains):
        return None
    return block


def forecast_until(work: CycleWork) -> str | None:
    """Last valid time of the forecast that this cycle makes; None where it makes none."""
    block = block_of(work)
    return None if block is None else iso_time(work.time + block.leads(work.setting.layout.step)[-1])


def make_forecasts(work: CycleWork) -> None:
    """Forecast from the analysis and write members and products; nothing where the config asks for nothing."""
    block = block_of(work)
    if block is None:
        return
    config, control = work.setting.config, work.setting.control
    start = append_times(work.previous(), work.analysis())
    times = work.time + block.leads(work.setting.layout.step)
    noise = Noise(work.noise.seed, -work.noise.cycle)
    made = work.executor.forecast(work.chain.source, start, times, noise=noise, batch=config.ensemble.batch)
    physical = control.from_control(made)
    write_ensemble(work.folder / FORECAST, physical, facts=work.facts("forecast"))
    analysis = control.from_control(work.analysis().at_latest())
    asked = ForecastProducts(block.thresholds, block.radii_km, block.percentiles)
    facts = work.facts("forecast_products", points=block.points or None)
    write_forecast_products(work.folder / PRODUCTS, append_times(analysis, physical), asked, facts=facts)


def score_forecasts(work: CycleWork, nature: Nature) -> Facts:
    """Score the forecasts at the leads whose truth is known; returns flat scores by lead in minutes."""
    block = block_of(work)
    if block is None:
        return {}
    ensemble = read_ensemble(work.folder / FORECAST, layout=work.setting.layout)
    kept: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for index, time in enumerate(ensemble.valid_times):
        try:
            truth = nature.states(np.array([time]))[0]
        except MissingInput:
            continue
        lead = f"{int((time - work.time) / np.timedelta64(60, 's'))}"
        members = ensemble.values[:, index]
        sums = member_sums(work, members, truth)
        fractions = _fractions(block, work.setting.layout, members, truth)
        kept[lead] = {"valid": time_stamp(time), "sums": sums.to_json(), "fss": fractions}
        events = {name: event_scores(sums, name) for name in sums.variables}
        shown[lead] = {name: {**flat, **_named(events.get(name, {}))} for name, flat in flat_scores(sums).items()}
    if kept:
        work.write_json("diag/forecast_scores.json", kept)
    return {"forecast_scores": shown} if shown else {}


def _named(events: dict[float, dict[str, float]]) -> dict[str, float]:
    """CSI, POD and FAR by threshold, without those that are not defined."""
    wanted = ("csi", "pod", "far")
    return {
        f"{name}_{limit:g}": scores[name]
        for limit, scores in events.items()
        for name in wanted
        if np.isfinite(scores[name])
    }


def _fractions(block: ForecastsBlock, layout: Layout, members: torch.Tensor, truth: torch.Tensor) -> dict[str, Any]:
    """Sums of the fractions skill score by variable, threshold and radius."""
    axes = layout.grid.axes
    if len(axes) != 2 or axes[0].units != "m":
        return {}
    found: dict[str, Any] = {}
    for name, limits in block.thresholds.items():
        channel = layout.channels.index(name)
        seen, known = truth[channel].numpy(), truth[channel].isfinite().numpy()
        for limit in limits:
            probability = (members[:, channel] >= limit).to(torch.float64).mean(dim=0).numpy()
            for radius in block.radii_km:
                width = 2 * round(1000.0 * radius / axes[0].spacing) + 1
                sums = fraction_sums(probability, seen >= limit, width=width, known=known)
                found[f"{name} {limit:g} {radius:g}km"] = [sums.difference, sums.reference]
    return found
