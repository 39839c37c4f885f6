"""Options of MASF that nothing uses are refused, and its results do not depend on the units of the state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.registry import spec_of_block
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.frame.field_scaling import unit_of_members
from cycler_da.schemes.masf import MasfSpec
from cycler_da.setting import load_setting

TIME = np.array(["2020-01-01T12:00:00"], "datetime64[s]")
LAYOUT = Layout(
    "toy",
    (Variable("u", "1", "first"), Variable("v", "1", "second")),
    Grid(tuple(Axis(name, 4, periodic=True) for name in ("y", "x"))),
    np.timedelta64(3600, "s"),
)


def analysed(spec: MasfSpec, *, unit: float, error: float = 0.1):
    """Twenty members of deviation 1 in a unit, two cells seen as 1 with an error."""
    x = unit * Noise(3).normal("members", LAYOUT.state_shape, members=range(20), dtype=torch.float64)
    batch = ObsBatch(
        stream="toy",
        operator=CellSpec().build(LAYOUT),
        where=Locations(torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=torch.float64), torch.tensor([0, 1])),
        values=torch.full((2,), unit, dtype=torch.float64),
        error=torch.full((2,), error * unit, dtype=torch.float64),
        times=np.repeat(TIME, 2),
        ids=np.array(["o0", "o1"]),
        flags=torch.zeros(2, dtype=torch.int32),
    )
    prior = Prior(Ensemble(x[:, None], TIME, tuple(range(20)), LAYOUT))
    scheme = spec.build(SchemeContext(LAYOUT))
    return scheme.analyse(prior, Observations((batch,), LAYOUT), noise=Noise(4), carry={}).ensemble.latest


@pytest.mark.parametrize("sampler", ["bridge", "guided"])
def test_states_in_small_units_are_analysed_as_those_of_units_about_1(sampler):
    one = analysed(MasfSpec(sampler=sampler), unit=1.0)
    assert torch.equal(one, analysed(MasfSpec(sampler=sampler, scale=(1.0,)), unit=1.0))
    # QG vorticity in s-1; the two differ by rounding alone.
    torch.testing.assert_close(1e6 * analysed(MasfSpec(sampler=sampler), unit=1e-6), one, rtol=1e-6, atol=1e-9)
    assert abs(float(one[:, 0, 1, 2].mean()) - 1.0) < 0.1


def test_members_without_spread_have_the_unit_1():
    x = torch.zeros(2, *LAYOUT.state_shape, dtype=torch.float64)
    assert torch.equal(unit_of_members(x).std, torch.ones(2, 1, 1, dtype=torch.float64))


def test_the_guided_sampler_refuses_errors_that_its_guard_hides():
    for options, error in (({}, 0.01), ({"scale": (10.0,)}, 0.1)):
        with pytest.raises(AnalysisFailed, match=r"error of 0.01 in the unit .* from 0.0316.*smaller scale"):
            analysed(MasfSpec(sampler="guided", **options), unit=1.0, error=error)
        analysed(MasfSpec(steps=3, **options), unit=1.0, error=error)
    analysed(MasfSpec(sampler="guided", steps=3, scale=(0.01,)), unit=1.0, error=0.01)


def test_drawn_errors_that_the_guard_hides_are_refused_when_the_config_is_read(repository, monkeypatch):
    monkeypatch.chdir(repository)
    path = "config/experiments/kolmogorov_sparse.yaml"
    chains = "chains=[{{name: it, scheme: {{kind: masf, sampler: guided, scale: [{}]}}}}]"
    assert load_setting(path, [chains.format(1)]).chains
    with pytest.raises(ConfigError, match=r"drawn with an error of 0.1 for .; expected 0.3162 or more"):
        load_setting(path, [chains.format(10)])


@pytest.mark.parametrize(
    ("block", "option", "where"),
    [
        ({"kind": "masf", "sha256": "0" * 64}, "sha256", "weights"),
        ({"kind": "masf", "multipliers": "none"}, "multipliers", "sampler guided"),
        ({"kind": "masf", "weights": "some", "scale": [1.0]}, "scale", "the members"),
        ({"kind": "masf_two_heads", "sha256": "0" * 64}, "sha256", "weights"),
        ({"kind": "masf_two_heads", "multipliers": "none"}, "multipliers", "form dual_head"),
    ],
)
def test_options_that_nothing_uses_are_refused(block, option, where):
    with pytest.raises(ConfigError, match=rf"{option} is .*; expected nothing, for it is used with {where}.* leave it"):
        spec_of_block("scheme", block, where="scheme")


def test_options_that_something_uses_are_taken():
    for block in (
        {"kind": "masf", "weights": "some", "sha256": "0" * 64, "sampler": "guided", "multipliers": "none"},
        {"kind": "masf", "scale": [1.0, 2.0], "multipliers": "published"},
        {"kind": "masf_two_heads", "weights": "some", "sha256": "0" * 64, "form": "dual_head", "multipliers": "none"},
    ):
        spec_of_block("scheme", block, where="scheme")
