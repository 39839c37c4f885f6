"""What MASF costs on Kolmogorov flow: forecasts, training on the climate, and when that has paid off.

Processor seconds of training on the climate, measured where the benchmark runs: some steps of the released config,
times the number of its steps, and a forecast of the members, times the trajectories and durations of its climate. The
seconds of the cards are those of a clock, on a machine that may have had other work.

    paid off after n analyses:  n (seconds of one from scratch - seconds of one with the network) = seconds of training
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cycler_da.bench.turbulence.kolmogorov_masf_case import GAP, MEMBERS, START, Case, ensemble_at
from cycler_da.forecast.base import ForecastModel
from cycler_da.generative.bridge_denoiser import NetworkDenoiser
from cycler_da.generative.bridge_training import MaskedStates, train_bridge
from cycler_da.generative.covariance import blocks_from_residuals
from cycler_da.generative.weights import read_card
from cycler_da.masked_training import MaskedClimate, stride_interpolation
from cycler_da.noise import Noise
from cycler_da.systems.kolmogorov import SPIN_UP
from cycler_da.tables.report import Row
from cycler_da.training_run import read_train_config

#: Training steps that are measured.
TIMED_STEPS = 10
CONFIG = Path("config/train/kolmogorov_masf.yaml")
WAYS, SAMPLERS = ("fine-tuned", "from scratch"), ("bridge", "as published")
SCRATCH = WAYS[1]


def forecast_seconds(case: Case, model: ForecastModel) -> float:
    """Processor seconds of the forecasts of all members from one analysis to the next."""
    start = ensemble_at(case.members[:, None], 0, case.layout)
    times = START + case.layout.step * np.arange(1, GAP + 1)
    began = time.process_time()
    model.forecast(start, times, noise=Noise(case.seed))
    return time.process_time() - began


def training_seconds(case: Case, forecast: float) -> float:
    """Processor seconds of the climate and the training of the released network, from those of a forecast."""
    config = read_train_config(CONFIG)
    data, settings = config.data, config.settings("cpu")
    assert isinstance(data, MaskedClimate)
    length = SPIN_UP + data.states * data.spacing * case.system.count()[1]
    climate = forecast * (data.trajectories + data.held_out) / MEMBERS * length / (GAP * case.system.count()[1])
    states = torch.cat([case.truth, case.members])
    masks = tuple(stride_interpolation(blocks_from_residuals(states), n, data.error) for n in data.strides)
    seen = MaskedStates(states, masks)
    train_bridge(NetworkDenoiser, seen, seen, replace(settings, steps=1))  # what is loaded with the first optimiser
    began = time.process_time()
    train_bridge(NetworkDenoiser, seen, seen, replace(settings, steps=TIMED_STEPS))
    return climate + (time.process_time() - began) * settings.steps / TIMED_STEPS


def paid_off_rows(label: str, seconds: Mapping[str, float], training: float) -> Iterator[Row]:
    """Seconds of an analysis by those of the amortised one, and analyses until the training has paid off.

    `seconds` by method; none of the second kind where from scratch is not slower.
    """
    for sampler in SAMPLERS:
        amortised = f"MASF, amortised, {sampler}"
        scratch = seconds[f"MASF, {SCRATCH}, {sampler}"]
        for way in WAYS:
            name = f"MASF, {way}, {sampler}"
            yield Row(label, name, "seconds by amortised", seconds[name] / seconds[amortised])
        for name in (amortised, f"MASF, {WAYS[0]}, {sampler}"):
            if scratch > seconds[name]:
                yield Row(label, name, "training paid off after", training / (scratch - seconds[name]))


def card_rows(folders: Mapping[str, str]) -> Sequence[Row]:
    """Seconds of the trainings on the climate that made released weights, by the clock."""
    spent = {name: float(read_card(Path(folder)).training["seconds"]) for name, folder in folders.items()}
    return [Row("all", f"training on the climate, {name} (wall clock)", "seconds", one) for name, one in spent.items()]
