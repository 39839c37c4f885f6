"""Limits of the colour scales: chosen once, kept, and sized by the field and not by its ensemble mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sample_experiment as sample

from cycler_da.layout import Variable
from cycler_da.plots.fields import VariableFields, read_cycle
from cycler_da.plots.limits import estimate_limits, levels_below, limits_for, read_limits, round_up


def cycle(root, *, step=1, factor=1.0):
    layout = sample.qg_layout(16)
    folder = sample.cycle_folder(root, "letkf", layout, step)
    fields = sample.qg_fields(layout, step)
    scaled = sample.Fields(**{name: factor * values for name, values in vars(fields).items()})
    return read_cycle(sample.write_cycle(folder, layout, scaled, step=step))


def with_parts(fields, **changes):
    return replace(fields, variables=tuple(replace(part, **changes) for part in fields.variables))


@pytest.mark.parametrize(("value", "up"), [(2.05e-5, 2.5e-5), (1.0, 1.0), (10.0, 10.0), (0.81, 1.0), (6.1, 8.0)])
def test_round_up_gives_the_next_round_number(value, up):
    assert round_up(value) == up


def test_levels_are_the_largest_of_the_ladder_below_a_number():
    assert levels_below(16.4e-6) == (1e-7, 2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5)
    assert levels_below(1.0, 3) == (0.2, 0.5, 1.0)
    assert levels_below(4.9, 2) == (1.0, 2.0)


def test_first_cycle_drawn_decides_for_all_later_ones(tmp_path):
    first = limits_for(cycle(tmp_path, step=1))
    assert limits_for(cycle(tmp_path, step=2, factor=3.0)) == first
    assert estimate_limits(cycle(tmp_path, step=2, factor=3.0)) != first


def test_limits_are_shared_by_the_chains_of_an_experiment(tmp_path):
    fields = cycle(tmp_path)
    first = limits_for(fields)
    other_chain = tmp_path / "sample" / "other" / "work" / fields.folder.name
    assert limits_for(replace(with_parts(fields, analysis_spread=None), folder=other_chain)) == first
    assert (tmp_path / "sample" / "page" / "limits.json").is_file()


def test_a_folder_outside_an_experiment_stores_nothing(tmp_path):
    layout = sample.qg_layout(16)
    fields = read_cycle(sample.write_cycle(tmp_path / "mine", layout, sample.qg_fields(layout, 1)))
    assert limits_for(fields) == estimate_limits(fields)
    assert not list(tmp_path.rglob("limits.json"))


def test_limits_of_another_layout_are_not_used(tmp_path):
    limits_for(cycle(tmp_path))
    assert read_limits(tmp_path / "sample" / "page" / "limits.json", sample.qg_layout(32)) is None


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"layout_digest": "x"}', '{"variables": 3}'])
def test_damaged_limits_are_chosen_again(tmp_path, damage):
    fields = cycle(tmp_path)
    expected = limits_for(fields)
    path = tmp_path / "sample" / "page" / "limits.json"
    path.write_text(damage)
    assert limits_for(fields) == expected
    assert read_limits(path, fields.layout) == expected


def test_a_flat_mean_with_climatological_spread_has_the_limits_of_the_field(tmp_path):
    """Total variance: mean 0 and spread s everywhere is as large as a field of standard deviation s."""
    fields = cycle(tmp_path)
    shape = fields.layout.grid.shape
    field = 8.2e-6 * np.sign(np.indices(shape).sum(axis=0) % 2 - 0.5)
    of_field = estimate_limits(with_parts(fields, analysis=field, analysis_spread=np.zeros(shape)))
    of_ensemble = estimate_limits(with_parts(fields, analysis=0 * field, analysis_spread=np.full(shape, 8.2e-6)))
    assert of_ensemble["q1"] == of_field["q1"]
    assert of_field["q1"].high == 2.5e-5 == -of_field["q1"].low


@pytest.mark.parametrize(
    ("variable", "low", "high", "expected"),
    [
        (Variable("t", "K", "temperature"), 251.0, 309.0, (240.0, 315.0)),
        (Variable("rain", "mm", "rain", 0.0), 0.0, 37.0, (0.0, 40.0)),
        (Variable("vil", "kg m-2", "VIL", 0.0), 0.0, 5.0, (0.0, 80.0)),
    ],
)
def test_limits_follow_the_kind_of_variable(tmp_path, variable, low, high, expected):
    ramp = np.linspace(low, high, 256).reshape(16, 16)
    fields = replace(cycle(tmp_path), variables=(VariableFields(variable, ramp),))
    limits = estimate_limits(fields)[variable.name]
    assert (limits.low, limits.high) == expected


def test_constant_and_missing_fields_have_limits(tmp_path):
    for values in (np.zeros((16, 16)), np.full((16, 16), np.nan)):
        fields = replace(cycle(tmp_path), variables=(VariableFields(Variable("t", "K", "t"), values),))
        limits = estimate_limits(fields)["t"]
        assert limits.low < limits.high
        assert all(np.diff(limits.levels) > 0)
