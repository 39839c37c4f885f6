"""Networks, known states and observations of the benchmark `guidance_cost`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cycler_da.bench.passes import Passes
from cycler_da.field_training import SimulatedData, simulate
from cycler_da.generative.denoiser import train_denoiser
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import TrainSettings, train
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import wave_blocks, wave_covariance
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec

SEED, SIZE, STD, ERROR, FRACTION = 20261126, 32, 2.28, 0.05, 0.05
SCALING = Scaling((0.0,), (STD,))
SYSTEM = {"kind": "stochastic_ns", "size": SIZE, "time_step": 0.025, "step": "30min"}
MEAN = NetworkSpec("quadratic_spectral", {"size": SIZE, "channels": 1, "products": 6, "stages": 4})
DENOISER = NetworkSpec("fno", {"extra": 1, "width": 8, "modes": 8, "layers": 2, "has_level": True})


@dataclass(frozen=True)
class Case:
    """A known state, the true next one, and its observations."""

    index: int
    start: torch.Tensor
    truth: torch.Tensor
    observations: Observations


def make_transition(n_states: int, *, quick: bool) -> tuple[Transition, Passes, torch.Tensor, torch.Tensor]:
    """Train on simulated pairs; returns `n_states` held-out known states and their true next ones as well."""
    size = {"trajectories": 8, "steps": 40} if quick else {"trajectories": 10, "steps": 60}
    held_out = 2 * n_states  # half of them for the covariance
    data = SimulatedData(
        system=SYSTEM, seed=SEED, held_out=held_out, perturbed_fraction=0.0, covariance="waves", **size
    )
    training, calibration, trajectories = simulate(data, SCALING)
    steps = (60, 60) if quick else (300, 300)
    fitted = train(training, calibration, SCALING, TrainSettings(MEAN, steps[0], seed=1))
    covariance = wave_covariance(wave_blocks(fitted.residuals))
    frames = SCALING.to_scaled(training.frames[:, 0])
    with torch.no_grad():
        increments = torch.cat([fitted.network(part) for part in frames.split(64)])
    residuals = SCALING.to_scaled(training.targets) - frames - increments
    settings = TrainSettings(DENOISER, steps[1], batch=16, learning_rate=3e-3, seed=2)
    denoiser = train_denoiser(frames, covariance.whiten(residuals), settings)
    passes = Passes()
    passes.watch(fitted.network)
    passes.watch(denoiser)
    for module in (fitted.network, denoiser):
        module.requires_grad_(False)
    climatology = wave_covariance(wave_blocks(frames))
    transition = Transition(fitted.network, SCALING, covariance, climatology=climatology, denoiser=denoiser)
    middle = trajectories.shape[1] // 2
    return transition, passes, trajectories[:, middle], trajectories[:, middle + 1]


def make_case(index: int, start: torch.Tensor, truth: torch.Tensor) -> Case:
    """Observe random cells of the true next state."""
    layout, noise = SimulatedData(system=SYSTEM, seed=SEED).system_spec().layout(), Noise(SEED, index)
    n_obs = round(FRACTION * SIZE**2)
    cells = torch.from_numpy(noise.generator("cells").permutation(SIZE**2)[:n_obs])
    index_yx = torch.stack([cells // SIZE, cells % SIZE], dim=1).to(torch.float64)
    where = Locations(index_yx * layout.grid.axes[0].spacing, torch.zeros(n_obs, dtype=torch.int64))
    error = ERROR * STD
    values = truth.flatten()[cells].to(torch.float64)
    batch = ObsBatch(
        stream="cells",
        operator=CellSpec().build(layout),
        where=where,
        values=values + error * noise.shared_normal("error", (n_obs,), dtype=torch.float64),
        error=torch.full((n_obs,), error, dtype=torch.float64),
        times=np.full(n_obs, np.datetime64("2020-01-01T00:30:00", "s")),
        ids=np.array([str(int(cell)) for cell in cells]),
        flags=torch.zeros(n_obs, dtype=torch.int32),
    )
    return Case(index, start, truth, Observations((batch,), layout))
