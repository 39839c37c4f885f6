"""The released transition of the double well over one time unit has the law of the true model, modes and tails."""

from __future__ import annotations

import pytest
import torch

from cycler_da.bench.small_systems.twin import LearnedTruth, TrueModel
from cycler_da.generative.localisation import tau_grid
from cycler_da.generative.weights import load_transition
from cycler_da.noise import Noise
from cycler_da.systems.double_well import DoubleWellSpec

WEIGHTS = "data/weights/double_well/long"
N = 4000
SYSTEM = DoubleWellSpec(process_noise=0.9)


@pytest.fixture(scope="module")
def transition(repository):
    return load_transition(repository / WEIGHTS)


def one_step(model, start):
    return model.advance(torch.full((N, 1, 1), start, dtype=torch.float64), Noise(11)).flatten()


def learned(transition, start, points, tau_max):
    model = TrueModel(SYSTEM.build(), 50)
    return one_step(LearnedTruth(transition, model.layout, tau_grid(points, tau_max)), start)


def distance(x, y):
    """Largest difference of the two distribution functions (Kolmogorov, Smirnov)."""
    at = torch.cat([x, y]).sort().values
    below = [torch.searchsorted(z.sort().values, at, right=True).double() / len(z) for z in (x, y)]
    return float((below[0] - below[1]).abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.0, 0.2, -0.9])
def test_draws_have_the_law_of_the_true_model_which_a_gaussian_has_not(transition, start):
    true = one_step(TrueModel(SYSTEM.build(), 50), start)
    ten, gaussian = learned(transition, start, 10, 60.0), learned(transition, start, 1, 3.0)
    right, between = ([float(f(x)) for x in (true, ten, gaussian)] for f in (in_the_right_well, on_the_barrier))
    # Shares of 4000 draws: standard error of a difference 1.1 % at most; what a network of this size leaves beside it.
    assert right[1] == pytest.approx(right[0], abs=0.03)
    assert between[1] == pytest.approx(between[0], abs=0.03)
    # One pair of samples of one law in twenty exceeds 0.03; 0.014 to 0.022 were found, of the Gaussian 0.15 to 0.21.
    assert distance(true, ten) < 0.05 < 0.1 < distance(true, gaussian)


def in_the_right_well(x):
    return (x > 0).double().mean()


def on_the_barrier(x):
    return (x.abs() < 0.3).double().mean()
