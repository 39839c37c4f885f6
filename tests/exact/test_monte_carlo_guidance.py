"""Every step of FlowDAS's guidance by hand: centre, weights, pull, and what is done where weights collapse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from cycler_da.generative.analytic import GaussianEndpoint
from cycler_da.generative.covariance import FullCovariance
from cycler_da.generative.drift_sampler import EndpointDrift, GuidePoint
from cycler_da.generative.interpolant import Interpolant
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.monte_carlo_guidance import MonteCarloGuidance
from cycler_da.noise import Noise

ONE = torch.ones(1, dtype=torch.float64)
ZETA, J, MEMBERS = 0.03, 4, 3
END = 1.0 - 1e-3
AT = torch.tensor([0.7, 1.2, 1.9], dtype=torch.float64)


@dataclass(frozen=True)
class Curve:
    """y = x + x^2 / 4 + e of one number."""

    variance: float
    y: float = 3.0

    @property
    def values(self):
        return self.y * ONE

    @property
    def error_variance(self):
        return self.variance * ONE

    def __call__(self, x):
        return x.flatten(1) + 0.25 * x.flatten(1) ** 2


DRIFT = EndpointDrift(
    GaussianEndpoint((2.0 * ONE).expand(MEMBERS, 1, 1), FullCovariance(0.5 * torch.eye(1, dtype=torch.float64))),
    Interpolant(),
    torch.ones(MEMBERS, 1, 1, dtype=torch.float64),
)
NOISE = MemberNoise(Noise(3), range(MEMBERS), "test")


def velocity(s: float, x: torch.Tensor) -> torch.Tensor:
    """b of numbers."""
    return DRIFT(s, x.view(-1, 1, 1)).flatten()


def spread(s: float) -> float:
    """The published deviation of endpoints."""
    return 2.0 / 3.0 - math.sqrt(s) + s**1.5 / 3.0


def centre(s: float, x: torch.Tensor, order: int, guess: torch.Tensor) -> torch.Tensor:
    first = x + (1.0 - s) * velocity(s, x)
    if order == 1:
        return first
    return x + 0.5 * (1.0 - s) * (velocity(s, x) + velocity(END, first + spread(s) * guess))


def h(x: torch.Tensor) -> torch.Tensor:
    return x + 0.25 * x**2


def softmax_weights(s: float, order: int, draws: torch.Tensor, variance: float) -> torch.Tensor:
    ends = centre(s, AT, order, draws[:, -1])[:, None] + spread(s) * draws[:, :J]
    misfit = 0.5 * (3.0 - h(ends)) ** 2 / variance
    likelihood = torch.exp(misfit.amin(dim=1, keepdim=True) - misfit)
    return likelihood / likelihood.sum(dim=1, keepdim=True)


def moved(guide: MonteCarloGuidance, s: float, draws: torch.Tensor) -> torch.Tensor:
    """Displacement of the three members."""
    leaf = AT.view(-1, 1, 1).clone().requires_grad_()
    return guide(GuidePoint(DRIFT, s, 0.01, leaf, DRIFT(s, leaf), draws[:, :, None, None], 7)).flatten()


def slope(function, eps: float = 1e-5) -> torch.Tensor:
    """Derivative of a function of each member's number, by differences."""
    return (function(AT + eps) - function(AT - eps)) / (2.0 * eps)


def some_draws() -> torch.Tensor:
    return torch.randn(MEMBERS, J + 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("s", "variance"), [(0.2, 0.8), (0.6, 0.05)])
def test_members_move_down_the_weighted_misfit_with_weights_held(order, s, variance):
    draws = some_draws()
    guide = MonteCarloGuidance(Curve(variance), NOISE, ZETA, n_endpoints=J, order=order)
    weights = softmax_weights(s, order, draws, variance)
    assert 0.3 < float(weights.amax(dim=1).max()) < 0.95  # several endpoints count

    def misfit(x):
        ends = centre(s, x, order, draws[:, -1])[:, None] + spread(s) * draws[:, :J]
        return (weights * (3.0 - h(ends)) ** 2).sum(dim=1)

    torch.testing.assert_close(moved(guide, s, draws), -ZETA * slope(misfit), rtol=1e-7, atol=1e-10)


def test_the_released_objective_is_the_length_of_the_mean_misfit():
    s, draws = 0.4, some_draws()
    guide = MonteCarloGuidance(Curve(0.8), NOISE, ZETA, n_endpoints=J, order=2, objective="norm")

    def misfit(x):
        ends = centre(s, x, 2, draws[:, -1])[:, None] + spread(s) * draws[:, :J]
        return (3.0 - h(ends)).mean(dim=1).abs()

    torch.testing.assert_close(moved(guide, s, draws), -ZETA * slope(misfit), rtol=1e-7, atol=1e-10)


def test_where_weights_collapse_new_endpoints_are_drawn_and_the_mean_misfit_is_taken_if_they_collapse_again():
    s, variance, draws = 0.95, 1e-7, some_draws()
    assert float(softmax_weights(s, 1, draws, variance).amax(dim=1).min()) > 0.99
    again = NOISE.normal("redraw", (J, 1, 1), step=7).flatten(1)
    second = softmax_weights(s, 1, again, variance).amax(dim=1) > 0.99
    assert bool(second.all())

    def of_mean(x):
        ends = centre(s, x, 1, draws[:, -1])[:, None] + spread(s) * again
        return (3.0 - h(ends)).mean(dim=1) ** 2

    guide = MonteCarloGuidance(Curve(variance), NOISE, ZETA, n_endpoints=J, order=1, fallback_from=0.9)
    torch.testing.assert_close(moved(guide, s, draws), -ZETA * slope(of_mean), rtol=1e-6, atol=1e-9)


def test_before_the_last_steps_collapsed_weights_are_kept():
    s, variance, draws = 0.85, 1e-7, some_draws()
    weights = softmax_weights(s, 1, draws, variance)

    def misfit(x):
        ends = centre(s, x, 1, draws[:, -1])[:, None] + spread(s) * draws[:, :J]
        return (weights * (3.0 - h(ends)) ** 2).sum(dim=1)

    guide = MonteCarloGuidance(Curve(variance), NOISE, ZETA, n_endpoints=J, order=1, fallback_from=0.9)
    torch.testing.assert_close(moved(guide, s, draws), -ZETA * slope(misfit), rtol=1e-6, atol=1e-9)
