"""docs/products.md promises every file and every variable: what is written must stand there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.layout import Layout
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import PointsSpec
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import write_ensemble
from cycler_da.products.feedback import write_feedback
from cycler_da.products.manifest import Inputs, build_manifest


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "products.md").read_text()


@pytest.fixture(params=["qg_layout", "radar_layout"])
def folder(request: pytest.FixtureRequest, make_ensemble, tmp_path: Path, facts: FileFacts) -> Path:
    layout: Layout = request.getfixturevalue(request.param)
    ensemble = make_ensemble(layout, n_times=2)
    write_ensemble(tmp_path / "analysis.nc", ensemble, facts=facts)
    centre = torch.tensor([[axis.centres()[3] for axis in layout.grid.axes]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    batch = ObsBatch(
        stream="stations",
        operator=PointsSpec().build(layout),
        where=Locations(centre, torch.zeros(1, dtype=torch.int64)),
        values=one,
        error=one,
        times=ensemble.valid_times[-1:],
        ids=np.asarray(["a/0"]),
        flags=torch.zeros(1, dtype=torch.int32),
    )
    hx = batch.hx(ensemble.latest, layout)
    observations = Observations((batch,), layout)
    write_feedback(tmp_path / "feedback", observations, background_hx=hx, analysis_hx=hx, facts=replace(facts))
    return tmp_path


def test_every_variable_of_a_field_file_stands_on_the_page(folder: Path, page: str) -> None:
    with netCDF4.Dataset(folder / "analysis.nc") as dataset:
        for name in dataset.variables:
            documented = re.sub(r"^(q1|q2|vil)", "<variable>", name)
            assert f"`{documented}`" in page, name


def test_every_column_of_a_feedback_file_stands_on_the_page(folder: Path, page: str) -> None:
    with netCDF4.Dataset(folder / "feedback" / "stations.nc") as dataset:
        for group in dataset.groups.values():
            for name in group.variables:
                documented = f"{group.name}/{re.sub(r'^(q1|q2|vil)$', '<variable>', name)}"
                assert f"`{documented}`" in page, documented


def test_every_global_attribute_stands_on_the_page(folder: Path, page: str) -> None:
    families = ("time_coverage_", "geospatial_")
    with netCDF4.Dataset(folder / "analysis.nc") as dataset:
        for name in dataset.ncattrs():
            family = next((f"{family}*" for family in families if name.startswith(family)), name)
            assert f"`{family}`" in page, name


def test_every_key_of_the_manifest_stands_on_the_page(folder: Path, page: str) -> None:
    manifest = build_manifest(
        folder,
        experiment="experiment",
        chain="letkf",
        time=np.datetime64("2020-01-02", "s"),
        inputs=Inputs(config="0" * 64),
        token=1,
    )
    for key in manifest:
        assert f"`{key}`" in page, key
