"""The single-observation test: what each scheme of an experiment makes of one observation, in every variable.

    increment of the mean = K d,   d = y - mean(H(x_b)) = `departure` spreads of the background there
All chains see the same background ensemble and the same observation, so their pictures differ by K alone: by the shape
of B. The background is a forecast from the experiment's start over `spin_up` cycles, or a chain's newest published one.
A scheme that draws its members anew (interpolant_filter on radar) shows its sampling noise beside K.
Source: single observations show structure functions, Thepaut et al. (1996), Q. J. R. Meteorol. Soc. 122.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.config import ExperimentConfig
from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import ConfigError, MissingProduct
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.plots.increments import Increment, OneObservation, draw_increments
from cycler_da.preparation import open_or_make_nature
from cycler_da.products.dataset import read_ensemble
from cycler_da.products.store import Store
from cycler_da.schemes.base import Prior
from cycler_da.setting import Setting, build_setting
from cycler_da.start import StartRequest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SingleObservation:
    """Which observation; `at` is a share of each axis, `error` and `departure` count background spreads there."""

    output: Path
    variable: str | None = None  # None: the first
    at: tuple[float, float] = (0.5, 0.5)  # y, x
    departure: float = 1.0
    error: float = 0.5
    spin_up: int = 5  # cycles of forecast from the start
    chain: str | None = None  # take the newest published background of this chain instead

    def __post_init__(self) -> None:
        if not all(0.0 <= share < 1.0 for share in self.at):
            raise ConfigError(f"single-observation: at is {self.at}; expected shares of the axes, from 0 to below 1")
        if not self.error > 0 or not self.departure:
            raise ConfigError(
                f"single-observation: error is {self.error} and departure {self.departure}; expected an error above 0 "
                "and a departure that is not 0, in background spreads"
            )
        if self.spin_up < 1:
            raise ConfigError(f"single-observation: spin_up is {self.spin_up}; expected 1 cycle or more")


def compare_increments(
    config: ExperimentConfig, job: SingleObservation, *, say: Callable[[str], None] = lambda text: None
) -> list[str]:
    """Analyse one observation with every chain's scheme, draw the increments; returns a line for each scheme."""
    setting = build_setting(config)
    layout = setting.control.layout
    if len(layout.grid.axes) != 2:
        raise ConfigError(f"single-observation: {layout.system} has {len(layout.grid.axes)} axes; expected 2")
    prior = _prior(setting, job, say)
    observations, shown = _observation(layout, prior.background, job)
    noise = Noise.of_cycle(setting.config.seed, prior.background.valid_time)
    before = prior.background.latest.to(torch.float64).mean(dim=0)
    increments = []
    for chain in setting.chains:
        with torch.inference_mode():
            own = Prior(prior.background, prior.previous, chain.model)
            analysis = chain.scheme.analyse(own, observations, noise=noise, carry={})
        after = analysis.ensemble.latest.to(torch.float64).mean(dim=0)
        increments.append(Increment(chain.name, chain.scheme_kind, (after - before).numpy()))
    draw_increments(increments, layout, shown, job.output)
    return [_line(increment, layout, shown) for increment in increments] + [str(job.output)]


def _prior(setting: Setting, job: SingleObservation, say: Callable[[str], None]) -> Prior:
    """Background with what it started from, in the control variable."""
    if job.chain is not None:
        return _published(setting, job.chain)
    chain, first = setting.chains[0], setting.valid_times[0]
    every = setting.valid_times[1] - first
    request = StartRequest(
        time=first,
        members=chain.members,
        history=chain.model.history,
        control=setting.control,
        noise=Noise.of_cycle(setting.config.seed, first),
        nature=open_or_make_nature(setting, say),
        climatology=setting.climatology,
        model=chain.model,
    )
    ensemble, earlier = setting.start.ensemble(request), None
    for n in range(1, job.spin_up + 1):
        earlier = ensemble
        noise = Noise.of_cycle(setting.config.seed, first + n * every)
        with torch.inference_mode():
            later = chain.model.forecast(ensemble, np.array([first + n * every]), noise=noise)
        kept = append_times(ensemble, later) if chain.model.history > 1 else later
        n_kept = chain.model.history
        ensemble = Ensemble(kept.values[:, -n_kept:], kept.valid_times[-n_kept:], kept.members, kept.layout)
    return Prior(ensemble.at_latest(), earlier)


def _published(setting: Setting, name: str) -> Prior:
    chain = setting.chain(name)
    store = Store(setting.root, setting.config.name, name)
    latest = store.latest()
    before = None if latest is None else setting.previous_time(latest)
    if latest is None or before is None or chain.model.history > 1:
        raise MissingProduct(
            f"single-observation: chain {name} has no published background that can be used here; run it first, or "
            "leave --chain out"
        )
    background, previous = (
        setting.control.to_control(read_ensemble(store.product(time, file), layout=setting.layout))
        for time, file in ((latest, "background.nc"), (before, "analysis.nc"))
    )
    return Prior(background, previous)


def _observation(layout: Layout, background: Ensemble, job: SingleObservation) -> tuple[Observations, OneObservation]:
    """One observation in the middle of a cell."""
    name = job.variable or layout.channels[0]
    if name not in layout.channels:
        raise ConfigError(f"single-observation: unknown variable {name!r}; valid: {', '.join(layout.channels)}")
    channel = layout.channels.index(name)
    cell = tuple(int(share * axis.size) for share, axis in zip(job.at, layout.grid.axes, strict=True))
    members: Tensor = background.latest[:, channel, cell[0], cell[1]].to(torch.float64)
    spread = float(members.std())
    if not spread > 0:
        raise ConfigError(
            f"single-observation: all members have the same {name} in cell {cell}; give another place (--at), or a "
            "longer --spin-up"
        )
    position = [[axis.centres()[index] for axis, index in zip(layout.grid.axes, cell, strict=True)]]
    batch = ObsBatch(
        stream="single",
        operator=CellSpec().build(layout),
        where=Locations(torch.tensor(position, dtype=torch.float64), torch.tensor([channel])),
        values=members.mean()[None] + job.departure * spread,
        error=torch.tensor([job.error * spread], dtype=torch.float64),
        times=background.valid_times[-1:],
        ids=np.array(["single"]),
        flags=torch.zeros(1, dtype=torch.int32),
    )
    shown = OneObservation(name, cell, job.departure * spread, job.error * spread, background.valid_time)
    return Observations((batch,), layout), shown


def _line(increment: Increment, layout: Layout, shown: OneObservation) -> str:
    """What was found, in numbers: the increment in the observed cell, and the largest of every variable."""
    channel = layout.channels.index(shown.variable)
    here = increment.values[(channel, *shown.cell)]
    largest = ", ".join(
        f"{name} {values.flat[np.abs(values).argmax()]:.3g}"
        for name, values in zip(layout.channels, increment.values, strict=True)
    )
    return f"{increment.chain}: {here / shown.departure:.3f} of the departure in the cell; largest increments {largest}"
