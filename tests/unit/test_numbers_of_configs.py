"""Numbers of a config that no run could use are refused when it is read: not finite, another type, no grid of tau."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from cycler_da.config import load_config, read_settings, read_spec
from cycler_da.errors import ConfigError
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.registry import GROUPS, Spec, read_strictly, registered, spec_of_block
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.observations_only import ObservationsOnlySpec
from cycler_da.schemes.optimal_particle import OptimalParticleSpec
from cycler_da.setting import build_setting

FLOATS = [
    (group, kind, field.name)
    for group in GROUPS
    for kind, spec in registered(group).items()
    for field in fields(spec)
    if field.type in ("float", "float | None")
]


@pytest.mark.parametrize("read", [read_spec, spec_of_block])
def test_no_option_of_any_kind_takes_a_number_that_is_not_finite(read):
    assert len(FLOATS) > 100
    for group, kind, name in FLOATS:
        for text in (float("nan"), float("inf"), -float("inf")):
            with pytest.raises(ConfigError, match=rf"(?s){name}.*finite number"):
                read(group, {"kind": kind, name: text}, where=group)


def test_bounds_of_observations_may_be_open_on_one_side():
    settings = read_settings(QCSettings, {"bounds": {"u": [0.0, float("inf")]}}, where="qc")
    assert settings.bounds["u"] == (0.0, float("inf"))


@dataclass(frozen=True, kw_only=True)
class Options(Spec):
    """Plain fields of every type."""

    number: int = 1
    factor: float | None = 1.0
    name: str = "a"
    flag: bool = False
    sizes: tuple[int, ...] = ()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"number": 2.5}, "block: number is 2.5; expected a whole number"),
        ({"number": True}, "block: number is True; expected a whole number"),
        ({"number": None}, "block: number is None; expected a whole number"),
        ({"factor": "0.1"}, "block: factor is '0.1'; expected a finite number or null"),
        ({"factor": float("nan")}, "block: factor is nan; expected a finite number or null"),
        ({"name": 3}, "block: name is 3; expected text"),
        ({"flag": "yes"}, "block: flag is 'yes'; expected true or false"),
    ],
)
def test_a_plain_option_of_another_type_is_refused_in_words(options, message):
    with pytest.raises(ConfigError) as caught:
        read_strictly(Options, options, where="block")
    assert str(caught.value) == message


def test_plain_options_are_taken_as_they_are():
    found = read_strictly(Options, {"number": 3, "factor": 2, "name": "b", "flag": True, "sizes": [1]}, where="block")
    assert (found.number, found.factor, found.name, found.flag, found.sizes) == (3, 2, "b", True, [1])


def forecast(**options) -> InterpolantSpec:
    return InterpolantSpec(weights="somewhere", **options)


@pytest.mark.parametrize("make", [forecast, InterpolantFilterSpec, OptimalParticleSpec])
@pytest.mark.parametrize("tau_max", [0.0, -1.0, 1e-17, 1e-4, 1e7, float("inf"), float("nan")])
def test_a_grid_of_tau_that_cannot_be_made_is_refused(make, tau_max):
    for points in (1, 3):
        with pytest.raises(ConfigError, match=r"tau_max is .*; expected a number from 0.001 to 1e\+06"):
            make(tau_points=points, tau_max=tau_max)


@pytest.mark.parametrize("make", [forecast, InterpolantFilterSpec, OptimalParticleSpec])
def test_an_end_of_tau_is_refused_where_there_is_one_point(make):
    with pytest.raises(ConfigError, match=r"tau_max is 20.0 and not used, .* set tau_points to 2 or more"):
        make(tau_max=20.0)
    with pytest.raises(ConfigError, match="tau_points is 0; expected a whole number from 1"):
        make(tau_points=0)
    assert make(tau_points=2, tau_max=20.0).tau_max == 20.0


@pytest.mark.parametrize("make", [InterpolantFilterSpec, ObservationsOnlySpec])
def test_a_limit_of_observations_below_one_is_refused(make):
    with pytest.raises(ConfigError, match="max_observations is -5; expected a whole number from 1"):
        make(max_observations=-5)


@pytest.mark.parametrize(
    "guidance, message",
    [
        ("{kind: conjugate, caution: .nan}", "caution is nan; expected a finite number"),
        ("{kind: conjugate, caution: 0.5}", "both are 1 or more"),
        ("{kind: gauss_newton, iterations: 1.5}", "iterations is 1.5; expected a whole number"),
        ("{kind: red, iterations: true}", "iterations is True; expected a whole number"),
        ("{kind: dps, step_size: .inf}", "step_size is inf; expected a finite number"),
    ],
)
def test_options_of_a_guidance_are_refused_when_the_experiment_is_read(guidance, message):
    path = Path("config/experiments/lorenz96_half_observed.yaml")
    with pytest.raises(ConfigError, match=message):
        build_setting(load_config(path, [f"chains.interpolant_filter.scheme.guidance={guidance}"]))
