"""What regression on the observed value leaves of curved observations."""

from __future__ import annotations

import math

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.ensemble.statistical_linearisation import linear_part
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec


def members(n: int, n_obs: int = 1) -> torch.Tensor:
    return torch.randn(n, n_obs, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_linear_observations_stay_as_they_are_and_leave_nothing():
    s = members(7, 3)
    hx = 1.5 - 0.3 * s
    signal, rest = linear_part(hx, s)
    assert torch.allclose(signal, hx, rtol=0, atol=1e-14)
    assert float(rest.max()) < 1e-28


def test_signal_and_rest_share_the_variance_of_h_as_their_moments_say():
    n = 200_000
    s = members(n)
    # Of x ~ N(0, 1): E[x sin(3 x)] = 3 exp(-9/2), var sin(3 x) = (1 - exp(-18)) / 2.
    slope, variance = 3 * math.exp(-4.5), (1 - math.exp(-18)) / 2
    signal, rest = linear_part(torch.sin(3 * s), s)
    assert float(signal.std()) == pytest.approx(slope, abs=4 / math.sqrt(n))
    # The fourth moment of the sine gives the estimate of its variance a deviation of 0.35 / sqrt(n).
    assert float(rest) == pytest.approx(variance - slope**2, abs=2 / math.sqrt(n))


def test_the_rest_is_an_estimate_without_bias():
    s, noise = members(5, 20_000), torch.randn(5, 20_000, generator=torch.Generator().manual_seed(3)).double()
    _, rest = linear_part(2.0 * s + noise, s)
    # Chi-square with three degrees of freedom: a deviation of sqrt(2 / 3) each.
    assert float(rest.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 3 / 20_000))


def test_members_that_agree_before_the_curve_have_no_signal():
    signal, rest = linear_part(torch.full((4, 1), 0.25, dtype=torch.float64), torch.ones(4, 1, dtype=torch.float64))
    assert torch.equal(signal, torch.full((4, 1), 0.25, dtype=torch.float64))
    assert float(rest) == 0.0


def test_an_unknown_linearisation_is_refused_with_those_that_exist():
    for spec in (LetkfSpec, InterpolantFilterSpec):
        with pytest.raises(ConfigError, match=r"linearisation is 'tangent'.*members, regression"):
            spec(linearisation="tangent")
    with pytest.raises(ConfigError, match="coupling transform"):
        InterpolantFilterSpec(linearisation="regression", coupling="perturbed_observations")


@pytest.mark.parametrize("spec", [LetkfSpec, InterpolantFilterSpec])
def test_regression_asks_for_a_third_member(spec, make_layout):
    context = SchemeContext(make_layout((8,)))
    assert spec().build(context).needs.n_members == 2
    assert spec(linearisation="regression").build(context).needs.n_members == 3
