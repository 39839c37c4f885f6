"""What the physics of a system is, whatever its options are called, written or solved like."""

from __future__ import annotations

from dataclasses import fields

import pytest

from cycler_da.registry import registered
from cycler_da.systems import catalogue as _catalogue  # noqa: F401  (registers the systems)
from cycler_da.systems.kolmogorov import KolmogorovSpec
from cycler_da.systems.lorenz63 import Lorenz63Spec
from cycler_da.systems.physics import other_physics, physics_of
from cycler_da.systems.sevir import SevirSystemSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec


def differing(one, other):
    return other_physics(physics_of(one), physics_of(other))


#: Options that are no physics: of the grid, of the step, of the arithmetic.
OTHERS = {"two_layer_qg": {"size", "step"}}


@pytest.mark.parametrize("kind", [kind for kind, spec in registered("system").items() if hasattr(spec, "spun_up")])
def test_the_physics_of_every_system_are_all_options_that_are_not_named_as_others(kind):
    spec = registered("system")[kind]()
    assert physics_of(spec)
    assert set(physics_of(spec)) == {f.name for f in fields(spec)} - OTHERS.get(kind, {"size", "step", "time_step"})


def test_the_place_of_a_radar_patch_is_no_physics():
    assert not differing(SevirSystemSpec(), SevirSystemSpec(centre=(35.0, -90.0), size=384))


def test_defaults_written_out_whole_numbers_and_durations_in_other_units_are_the_same_physics():
    assert not differing(KolmogorovSpec(), KolmogorovSpec(reynolds=1000, unit="60min"))
    assert not differing(TwoLayerQGSpec(), TwoLayerQGSpec(mean_wind=[0.025, 0]))


def test_grid_step_and_time_step_are_no_physics():
    assert not differing(KolmogorovSpec(), KolmogorovSpec(size=128, step="24min", time_step=0.01))
    assert not differing(Lorenz63Spec(), Lorenz63Spec(time_step=0.025))


def test_a_difference_is_named_with_both_values():
    assert differing(Lorenz63Spec(), Lorenz63Spec(rho=30.0)) == {"rho": (28.0, 30.0)}
    assert differing(Lorenz63Spec(), Lorenz63Spec(unit="1000s", time_step=0.025)) == {"unit": ("100s", "1000s")}


def test_the_time_step_of_a_filter_that_acts_once_in_each_is_physics():
    assert not differing(TwoLayerQGSpec(), TwoLayerQGSpec(time_step=7200.0))
    assert differing(TwoLayerQGSpec(), TwoLayerQGSpec(time_step=3600.0)) == {"time_step": (7200.0, 3600.0)}
