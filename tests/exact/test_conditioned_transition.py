"""A transition from starts with errors, on a linear-Gaussian ring where its law is that of a joint Gaussian.

x1 = A x0 + q,  x0 ~ N(0, B),  x0~ = x0 + l S e:   p(x1 | x0~) from the covariance of (x1, x0~)
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.conditioned_training import CONDITIONED
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.dense_training import DenseFit, ScaledPairs
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.networks.base import ConditionedNetwork
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import TrainSettings
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec

N, ERROR = 6, 0.3
STD = 2.0
LEVELS = (0.0, 0.1, 0.3, 0.6)
TIME = np.datetime64("2020-01-01T00:00:00", "s")
STEP = np.timedelta64(3600, "s")
LAYOUT = Layout("toy", (Variable("a", "1", "toy"),), Grid((Axis("x", N, 1.0, 0.0, "m", periodic=True),)), STEP)

_EYE = torch.eye(N, dtype=torch.float64)
FORWARD = 0.7 * torch.roll(_EYE, 1, dims=0) + 0.2 * torch.roll(_EYE, -1, dims=0)
NOISE = 0.01 * _EYE
CLIMATE = 0.6 * _EYE + 0.2 * (torch.roll(_EYE, 1, dims=0) + torch.roll(_EYE, -1, dims=0))  # scaled
FLAT = 1e8 * _EYE


def conditioned_law(level: float, climate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix of the mean and covariance of x1 given x0~, scaled, by conditioning the joint Gaussian."""
    joint, seen = FORWARD @ climate, climate + level**2 * _EYE
    gain = torch.linalg.solve(seen, joint.T).T
    return gain, FORWARD @ climate @ FORWARD.T + NOISE - gain @ joint.T


class ExactNetwork(ConditionedNetwork):
    """The conditional mean, and roots of the conditional covariance at the trained levels."""

    def __init__(self, climate: torch.Tensor, levels: tuple[float, ...] = LEVELS) -> None:
        super().__init__(levels)
        self.climate = climate
        self.mean, self.root = torch.nn.Identity(), torch.nn.Identity()
        self.register_buffer("increment_std", torch.ones(N))
        roots = [torch.linalg.cholesky(conditioned_law(level, climate)[1]) for level in levels]
        self.register_buffer("base_root", torch.stack(roots))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = x[:, 0].to(torch.float64)
        gains = torch.stack([conditioned_law(float(level), self.climate)[0] for level in x[:, 1, 0]])
        return (torch.einsum("bij,bj->bi", gains, states) - states)[:, None].float()

    def whitener(self, x: torch.Tensor) -> torch.Tensor:
        return torch.eye(N).expand(len(x), -1, -1)

    def covariance_root(self, x: torch.Tensor) -> torch.Tensor:
        return self.roots_at(x[:, 1, 0])


def exact(climate: torch.Tensor = CLIMATE) -> ConditionedTransition:
    return ConditionedTransition(ExactNetwork(climate), Scaling((0.0,), (STD,)))


