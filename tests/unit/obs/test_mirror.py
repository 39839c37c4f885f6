"""Observed fields that are not mirrored with the state are refused where a training mirrors its windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cycler_da.errors import ConfigError
from cycler_da.generative.scaling import Scaling
from cycler_da.obs import catalogue as _obs  # noqa: F401  (registers the operators)
from cycler_da.obs.fields import observed_fields
from cycler_da.obs.mirror import require_mirrored
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.training_run import read_train_config

CONFIG = Path("config/train/qg_window.yaml")
LAYOUT = TwoLayerQGSpec(size=16).layout()
SCALING = Scaling((0.0, 0.0), (8.2e-6, 1.06e-6))


def check(operator, scaling=SCALING):
    require_mirrored(observed_fields([{"variable": "q1", "operator": operator}], LAYOUT), scaling.to_physical)


@pytest.mark.parametrize(
    "operator",
    [
        {"kind": "arctan", "scale": 2.7e-6},
        {"kind": "sine", "scale": 2.7e-6},
        {"kind": "cubic", "scale": 8.2e-6},
        {"kind": "sigmoid", "scale": 4.1e-6},  # 1 / 2 and an odd curve
        {"kind": "points"},
        {"kind": "qg_velocity", "component": "y"},
    ],
    ids=lambda block: block["kind"],
)
def test_odd_fields_are_mirrored_with_the_state(operator):
    check(operator)


@pytest.mark.parametrize(
    "operator",
    [{"kind": "exceeds", "threshold": 4.0e-6}, {"kind": "qg_velocity", "component": "x"}],
    ids=lambda block: block["kind"],
)
def test_a_field_that_is_not_odd_is_refused_with_its_name(operator):
    with pytest.raises(ConfigError, match=rf"data.observed.0 \({operator['kind']} of q1\) is not mirrored"):
        check(operator)


def test_a_curve_is_not_odd_about_a_mean_that_is_not_zero():
    check({"kind": "points"}, Scaling((4.0e-6, 0.0), SCALING.std))
    with pytest.raises(ConfigError, match=r"arctan of q1\) is not mirrored"):
        check({"kind": "arctan", "scale": 2.7e-6}, Scaling((4.0e-6, 0.0), SCALING.std))


def test_such_a_training_is_refused_when_its_config_is_read_unless_it_does_not_mirror(tmp_path):
    text = CONFIG.read_text()
    assert read_train_config(CONFIG).data.mirror
    first = "{variable: q1, operator: {kind: arctan, scale: 2.7333e-6}}"
    assert first in text
    changed = text.replace(first, "{variable: q1, operator: {kind: qg_velocity}}")
    path = tmp_path / "train.yaml"
    path.write_text(changed)
    with pytest.raises(ConfigError, match=r"data.mirror is true, and data.observed.0 \(qg_velocity of q1\)"):
        read_train_config(path)
    path.write_text(changed.replace("mirror: true", "mirror: false"))
    assert not read_train_config(path).data.mirror
