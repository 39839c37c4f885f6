"""A hundred cycles of a linear-Gaussian system: the interpolant filter is the Kalman filter, with and without weights.

The transition turns and damps three variables, of which two are observed. Members: 800, so that errors of sampling are
about 1/sqrt(800) = 3.5 % of a posterior deviation in one cycle; a cycled ensemble carries them on for as long as the
filter remembers, here for a few cycles. Members guided one by one are shown to be worse, as theory says they are.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.bench.small_systems.lorenz63_setup import SYSTEM, linear_network
from cycler_da.bench.small_systems.twin import LearnedTruth, Method, Run, make_twin
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec

MEMBERS, CYCLES, ERROR = 800, 100, 0.5
TURN, DAMP = 0.3, 0.98
C, S = math.cos(TURN), math.sin(TURN)
FORWARD = DAMP * torch.tensor([[C, -S, 0.0], [S, C, 0.2], [0.0, -0.2, 1.0]], dtype=torch.float64)
NOISE = torch.tensor([[0.04, 0.01, 0.0], [0.01, 0.02, 0.0], [0.0, 0.0, 0.03]], dtype=torch.float64)


#: For the transform, which has the diagonal of S: noise that observations do not share.
APART = torch.diag(NOISE.diagonal())


def kalman(values: torch.Tensor, mean: torch.Tensor, noise: torch.Tensor):
    """Mean and covariance of every analysis."""
    h, covariance = torch.eye(3, dtype=torch.float64)[:2], torch.eye(3, dtype=torch.float64)
    for y in values:
        mean, covariance = FORWARD @ mean, FORWARD @ covariance @ FORWARD.T + noise
        gain = torch.linalg.solve(h @ covariance @ h.T + ERROR**2 * torch.eye(2), h @ covariance).T
        mean, covariance = mean + gain @ (y - h @ mean), covariance - gain @ h @ covariance
        yield mean, covariance


def errors(noise: torch.Tensor = NOISE, **options) -> np.ndarray:
    """Errors of the mean (posterior deviations) and of the covariance (relative) in every cycle."""
    centre = torch.zeros((1, 3, 1), dtype=torch.float64)
    transition = GaussianTransition(lambda x: torch.einsum("ij,bjk->bik", FORWARD.to(x.dtype), x), noise)
    model = LearnedTruth(transition, SYSTEM.layout())
    twin = make_twin(
        model, linear_network((0, 1), ERROR), centre, n_cycles=CYCLES, start_std=1.0, seed=5, centre=centre
    )
    run = Run(twin, Method("filter", MEMBERS, InterpolantFilterSpec(inflation=1.0, **options), model.transition))
    rows = []
    for states, (mean, covariance) in zip(run, kalman(twin.values[0], centre[0, :, 0], noise), strict=True):
        x = states[0, :, :, 0]
        distance = ((x.mean(dim=0) - mean).square() / covariance.diagonal()).mean().sqrt()
        rows.append((float(distance), float((x.T.cov() - covariance).norm() / covariance.norm())))
    return np.array(rows)


@pytest.mark.parametrize(
    "options",
    [
        {"coupling": "perturbed_observations"},
        {"coupling": "square_root"},
        {"coupling": "perturbed_observations", "gamma": 0.25},
        {"coupling": "transform", "noise": APART},
        {"coupling": "mixture"},
    ],
    ids=[
        "perturbed observations",
        "square roots",
        "a quarter by coupling, the rest by weights",
        "transform",
        "mixture",
    ],
)
def test_the_filter_is_the_kalman_filter_over_a_hundred_cycles(options):
    found = errors(**options)
    # 3.5 % in one cycle, a few cycles of memory: twice that on average; the last cycles are no worse than the first.
    assert found[:, 0].mean() < 0.08
    assert found[:, 1].mean() < 0.12
    assert found[50:].mean() < 1.5 * found[:50].mean()


def test_members_guided_one_by_one_are_not_the_filter():
    found = errors(coupling="none")
    assert found[20:, 0].mean() > 0.3
    assert found[20:, 1].mean() > 0.5
