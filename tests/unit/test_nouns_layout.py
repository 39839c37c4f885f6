"""A layout names what axes mean; its digest is the same on every machine and for ever."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Axis, Grid, Layout, Variable, layout_from_description


def two_layer_layout() -> Layout:
    axes = tuple(Axis(name, 64, spacing=15625.0, periodic=True) for name in ("y", "x"))
    variables = (Variable("q1", "s-1", "upper layer"), Variable("q2", "s-1", "lower layer", valid_min=-1.0))
    return Layout("two_layer_qg", variables, Grid(axes), np.timedelta64(24, "h"))


MAP = {
    "grid_mapping_name": "lambert_azimuthal_equal_area",
    "earth_radius": 6370997.0,
    "standard_parallel": (30.0, 60.0),
}

names = st.text("abcdefgh_", min_size=1, max_size=6)
reals = st.floats(-1e12, 1e12)
variables = st.builds(Variable, names, names, names, st.none() | reals, st.none() | reals)
axes = st.builds(Axis, names, st.integers(1, 10**6), spacing=reals, origin=reals, units=names, periodic=st.booleans())
layouts = st.builds(
    Layout,
    names,
    st.lists(variables, min_size=1, max_size=4, unique_by=lambda v: v.name).map(tuple),
    st.lists(axes, min_size=1, max_size=3, unique_by=lambda a: a.name).map(lambda a: Grid(tuple(a), MAP)),
    st.integers(1, 10**8).map(lambda s: np.timedelta64(s, "s")),
)


@given(layouts)
def test_a_layout_survives_being_described_in_json(layout):
    again = layout_from_description(json.loads(json.dumps(layout.describe())))
    again.require_same(layout, what="the copy")
    assert again == layout
    assert again.digest == layout.digest


def test_the_digest_of_a_known_layout_is_the_one_in_files_already_written():
    # Regression value: products and weight cards carry it. It may change only together with the file format.
    assert two_layer_layout().digest == "6abb67e13e0f903c"


def test_the_digest_does_not_depend_on_how_numbers_are_typed():
    layout = two_layer_layout()
    axes = tuple(replace(axis, size=np.int64(64), spacing=15625) for axis in layout.grid.axes)
    typed = replace(layout, grid=Grid(axes), step=np.timedelta64(86400, "s"))
    assert typed.digest == layout.digest
    typed.require_same(layout, what="the retyped layout")


def test_the_digest_of_a_map_does_not_depend_on_sequence_or_scalar_types():
    grid = two_layer_layout().grid
    plain = replace(two_layer_layout(), grid=Grid(grid.axes, MAP))
    numpy_map = {**MAP, "earth_radius": np.float64(6370997.0), "standard_parallel": np.array([30.0, 60.0])}
    other = replace(plain, grid=Grid(grid.axes, numpy_map))
    assert other == plain
    assert other.digest == plain.digest


def test_a_layout_survives_pickle_with_its_digest():
    layout = two_layer_layout()
    assert pickle.loads(pickle.dumps(layout)).digest == layout.digest


def _with_axis(layout: Layout, **changes) -> Layout:
    return replace(
        layout, grid=replace(layout.grid, axes=(replace(layout.grid.axes[0], **changes), layout.grid.axes[1]))
    )


@pytest.mark.parametrize(
    ("change", "named", "got", "expected"),
    [
        (lambda a: replace(a, system="lorenz96"), "system", "'lorenz96'", "'two_layer_qg'"),
        (lambda a: replace(a, step=np.timedelta64(12, "h")), "step_seconds", "43200", "86400"),
        (lambda a: _with_axis(a, size=32), "axes[0].size", "32", "64"),
        (lambda a: _with_axis(a, spacing=31250.0), "axes[0].spacing", "31250.0", "15625.0"),
        (lambda a: _with_axis(a, periodic=False), "axes[0].periodic", "False", "True"),
        (lambda a: replace(a, variables=a.variables[::-1]), "variables[0].", "", ""),
        (lambda a: replace(a, variables=a.variables[:1]), "variables[1].", "None", "'lower layer'"),
        (
            lambda a: replace(a, grid=Grid(a.grid.axes, {"earth_radius": 1.0})),
            "grid_mapping.earth_radius",
            "1.0",
            "None",
        ),
    ],
)
def test_a_difference_is_named_with_both_values(change, named, got, expected):
    layout = two_layer_layout()
    other = change(layout)
    assert other.digest != layout.digest
    with pytest.raises(LayoutMismatch) as caught:
        layout.require_same(other, what="weights w.safetensors")
    text = str(caught.value)
    assert text.startswith(f"layout of weights w.safetensors differs at {named}")
    assert f"got {got}" in text
    assert f"expected {expected}" in text


def test_shapes_and_centres_follow_from_the_axes():
    layout = two_layer_layout()
    assert layout.channels == ("q1", "q2")
    assert layout.state_shape == (2, 64, 64)
    assert layout.grid.axes[0].length == 1.0e6
    np.testing.assert_array_equal(Axis("x", 3, spacing=2.0, origin=-1.0).centres(), [-1.0, 1.0, 3.0])


@pytest.mark.parametrize("step", [np.timedelta64(0, "s"), np.timedelta64(-1, "h"), np.timedelta64(1500, "ms")])
def test_a_step_that_is_not_a_positive_number_of_seconds_is_refused(step):
    with pytest.raises(ConfigError, match="step"):
        replace(two_layer_layout(), step=step)


def test_repeated_names_are_refused():
    layout = two_layer_layout()
    with pytest.raises(ConfigError, match="names of variables repeat: got q1, q1"):
        replace(layout, variables=(layout.variables[0], layout.variables[0]))
    with pytest.raises(ConfigError, match="names of axes repeat"):
        replace(layout, grid=Grid((layout.grid.axes[0], layout.grid.axes[0])))


def test_another_patch_of_the_same_map_is_of_the_same_kind():
    layout = replace(two_layer_layout(), grid=Grid(two_layer_layout().grid.axes, MAP))
    elsewhere = replace(_with_axis(layout, size=32, origin=5.0e5), grid=Grid(_with_axis(layout, size=32).grid.axes))
    layout.require_same_kind(elsewhere, what="weights w.safetensors")
    with pytest.raises(LayoutMismatch):
        layout.require_same(elsewhere, what="weights w.safetensors")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda layout: _with_axis(layout, spacing=1000.0), "axes[0].spacing"),
        (lambda layout: _with_axis(layout, periodic=False), "axes[0].periodic"),
        (lambda layout: replace(layout, step=np.timedelta64(3600, "s")), "step_seconds"),
        (lambda layout: replace(layout, variables=layout.variables[:1]), "variables[1].name"),
        (lambda layout: replace(layout, system="another"), "system"),
    ],
)
def test_another_spacing_step_or_variable_is_another_kind(change, named):
    layout = two_layer_layout()
    with pytest.raises(LayoutMismatch, match=re.escape(f"weights w.safetensors differs at {named}")):
        layout.require_same_kind(change(layout), what="weights w.safetensors")
