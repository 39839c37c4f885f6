"""Where a damaged file differs is found by a process of its own, which a damaged file may end."""

from __future__ import annotations

import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from cycler_da import apart
from cycler_da.products.damage import UNKNOWN, UNREADABLE, damaged_arrays, differing
from cycler_da.products.provenance import logical_hash


@pytest.fixture
def field(tmp_path: Path) -> Path:
    path = tmp_path / "field.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 4)
        file.createVariable("q", "f8", ("x",))[:] = np.arange(4.0)
    return path


def test_a_variable_with_other_values_is_named(field: Path) -> None:
    whole, other = logical_hash(np.arange(4.0)), logical_hash(np.zeros(4))
    assert damaged_arrays(field, {"q": whole}) == []
    assert damaged_arrays(field, {"q": other}) == ["q"] == differing(field, {"q": other})


def test_a_file_that_does_not_open_is_told(field: Path) -> None:
    field.write_bytes(field.read_bytes()[:100])
    assert damaged_arrays(field, {"q": "0"}) == [UNREADABLE]


def test_a_file_that_ends_its_reader_is_told(field: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; print('started', flush=True); os.abort()"
    monkeypatch.setattr(apart, "COMMAND", (sys.executable, "-c", code))
    assert damaged_arrays(field, {"q": "0"}) == [UNREADABLE]


def test_damage_is_told_where_no_process_can_be_started(field: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "COMMAND", ("/nowhere",))
    assert damaged_arrays(field, {"q": "0"}) == [UNKNOWN]
