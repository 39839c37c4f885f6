"""MASF trained from scratch on the members of a cycle: nothing else counts, and untrained it is interpolation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.generative.bridge_denoiser import NetworkDenoiser
from cycler_da.generative.bridge_weights import BridgeWeights
from cycler_da.generative.covariance import WhiteCovariance
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior
from cycler_da.schemes.frame.field_scaling import field_scaling
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.masf import Masf, MasfSpec
from cycler_da.schemes.masf_two_heads import MasfTwoHeadsSpec

ERROR, SIZE = 0.2, 8
TIME = np.array(["2020-01-01T12:00:00"], "datetime64[s]")
LAYOUT = Layout(
    "toy",
    (Variable("u", "1", "first"), Variable("v", "1", "second")),
    Grid(tuple(Axis(name, SIZE, periodic=True) for name in ("y", "x"))),
    np.timedelta64(3600, "s"),
)
RECIPE = NetworkSpec("bridge_unet", {"fields": 2, "channels": [8], "patch": 2, "padding": "periodic"})
CELLS = [(0, 1, 2), (1, 4, 4), (0, 6, 7)]
VALUES = (1.0, -0.5, 0.3)


def make_scheme(tuning: FineTuneSpec, *, seed: int = 0, variance: float = 1.0, steps: int = 4) -> Masf:
    """The scheme with weights of a network that is not trained, and their climate."""
    model = NetworkDenoiser(build_network(RECIPE, seed=seed))
    with torch.no_grad():
        for one in model.parameters():
            one += 0.1
    weights = BridgeWeights(model, RECIPE, Scaling((0.0, 0.0), (1.0, 1.0)), WhiteCovariance(variance), ERROR, "toy")
    spec = MasfSpec(weights="toy", steps=steps, fine_tune=tuning)
    return Masf(spec, LAYOUT, field_scaling((0.0, 0.0), (1.0, 1.0), LAYOUT), weights)


def background(seed: int = 1) -> Prior:
    x = Noise(seed).normal("members", LAYOUT.state_shape, members=range(5), dtype=torch.float32)
    x = x + x.roll(1, -1) + x.roll(1, -2)
    members = Ensemble(x[:, None], TIME, tuple(range(5)), LAYOUT)
    return Prior(members, members, None)


def observations() -> Observations:
    n, spacing = len(CELLS), LAYOUT.grid.axes[0].spacing
    channels, places = (torch.tensor([cell[k:l] for cell in CELLS]) for k, l in ((0, 1), (1, 3)))
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=Locations(places.to(torch.float64) * spacing, channels[:, 0]),
        values=torch.tensor(VALUES, dtype=torch.float64),
        error=torch.full((n,), ERROR, dtype=torch.float64),
        times=np.repeat(TIME, n),
        ids=np.array([f"o{i}" for i in range(n)]),
        flags=torch.zeros(n, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


def analyse(scheme: Masf, prior: Prior, *, carry=None):
    with torch.inference_mode():
        return scheme.analyse(prior, observations(), noise=Noise(9), carry=carry or {})


def test_from_scratch_only_the_members_of_the_cycle_count():
    tuning = FineTuneSpec(begin="scratch", steps=3)
    first, other = (make_scheme(tuning, seed=seed, variance=variance) for seed, variance in ((0, 1.0), (1, 4.0)))
    found = analyse(first, background())
    assert not found.carry
    assert torch.equal(found.ensemble.values, analyse(other, background()).ensemble.values)
    assert not torch.equal(found.ensemble.values, analyse(first, background(seed=2)).ensemble.values)
    more = analyse(make_scheme(replace(tuning, steps=4)), background())
    assert not torch.equal(found.ensemble.values, more.ensemble.values)


def test_a_network_that_does_not_move_leaves_the_interpolation_with_the_covariance_of_the_members():
    """One step of the bridge is E[x | y]; the covariance is that of all shifts of the members, written out here."""
    prior = background()
    x = prior.background.latest.to(torch.float64)
    shifted = torch.stack([x.roll((i, j), (-2, -1)) for i in range(SIZE) for j in range(SIZE)]).flatten(0, 1).flatten(1)
    covariance = shifted.mT @ shifted / len(shifted)
    cells = [(channel * SIZE + i) * SIZE + j for channel, i, j in CELLS]
    system = covariance[cells][:, cells] + ERROR**2 * torch.eye(len(cells), dtype=torch.float64)
    expected = covariance[:, cells] @ torch.linalg.solve(system, torch.tensor(VALUES, dtype=torch.float64))
    still = FineTuneSpec(begin="scratch", steps=1, learning_rate=1e-12)
    found = analyse(make_scheme(still, steps=1), prior).ensemble.latest
    # Single precision in the denoiser.
    torch.testing.assert_close(found[0].flatten().to(torch.float64), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-6)


def test_the_published_numbers_of_steps_are_the_defaults():
    assert (FineTuneSpec().count, FineTuneSpec(begin="scratch").count) == (120, 200)
    assert FineTuneSpec(begin="scratch", steps=7).count == 7


def test_other_beginnings_are_refused():
    with pytest.raises(ConfigError, match=r"fine_tune.begin is members; expected network or scratch"):
        FineTuneSpec(begin="members")
    with pytest.raises(ConfigError, match=r"fine_tune.steps is 0; expected 1 or more"):
        FineTuneSpec(begin="scratch", steps=0)
    with pytest.raises(ConfigError, match=r"masf_two_heads: fine_tune.begin is scratch; expected network"):
        MasfTwoHeadsSpec(weights="data/weights/kolmogorov/masf_augmented", fine_tune=FineTuneSpec(begin="scratch"))
