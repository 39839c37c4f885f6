"""Widening of an ensemble that lost its track: known factors, and a filter that comes back at once."""

from __future__ import annotations

import math

import pytest
import torch

from cycler_da.schemes.transition.widening import LARGEST, is_lost, widening


def ensemble(variance: float, n: int = 400) -> torch.Tensor:
    """Members (n, 1) with mean zero and this sample variance."""
    x = torch.linspace(-1, 1, n, dtype=torch.float64)
    return (x * math.sqrt(variance) / x.std())[:, None]


def one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_the_factor_makes_one_innovation_one_deviation():
    # l^2 P + S = d^2 has its root inside the bounds: l^2 = (9 - 0.5) / 4 = 2.1 with P = 4, S = 0.5 and k = 1.
    factor = widening(ensemble(4.0), one(3.0), torch.tensor([[0.5]], dtype=torch.float64), deviations=1.0)
    step = LARGEST ** (1 / 64)  # of the values that are tried
    assert factor == pytest.approx(math.sqrt(8.5 / 4), rel=step - 1)


def test_usual_innovations_widen_nothing_and_enormous_ones_no_more_than_the_bound():
    covariance = torch.tensor([[0.5]], dtype=torch.float64)
    expected = math.sqrt(1.0 + 0.5)
    assert widening(ensemble(1.0), one(2.9 * expected), covariance, deviations=3.0) == 1.0
    assert widening(ensemble(1.0), one(3.1 * expected), covariance, deviations=3.0) > 1.0
    assert widening(ensemble(1.0), one(50.0), covariance, deviations=3.0) == pytest.approx(LARGEST)


@pytest.mark.parametrize("n_observations", [1, 3, 40])
def test_of_reliable_innovations_as_many_are_lost_as_the_normal_tail_says(n_observations):
    generator = torch.Generator().manual_seed(1)
    chi_squares = torch.randn(20_000, n_observations, generator=generator, dtype=torch.float64).square().sum(dim=1)
    n_lost = sum(is_lost(float(chi_square), n_observations, deviations=2.0) for chi_square in chi_squares)
    expected = math.erfc(2.0 / math.sqrt(2)) * 20_000
    assert n_lost == pytest.approx(expected, abs=4 * math.sqrt(expected))  # four standard deviations of a count


def test_the_factor_does_not_depend_on_units_or_on_a_mixture_of_observations():
    generator = torch.Generator().manual_seed(2)
    hx = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    values = torch.tensor([4.0, -5.0, 3.0], dtype=torch.float64)
    mixed = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    covariance = torch.diag(torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64))
    plain = widening(hx, values, covariance, deviations=3.0)
    turned = widening(hx @ mixed.mT, mixed @ values, mixed @ covariance @ mixed.mT, deviations=3.0)
    assert plain > 1.0
    assert turned == pytest.approx(plain)