def states(n: int, *, std: float = 0.5, seed: int = 0) -> torch.Tensor:
    return std * torch.randn(n, 1, N, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("level", LEVELS)
def test_the_law_at_a_trained_level_is_that_of_the_joint_gaussian(level):
    x = states(5)
    prediction = exact().at_level(level).predict(x[:, None])
    gain, covariance = conditioned_law(level, CLIMATE)
    # The network works in single precision.
    torch.testing.assert_close(prediction.mean[:, 0], x[:, 0] @ gain.T, rtol=0, atol=1e-6)
    torch.testing.assert_close(prediction.covariance[2], STD**2 * covariance, rtol=0, atol=1e-7)


@pytest.mark.parametrize("level", [0.02, 0.2, 0.5])
def test_between_levels_the_covariance_is_exact_where_the_climate_says_nothing(level):
    """There it is Q + l^2 A A^T, which is linear in l^2."""
    found = exact(FLAT).at_level(level).predict(states(2)[:, None]).covariance[1]
    torch.testing.assert_close(found, STD**2 * (NOISE + level**2 * FORWARD @ FORWARD.T), rtol=0, atol=1e-6)


def test_a_forecast_is_the_clean_transition():
    x = states(5)
    prediction = exact().predict(x[:, None])
    torch.testing.assert_close(prediction.mean[:, 0], x[:, 0] @ FORWARD.T, rtol=0, atol=1e-6)
    torch.testing.assert_close(prediction.covariance[0], STD**2 * NOISE, rtol=0, atol=1e-7)


def test_a_level_beyond_the_trained_ones_is_the_largest():
    x = states(3)[:, None]
    assert torch.equal(exact().at_level(5.0).predict(x).mean, exact().at_level(LEVELS[-1]).predict(x).mean)


def test_training_finds_the_law_of_every_level():
    n, generator = 40_000, torch.Generator().manual_seed(3)
    z = torch.randn(3, n, N, dtype=torch.float64, generator=generator)
    start = z[0] @ torch.linalg.cholesky(CLIMATE).T
    end = start @ FORWARD.T + 0.1 * z[1]
    levels = torch.tensor(LEVELS)[torch.randint(0, len(LEVELS), (n,), generator=generator)]
    seen = start + levels[:, None].double() * z[2]
    pairs = ScaledPairs(seen[:, None].float(), end[:, None].float(), levels)
    arguments = {"size": N, "products": 1, "stages": 1, "width": 5, "correction_width": 16, "levels": list(LEVELS)}
    settings = TrainSettings(NetworkSpec("conditioned_ring", arguments), steps=600, batch=128, learning_rate=1e-2)
    network, _ = DenseFit(pairs, pairs, settings, recipe=CONDITIONED).run()
    transition = ConditionedTransition(network, Scaling((0.0,), (1.0,)))
    x = states(400, std=0.7, seed=8)
    for level in LEVELS:
        gain, covariance = conditioned_law(level, CLIMATE)
        prediction = transition.at_level(level).predict(x[:, None])
        off = (prediction.mean[:, 0] - x[:, 0] @ gain.T).square().mean().sqrt()
        # Of the deviation of what cannot be known; a mean that ignores the level is off by half of that at 0.6.
        assert off < 0.15 * covariance.diagonal().mean().sqrt(), level
        variance = prediction.covariance.diagonal(dim1=1, dim2=2).mean()
        assert float(variance / covariance.diagonal().mean()) == pytest.approx(1.0, abs=0.1), level


def observations(values: torch.Tensor) -> Observations:
    """Of every second cell, one step after the start."""
    cells = torch.arange(0, N, 2)
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=Locations(cells[:, None].double(), torch.zeros_like(cells)),
        values=values,
        error=torch.full((len(cells),), ERROR, dtype=torch.float64),
        times=np.full(len(cells), TIME + STEP),
        ids=np.array([str(int(cell)) for cell in cells]),
        flags=torch.zeros(len(cells), dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


VALUES = torch.tensor([0.9, -0.4, 0.2], dtype=torch.float64)


def analysed(x: torch.Tensor, transition: ConditionedTransition, level: float | str | None):
    """Members, guided one by one, and what the scheme reports."""
    model, ids = InterpolantForecast(LAYOUT, transition, (0.0,), "toy"), tuple(range(len(x)))
    spec = InterpolantFilterSpec(coupling="none", conditioning_level=level)
    scheme, noise = spec.build(SchemeContext(LAYOUT, model)), Noise(5)
    start = Ensemble(x[:, None], np.array([TIME]), ids, LAYOUT)
    background = model.forecast(start, np.array([TIME + STEP]), noise=noise)
    analysis = scheme.analyse(Prior(background, start, model), observations(VALUES), noise=noise, carry={})
    return analysis.ensemble.latest[:, 0], analysis.diagnostics


def kalman(prior: torch.Tensor, gain_of: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain of a prior covariance, and I - K H."""
    h = _EYE[::2]
    gain = gain_of @ h.T @ torch.linalg.inv(h @ prior @ h.T + ERROR**2 * torch.eye(3, dtype=torch.float64))
    return gain, _EYE - gain @ h


@pytest.mark.parametrize("level", [0.0, 0.3, 0.6])
def test_guidance_alone_is_the_kalman_filter_from_one_state_with_an_error_of_known_size(level):
    """The self-consistency that conditioning is for: nothing couples members, and the posterior is exact."""
    n, one = 6000, states(1, seed=4)
    found, report = analysed(one.expand(n, -1, -1).clone(), exact(), level)
    mean_of, prior = conditioned_law(level, CLIMATE)
    gain, left = kalman(STD**2 * prior, STD**2 * prior)
    mean = mean_of @ one[0, 0]
    expected = mean + gain @ (VALUES - mean[::2])
    deviation = (left @ prior * STD**2).diagonal().sqrt()
    # Sampling errors are 1 / sqrt(6000) = 0.013 of a deviation, and twice that with 95 %.
    assert float(((found.mean(dim=0) - expected) / deviation).abs().max()) < 0.05
    limit = 0.06 * float(deviation.max()) ** 2
    torch.testing.assert_close(torch.cov(found.T), left @ prior * STD**2, rtol=0, atol=limit)
    assert report["conditioning_level"] == level


@pytest.mark.parametrize("level", ["spread", None])
def test_the_level_is_the_spread_of_the_members_unless_a_number_is_given(level):
    x = states(50, std=0.4, seed=9)
    _, report = analysed(x, exact(), level)
    expected = float((x[:, 0].var(dim=0).mean()).sqrt()) / STD
    assert report["conditioning_level"] == pytest.approx(expected, rel=1e-12)


def test_a_spread_beyond_the_trained_levels_is_told_as_the_largest():
    _, report = analysed(states(20, std=3.0), exact(), None)
    assert report["conditioning_level"] == LEVELS[-1]


def test_a_number_beyond_the_trained_levels_is_refused():
    with pytest.raises(ConfigError, match=r"conditioning_level is 0\.7; the weights were trained up to 0\.6"):
        analysed(states(3), exact(), 0.7)


def test_a_coupling_takes_the_clean_transition():
    x, seen = states(40, std=0.4, seed=9), []
    for transition in (exact(), exact().at_level(0.0)):
        model = InterpolantForecast(LAYOUT, transition, (0.0,), "toy")
        scheme = InterpolantFilterSpec(inflation=1.0).build(SchemeContext(LAYOUT, model))
        start = Ensemble(x[:, None], np.array([TIME]), tuple(range(40)), LAYOUT)
        background = model.forecast(start, np.array([TIME + STEP]), noise=Noise(5))
        prior = Prior(background, start, model)
        seen.append(scheme.analyse(prior, observations(VALUES), noise=Noise(5), carry={}))
    assert torch.equal(seen[0].ensemble.values, seen[1].ensemble.values)
    assert "conditioning_level" not in seen[0].diagnostics


def test_members_that_differ_by_the_error_they_are_told_are_too_wide():
    """Covariance (I - K H) V + (I - K H) V (I - K H)^T: the Kalman filter's, and what differing members add."""
    level, n = 0.2, 8_000
    x = states(n, std=level * STD, seed=2)
    x = x - x.mean(dim=0)
    found, _ = analysed(x, exact(FLAT), level)
    prior = STD**2 * (level**2 * FORWARD @ FORWARD.T + NOISE)
    _, left = kalman(prior, prior)
    moved = STD**2 * level**2 * FORWARD @ FORWARD.T
    expected = left @ prior + left @ moved @ left.T
    # Entries of a covariance of 8000 draws: 3 % with 95 %.
    torch.testing.assert_close(torch.cov(found.T), expected, rtol=0, atol=0.05 * float(expected.diagonal().max()))
    assert float(torch.cov(found.T).trace() / (left @ prior).trace()) > 1.3
