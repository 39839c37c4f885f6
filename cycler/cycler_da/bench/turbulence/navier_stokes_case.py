"""States, models and observations of the benchmark `navier_stokes` (which says what they are for)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cycler_da.bench.independent import independent_row, spread_skill_row
from cycler_da.ensemble import Ensemble
from cycler_da.errors import MissingInput
from cycler_da.forecast import ForecastModel, InterpolantForecast
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.generative.ensemble_evaluation import ensemble_scores
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import wave_blocks, wave_covariance
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import PointsSpec
from cycler_da.systems.stochastic_ns import StochasticNSSpec
from cycler_da.tables.report import Row

SEED, STD, ERROR, MEMBERS, WINDOW = 20261127, 2.28, 0.05, 24, 5
SYSTEM, SCALING = StochasticNSSpec(), Scaling((0.0,), (STD,))
WEIGHTS = Path("data/weights/stochastic_ns/quadratic_spectral")
START = np.datetime64("2020-01-01T00:00:00", "s")
METRICS = {"rmse": "RMSE", "member": "RMSE of a member", "crps": "fair CRPS", "spread_skill": "spread/skill"}

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class State:
    """A known state, forecasts of both models from it, and the true state at the end of the window."""

    index: int
    truth: torch.Tensor  # (1, y, x)
    learned: tuple[Ensemble, Ensemble]  # one step before the end, and at the end
    true: tuple[Ensemble, Ensemble]
    frames: torch.Tensor  # the known state, (1, 1, 1, y, x)


@dataclass(frozen=True)
class Models:
    """Both forecast models, and the learned transition of the whole window."""

    learned: InterpolantForecast
    true: ForecastModel
    window: Transition


class ComposedMean(torch.nn.Module):
    """The mean network applied several times: the scaled increment over a window."""

    def __init__(self, network: torch.nn.Module, n_steps: int) -> None:
        super().__init__()
        self.network, self.n_steps = network, n_steps

    def forward(self, scaled: torch.Tensor) -> torch.Tensor:
        """Increment over all steps."""
        state = scaled
        for _ in range(self.n_steps):
            state = state + self.network(state)
        return state - scaled


def make_models() -> Models:
    """Load the weights; raises MissingInput when they are not there."""
    if not WEIGHTS.is_dir():
        raise MissingInput(f"{WEIGHTS} is not in this folder; run from the repository, or train config/train first")
    layout = SYSTEM.layout()
    learned = InterpolantSpec(weights=str(WEIGHTS)).build(layout)
    true = NumericalSpec(system={"kind": "stochastic_ns"}).build(layout)
    step = learned.transition
    assert isinstance(step, Transition)
    mean = ComposedMean(step.mean_network, WINDOW)
    window = Transition(mean, step.scaling, step.residual_covariance, climatology=step.climatology)
    return Models(learned, true, replace(window, residual_covariance=wave_covariance(_window_blocks(learned, window))))


def _window_blocks(model: InterpolantForecast, window: Transition) -> torch.Tensor:
    """Covariance by waves of what the learned model's own members leave of the composed mean."""
    starts = SYSTEM.spun_up(Noise(SEED, 1), members=range(4))
    start = ensemble_of(starts.repeat(32, 1, 1, 1), START)
    end = model.forecast(start, np.array([START + WINDOW * SYSTEM.layout().step]), noise=Noise(SEED, 2))
    mean = window.mean(start.values[:4]).repeat(32, 1, 1, 1)
    return wave_blocks(SCALING.to_scaled(end.latest - mean))


def known_states(models: Models, n_states: int) -> Iterator[State]:
    """States of the climate, their truths, and both models' forecasts."""
    layout = SYSTEM.layout()
    starts = SYSTEM.spun_up(Noise(SEED), members=range(n_states))
    times = START + layout.step * np.array([WINDOW - 1, WINDOW])
    for index in range(n_states):
        known = ensemble_of(starts[index : index + 1], START)
        truth = models.true.forecast(known, times[1:], noise=Noise(SEED, 100 + index)).latest[0]
        start = ensemble_of(starts[index : index + 1].expand(MEMBERS, *starts.shape[1:]).contiguous(), START)
        both = [model.forecast(start, times, noise=Noise(SEED, 200 + index)) for model in (models.learned, models.true)]
        learned, true = ((at_time(ensemble, 0), at_time(ensemble, 1)) for ensemble in both)
        yield State(index, truth, learned, true, starts[index][None, None])


def observe(setting: str, truth: torch.Tensor, *, index: int, time: np.datetime64) -> Observations:
    """Observations of a true state; the sites of a setting are the same for all states."""
    layout = SYSTEM.layout()
    size, spacing = SYSTEM.size, layout.grid.axes[0].spacing
    kind, amount = setting.split()[:2]
    if kind == "SR":
        factor = int(amount.rstrip("x"))
        centres = factor * torch.arange(size // factor, dtype=torch.float64) + 0.5 * (factor - 1)
        places = torch.cartesian_prod(centres, centres)
    else:
        n_obs = round(float(amount) / 100.0 * size**2)
        cells = torch.from_numpy(Noise(SEED).generator(setting).permutation(size**2)[:n_obs])
        places = torch.stack([cells // size, cells % size], dim=1).to(torch.float64)
    where = Locations(places * spacing, torch.zeros(len(places), dtype=torch.int64))
    operator, error = PointsSpec().build(layout), ERROR * STD
    exact = operator(truth[None].to(torch.float64), where, layout)[0]
    r = Noise(SEED, index).shared_normal(f"{setting}.error", (len(places),), dtype=torch.float64)
    batch = ObsBatch(
        stream="ns",
        operator=operator,
        where=where,
        values=exact + error * r,
        error=torch.full((len(places),), error, dtype=torch.float64),
        times=np.full(len(places), time),
        ids=np.array([str(i) for i in range(len(places))]),
        flags=torch.zeros(len(places), dtype=torch.int32),
    )
    return Observations((batch,), layout)


def ensemble_of(states: torch.Tensor, time: np.datetime64) -> Ensemble:
    """Members `(member, 1, y, x)` at one time."""
    return Ensemble(states[:, None], np.array([time]), tuple(range(len(states))), SYSTEM.layout())


def at_time(ensemble: Ensemble, position: int) -> Ensemble:
    """The ensemble at one of its times."""
    times = ensemble.valid_times[position : position + 1] if position >= 0 else ensemble.valid_times[-1:]
    values = ensemble.values[:, position : position + 1] if position >= 0 else ensemble.values[:, -1:]
    return Ensemble(values, times, ensemble.members, ensemble.layout)


def scores_of(members: torch.Tensor, truth: torch.Tensor) -> Metrics:
    """Scores of members `(member, 1, y, x)`, in deviations of the climate."""
    x, y = SCALING.to_scaled(members), SCALING.to_scaled(truth)
    of_member = float(((x - y).to(torch.float64) ** 2).mean().sqrt())
    return {**ensemble_scores(x[:, None], y[None]), "member": of_member}


def metric_rows(case: str, method: str, scores: Sequence[Metrics]) -> list[Row]:
    """A row for each score, found independently several times."""
    found = {key: [one[key] for one in scores] for key in METRICS}
    plain = [independent_row(case, method, METRICS[key], found[key]) for key in METRICS if key != "spread_skill"]
    return [*plain, spread_skill_row(case, method, METRICS["spread_skill"], found["rmse"], found["spread_skill"])]
