"""The interpolant filter on a linear-Gaussian transition, where the Kalman filter is the answer.

Members: 1500, so that sampling errors are about 1/sqrt(1500) = 2.6 % of the posterior deviation. The same
members guided one by one, without the lag-1 coupling, are the counter-example: they hardly assimilate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.covariance import spectral_from_shells
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.transition import Transition
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec

SIZE, MEMBERS, CYCLES = 4, 1500, 20
N = SIZE * SIZE
DAMPING, NOISE_LEVEL, ERROR = 0.95, 0.02, 0.5
AXES = tuple(Axis(name, SIZE, 1.0, 0.0, "m", periodic=True) for name in ("y", "x"))
LAYOUT = Layout("toy", (Variable("a", "1", "toy variable"),), Grid(AXES), np.timedelta64(3600, "s"))


class ShiftAndDamp(torch.nn.Module):
    """Increment of x' = DAMPING * x shifted by one cell."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return DAMPING * torch.roll(x, 1, dims=-1) - x


def _transition(early: float) -> Transition:
    shells = torch.zeros(6, 1, 1, dtype=torch.float64)
    shells[:, 0, 0] = NOISE_LEVEL * torch.exp(-torch.arange(6, dtype=torch.float64) / 2)
    noise = spectral_from_shells(shells, SIZE)
    before = noise.scaled(early) if early else None
    return Transition(ShiftAndDamp(), Scaling((0.0,), (1.0,)), noise.scaled(1.0 - early), early_covariance=before)


def _matrices(transition: Transition) -> tuple[np.ndarray, np.ndarray]:
    units = torch.eye(N, dtype=torch.float64).reshape(N, 1, SIZE, SIZE)
    forward = (DAMPING * torch.roll(units, 1, dims=-1)).reshape(N, N).T
    noise = transition.residual_covariance.apply(units).reshape(N, N)
    if transition.early_covariance is not None:
        noise = noise + forward @ transition.early_covariance.apply(units).reshape(N, N) @ forward.T
    return forward.numpy(), noise.numpy()


def _observe(truth: np.ndarray, cells: np.ndarray, generator: np.random.Generator, time: np.datetime64) -> Observations:
    values = truth[cells] + ERROR * generator.standard_normal(len(cells))
    position = torch.from_numpy(np.stack([cells // SIZE, cells % SIZE], axis=1).astype(np.float64))
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=Locations(position, torch.zeros(len(cells), dtype=torch.int64)),
        values=torch.from_numpy(values),
        error=torch.full((len(cells),), ERROR, dtype=torch.float64),
        times=np.full(len(cells), time),
        ids=np.array([str(cell) for cell in cells]),
        flags=torch.zeros(len(cells), dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["noise behind the step", "half of it before the step"])
def cycled(request):
    """Filter and Kalman filter side by side: errors of mean and covariance in units of the posterior."""
    transition = _transition(request.param)
    model = InterpolantForecast(LAYOUT, transition, (0.0,), "toy")
    spec = InterpolantFilterSpec(inflation=1.0)
    scheme = spec.build(SchemeContext(LAYOUT, model))
    forward, noise_matrix = _matrices(transition)
    generator = np.random.default_rng(4)
    start = np.datetime64("2020-01-01T00:00:00", "s")
    truth, mean, cov = generator.standard_normal(N), np.zeros(N), np.eye(N)
    root = np.linalg.cholesky(noise_matrix + 1e-12 * np.eye(N))
    draws = generator.standard_normal((MEMBERS, N))
    draws -= draws.mean(axis=0)
    members = torch.from_numpy(draws).float().reshape(MEMBERS, 1, 1, SIZE, SIZE)
    coupled = alone = Ensemble(members, np.array([start]), tuple(range(MEMBERS)), LAYOUT)
    rows = []
    for k in range(1, CYCLES + 1):
        time = start + k * LAYOUT.step
        truth = forward @ truth + root @ generator.standard_normal(N)
        cells = generator.choice(N, 6, replace=False)
        observations = _observe(truth, cells, generator, time)
        mean, cov = forward @ mean, forward @ cov @ forward.T + noise_matrix
        h = np.eye(N)[cells]
        gain = cov @ h.T @ np.linalg.inv(h @ cov @ h.T + ERROR**2 * np.eye(6))
        mean, cov = mean + gain @ (observations.values.numpy() - h @ mean), cov - gain @ h @ cov
        noise = Noise.of_cycle(1, time)
        background = model.forecast(coupled, np.array([time]), noise=noise)
        coupled = scheme.analyse(Prior(background, coupled, model), observations, noise=noise, carry={}).ensemble
        alone = Ensemble(
            scheme.sample(model, alone.values, observations, _member_noise(noise))[:, None],
            np.array([time]),
            alone.members,
            LAYOUT,
        )
        rows.append((_errors(coupled, mean, cov), _errors(alone, mean, cov)))
    return np.array(rows)


def _member_noise(noise: Noise):
    from cycler_da.generative.localisation import MemberNoise

    return MemberNoise(noise, range(MEMBERS), "alone")


def _errors(ensemble: Ensemble, mean: np.ndarray, cov: np.ndarray) -> tuple[float, float]:
    x = ensemble.latest.reshape(MEMBERS, N).double().numpy()
    distance = np.sqrt(np.mean((x.mean(axis=0) - mean) ** 2 / np.diag(cov)))
    return distance, np.linalg.norm(np.cov(x.T) - cov) / np.linalg.norm(cov)


def test_coupled_and_guided_members_are_the_kalman_filter_over_many_cycles(cycled):
    distance, covariance = cycled[:, 0, 0], cycled[:, 0, 1]
    # Sampling errors of a cycled ensemble: a few times 1/sqrt(1500) for the mean, sqrt(16/1500) for the covariance.
    assert distance.max() < 0.15
    assert covariance.max() < 0.25


def test_members_guided_one_by_one_stay_far_from_the_kalman_filter(cycled):
    distance, covariance = cycled[-1, 1]
    assert distance > 5 * cycled[-1, 0, 0]
    assert covariance > 1.0


@pytest.mark.parametrize("coupling", ["transform", "square_root", "perturbed_observations"])
@pytest.mark.parametrize(("early", "n_steps"), [(0.0, 1), (0.5, 2)])
def test_observations_that_say_nothing_leave_the_background(coupling, early, n_steps):
    model, noise = InterpolantForecast(LAYOUT, _transition(early), (0.0,), "toy"), Noise(3, 7)
    values = torch.randn(6, 1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    begin, times = np.datetime64("2020-01-01T00:00:00", "s"), LAYOUT.step * np.arange(n_steps + 1)
    start = Ensemble(values, begin + times[:1], tuple(range(6)), LAYOUT)
    background = model.forecast(start, begin + times[-1:], noise=noise)
    told = _observe(np.zeros(N), np.array([1, 6]), np.random.default_rng(1), background.valid_time)
    nothing = replace(told, batches=tuple(replace(batch, error=1e9 * batch.error) for batch in told.batches))
    spec = InterpolantFilterSpec(coupling=coupling, inflation=1.0)
    analysis = spec.build(SchemeContext(LAYOUT, model)).analyse(
        Prior(background, start, model), nothing, noise=noise, carry={}
    )
    torch.testing.assert_close(analysis.ensemble.latest, background.latest, rtol=0, atol=1e-6)
