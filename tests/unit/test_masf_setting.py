"""Streams that the weights of MASF do not know are refused when the experiment is read."""

from __future__ import annotations

import pytest

from cycler_da.errors import ConfigError
from cycler_da.setting import load_setting

SPARSE, CURVED = "config/experiments/kolmogorov_sparse.yaml", "config/experiments/lorenz96_curved.yaml"
MASF = "chains=[{name: it, scheme: {kind: masf, weights: data/weights/kolmogorov/masf}}]"
TWO_HEADS = "chains=[{name: it, scheme: {kind: masf_two_heads, weights: data/weights/lorenz96/masf_augmented}}]"


@pytest.fixture(autouse=True)
def _here(repository, monkeypatch):
    monkeypatch.chdir(repository)


def stream(path):
    return load_setting(path).config.observations[0].stream


def test_masf_refuses_drawn_errors_that_its_weights_do_not_know():
    draw = f"observations.{stream(SPARSE)}.draw"
    assert load_setting(SPARSE, [MASF]).chains
    with pytest.raises(ConfigError, match=r"is drawn with an error of 0.2 for v; weights .* know 0.1 alone"):
        load_setting(SPARSE, [MASF, f"{draw}.error.v=0.2"])
    free = "chains=[{name: it, scheme: {kind: masf}}]"
    assert load_setting(SPARSE, [free, f"{draw}.error.v=0.2"]).chains


def test_masf_refuses_stations_between_cells_and_takes_them_through_the_nearest_cell():
    name = stream(SPARSE)
    network = f"observations.{name}.draw.network={{kind: stations, count: 20}}"
    assert load_setting(SPARSE, [MASF, network]).chains
    with pytest.raises(ConfigError, match=r"observes between cells through points; .* or operator cell"):
        load_setting(SPARSE, [MASF, network, f"observations.{name}.operator={{kind: points}}"])


def test_two_heads_refuse_drawn_errors_and_places_that_their_weights_do_not_know():
    name = stream(CURVED)
    (known,) = load_setting(CURVED, [TWO_HEADS]).config.observations[0].draw.error.values()
    with pytest.raises(ConfigError, match=rf"an error of {3 * known:.4g} .* know {known:.4g} alone"):
        load_setting(CURVED, [TWO_HEADS, f"observations.{name}.draw.error={{u: {3 * known}}}"])
    with pytest.raises(ConfigError, match=r"observes between cells .* or masf_two_heads without weights"):
        load_setting(CURVED, [TWO_HEADS, f"observations.{name}.draw.network={{kind: stations, count: 20}}"])


def test_fields_take_the_curve_and_the_error_of_their_weights_alone():
    stem = f"observations.{stream(SPARSE)}"
    fields = "chains=[{name: it, scheme: {kind: masf_two_heads, weights: data/weights/kolmogorov/masf_augmented}}]"
    curved = [fields, f"{stem}.operator={{kind: sigmoid, scale: 0.5}}"]
    assert load_setting(SPARSE, curved).chains
    with pytest.raises(ConfigError, match=r"an error of 0.2 for v; weights .* know 0.1 alone"):
        load_setting(SPARSE, [*curved, f"{stem}.draw.error.v=0.2"])
    with pytest.raises(ConfigError, match=r"not made for the operator sigmoid \(scale 1\)"):
        load_setting(SPARSE, [fields, f"{stem}.operator={{kind: sigmoid, scale: 1.0}}"])
