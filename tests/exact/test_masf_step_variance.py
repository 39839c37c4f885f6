"""The noise of the bridge's steps where a network knows the observations: independent cells have the variance of Bayes.

With a network that answers 0 on the covariance of independent cells the denoiser is exact, so that the variance of what
is drawn is computed and not estimated (`bench/unit_draws`).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from cycler_da.bench.unit_draws import UnitDraws, moments
from cycler_da.ensemble import Ensemble
from cycler_da.generative.bridge_denoiser import NetworkDenoiser
from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.generative.covariance import WhiteCovariance
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import MaskBridge, variance_of_prior, variance_of_seen
from cycler_da.generative.observed_bridge import sample_longer
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior
from cycler_da.schemes.frame.field_scaling import field_scaling
from cycler_da.schemes.masf import Masf, MasfSpec

SIZE, STEPS = 4, 30
HOUR, TIME = np.timedelta64(3600, "s"), np.array(["2020-01-01T12:00:00"], "datetime64[s]")
LAYOUT = Layout(
    "toy",
    (Variable("u", "1", "first"), Variable("v", "1", "second")),
    Grid(tuple(Axis(name, SIZE, periodic=True) for name in ("y", "x"))),
    HOUR,
)
#: Variance of the cells and of the errors.
CASES = [(1.0, 1.0), (1.0, 0.25), (1.0, 0.01), (0.25, 1.0)]


class Silent(nn.Module):
    """The network of a Gaussian climate."""

    def forward(self, inputs):
        return torch.zeros_like(inputs[:, : LAYOUT.state_shape[0]])


@pytest.mark.parametrize(("prior", "error"), CASES)
def test_longer_states_of_independent_cells_have_the_variance_of_bayes(prior, error):
    mask = torch.zeros(2, SIZE, SIZE, dtype=torch.float64)
    mask[1, ::2, ::2] = 1.0
    seen = cell_interpolation(WhiteCovariance(prior), mask, noise_std=error**0.5)
    slots = [("bridge.end", 0), *(("bridge", step) for step in range(STEPS - 1))]
    noise = UnitDraws({slot: mask.numel() for slot in slots})
    drawn = sample_longer(NetworkDenoiser(Silent()), seen, mask, steps=STEPS, noise=cast(MemberNoise, noise))
    mean, covariance = moments(drawn)
    bayes = (mask * prior * error / (prior + error) + (1.0 - mask) * prior).flatten()
    # The denoiser's arithmetic is in single precision.
    torch.testing.assert_close(mean, mask.flatten() * prior / (prior + error), rtol=0, atol=1e-5)
    # What is left at the last signal before 1 is lost, a thousandth at most.
    torch.testing.assert_close(covariance.diagonal(), bayes, rtol=0.01, atol=0)


@pytest.mark.parametrize(("prior", "error"), CASES)
def test_what_is_left_of_a_cell_is_one_number_before_and_after_its_observation(prior, error):
    mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    bridge = MaskBridge(mask, torch.full_like(mask, error))
    before = torch.full_like(mask, prior)
    after = mask * prior * error / (prior + error) + (1.0 - mask) * prior
    for a in (0.0, 0.3, 0.99):
        expected = variance_of_prior(bridge, before)(a)
        torch.testing.assert_close(variance_of_seen(bridge, after)(a), expected, rtol=1e-12, atol=0)


def test_the_scheme_with_weights_draws_the_variance_of_bayes():
    error, n_members = 0.1, 1600
    weights = SimpleNamespace(
        model=NetworkDenoiser(Silent()), covariance=WhiteCovariance(1.0), error=error, source="toy"
    )
    scheme = Masf(MasfSpec(steps=STEPS, weights="toy"), LAYOUT, field_scaling((0.0, 0.0), (1.0, 1.0), LAYOUT), weights)
    cells = [(channel, y, x) for channel in range(2) for y in range(SIZE) for x in range(SIZE)]
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=Locations(
            torch.tensor([cell[1:] for cell in cells], dtype=torch.float64), torch.tensor([cell[0] for cell in cells])
        ),
        values=torch.zeros(len(cells), dtype=torch.float64),
        error=torch.full((len(cells),), error, dtype=torch.float64),
        times=np.repeat(TIME, len(cells)),
        ids=np.array([f"o{i}" for i in range(len(cells))]),
        flags=torch.zeros(len(cells), dtype=torch.int32),
    )
    members = Noise(3).normal("members", LAYOUT.state_shape, members=range(n_members), dtype=torch.float64)
    prior = Prior(Ensemble(members[:, None], TIME, tuple(range(n_members)), LAYOUT))
    analysis = scheme.analyse(prior, Observations((batch,), LAYOUT), noise=Noise(4), carry={})
    drawn = analysis.ensemble.latest
    # 1600 members of 32 independent cells: four standard errors are 2.5 %; twice counted, the observation leaves 7.5 %.
    assert float(drawn.square().mean()) == pytest.approx(error**2 / (1.0 + error**2), rel=0.025)
