"""docs/observations.md: its Python runs, and its tables say what the code does."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from cycler_da.obs.base import QC
from cycler_da.obs.files import read_obs_file
from cycler_da.obs.networks import RandomFractionSpec, StationsSpec, StrideSpec, SwathSpec
from cycler_da.obs.qc import CHECKS
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.obs.radar_network import RadarSpec


@pytest.fixture
def page(repository):
    return (repository / "docs" / "observations.md").read_text()


def test_the_examples_run_and_their_files_are_read(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        exec(compile(block, "observations.md", "exec"), seen)
    layout, operator, batch = seen["layout"], seen["operator"], seen["batch"]
    stations = [one.partition("/")[0] for one in batch.ids]
    assert sorted(zip(stations, batch.where.channel.tolist(), strict=True)) == [("Alba", 0), ("Alba", 1), ("Bora", 1)]
    assert sorted(batch.values.tolist()) == [-0.4e-6, 1.2e-6, 7.1e-6]
    path = tmp_path / "ship_20200102T0000Z.nc"
    (ship,) = read_obs_file(path, layout, stream="ship", operators={"q1": operator})
    assert ship.values.tolist() == [7.1e-6]
    assert ship.times.tolist() == [np.datetime64("2020-01-01T18:00:00").astype(object)]


def test_the_order_of_checks_on_the_page_is_that_of_the_code(page):
    rows = re.findall(r"^\| \d+ \| (\d+) \| ([A-Z_]+) \|", page, re.M)
    # On the page, what differs only in where it looks stands in one row: copies here and in other streams, and
    # observations that arrive as passive.
    code = [check.flag for check in CHECKS if not check.spans_streams]
    del code[code.index(QC.PASSIVE)]
    assert rows == [(str(int(flag)), flag.name) for flag in code]


def test_every_setting_stands_on_the_page(page):
    for spec in (QCSettings, RandomFractionSpec, StrideSpec, StationsSpec, SwathSpec, RadarSpec):
        for field in dataclasses.fields(spec):
            assert f"`{field.name}`" in page, f"{spec.__name__}.{field.name}"
