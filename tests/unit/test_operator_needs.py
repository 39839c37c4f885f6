"""Schemes that take linear operators alone say so when the config is read, and name the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from cycler_da.config import load_config
from cycler_da.errors import ConfigError
from cycler_da.setting import Setting, build_setting

CONFIG = Path("config/experiments/lorenz96_half_observed.yaml")


def setting(scheme: str, operator: str) -> Setting:
    changes = [f"chains.letkf.scheme={{kind: {scheme}}}", f"observations.insitu.operator={{kind: {operator}}}"]
    return build_setting(load_config(CONFIG, changes))


@pytest.mark.parametrize("scheme", ["envar, static_share: 0.0", "observations_only", "var3d"])
def test_a_curved_operator_is_refused_by_what_needs_a_linear_one(scheme):
    with pytest.raises(ConfigError, match=r"chains.letkf: scheme \w+ takes linear operators alone, .* through arctan"):
        setting(scheme, "arctan")
    assert setting(scheme, "cell").chain("letkf")


@pytest.mark.parametrize("scheme", ["letkf", "interpolant_filter", "enkf", "var3d, solver: control"])
def test_a_curved_operator_is_taken_by_the_others(scheme):
    assert not setting(scheme, "arctan").chain("letkf").scheme.needs.linear_operators
