"""Reading a cycle folder: what the products' writers wrote comes back, and what is wrong is named."""

from __future__ import annotations

from dataclasses import replace

import netCDF4
import numpy as np
import pytest
import sample_experiment as sample
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import DataError, MissingProduct
from cycler_da.layout import Grid
from cycler_da.obs.base import QC, Locations, ObsBatch, Observations
from cycler_da.obs.points import PointsSpec
from cycler_da.plots.fields import read_cycle
from cycler_da.products.dataset import FileFacts, write_ensemble, write_field
from cycler_da.products.feedback import write_feedback

LAYOUT = sample.qg_layout(8)
INIT, VALID = np.datetime64("2020-01-01T00:00:00"), np.datetime64("2020-01-02T00:00:00")


def ensemble(layout, *, n_members=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((n_members, 1, *layout.state_shape), generator=generator, dtype=torch.float32) * 1e-5
    return Ensemble(values, np.array([VALID]), tuple(range(n_members)), layout)


def observations(layout):
    """Three used, one withheld, one rejected, one missing observation of q1; two used ones of q2."""
    flags = [QC.USED, QC.USED, QC.USED, QC.PASSIVE, QC.FIRST_GUESS, QC.MISSING, QC.USED, QC.USED]
    channel = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    values = torch.arange(8, dtype=torch.float64) * 1e-6
    values[5] = torch.nan
    cells = torch.stack([torch.arange(8), torch.arange(8)], dim=1)
    position = 62500.0 + 125000.0 * cells.to(torch.float64)
    names = [f"s{k}/{'q1' if c == 0 else 'q2'}" for k, c in enumerate(channel.tolist())]
    batch = ObsBatch(
        stream="stations",
        operator=PointsSpec().build(layout),
        where=Locations(position, channel),
        values=values,
        error=torch.full((8,), 1e-6, dtype=torch.float64),
        times=np.full(8, VALID),
        ids=np.array(names),
        flags=torch.tensor([int(flag) for flag in flags], dtype=torch.int32),
        reasons=("",) * 8,
    )
    return Observations((batch,), layout)


@pytest.fixture
def written(tmp_path):
    """A cycle folder made by the writers of products, with what went into it."""
    background, analysis, obs = ensemble(LAYOUT), ensemble(LAYOUT, seed=1), observations(LAYOUT)
    facts = FileFacts("background", INIT, "night", "letkf", "letkf", {"model_digest": "abcdef0123"})
    write_ensemble(tmp_path / "background.nc", background, facts=facts)
    write_ensemble(tmp_path / "analysis.nc", analysis, facts=replace(facts, kind="analysis", reference_time=VALID))
    increment = analysis.mean() - background.mean()
    times = np.array([VALID])
    write_field(tmp_path / "increment.nc", increment, times, LAYOUT, facts=replace(facts, kind="increment"))
    truth = ensemble(LAYOUT, seed=2).values[0]
    (tmp_path / "diag").mkdir()
    write_field(tmp_path / "diag" / "truth.nc", truth, times, LAYOUT, facts=replace(facts, kind="truth"))
    hx = [obs.hx(one.latest.double()) for one in (background, analysis)]
    write_feedback(tmp_path / "feedback", obs, background_hx=hx[0], analysis_hx=hx[1], facts=facts)
    return tmp_path, background, analysis, truth, obs


def test_fields_of_the_products_writers_come_back(written):
    folder, background, analysis, truth, _ = written
    fields = read_cycle(folder)
    for channel, part in enumerate(fields.variables):
        for read, expected in (
            (part.background, background.mean()),
            (part.background_spread, background.spread()),
            (part.analysis, analysis.mean()),
            (part.analysis_spread, analysis.spread()),
            (part.increment, analysis.mean() - background.mean()),
            (part.truth, truth),
        ):
            # files hold float32: seven digits of the largest value
            np.testing.assert_allclose(read, expected[0, channel], atol=1e-7 * 1e-4)
        np.testing.assert_array_equal(part.analysis_error, part.analysis - part.truth)


def test_facts_of_the_products_writers_come_back(written):
    facts = read_cycle(written[0]).facts
    assert (facts.experiment, facts.chain, facts.scheme) == ("night", "letkf", "letkf")
    assert (facts.n_members, facts.model_digest, facts.degraded) == (5, "abcdef0123", "")
    assert (facts.init, facts.valid) == (INIT, VALID)


def test_feedback_of_the_products_writers_comes_back(written):
    folder, background, _, _, obs = written
    points = read_cycle(folder).observations
    assert points["q1"].counts() == {"used": 3, "withheld": 1, "rejected": 2}
    assert points["q2"].counts() == {"used": 2, "withheld": 0, "rejected": 0}
    order = np.argsort(points["q1"].x)
    batch = obs.batches[0]
    np.testing.assert_array_equal(points["q1"].value[order], batch.values[:6])
    np.testing.assert_array_equal(points["q1"].y[order], batch.where.position[:6, 0])
    departures = batch.values[:5] - obs.hx(background.latest.double()).mean(dim=0)[:5]
    np.testing.assert_allclose(points["q1"].ombg[order][:5], departures)


def test_a_folder_without_analysis_is_named(tmp_path):
    with pytest.raises(MissingProduct, match=r"no analysis\.nc"):
        read_cycle(tmp_path)


def test_a_file_without_layout_is_named(tmp_path):
    folder = sample.write_cycle(tmp_path, LAYOUT, sample.qg_fields(LAYOUT, 1))
    with netCDF4.Dataset(folder / "analysis.nc", "a") as target:
        target.delncattr("cycler_layout")
    with pytest.raises(DataError, match="cycler_layout"):
        read_cycle(folder)


def test_a_field_of_another_shape_is_named(tmp_path):
    folder = sample.write_cycle(tmp_path, LAYOUT, sample.qg_fields(LAYOUT, 1))
    other = sample.qg_layout(16)
    sample.write_cycle(tmp_path / "other", other, sample.qg_fields(other, 1))
    (tmp_path / "other" / "increment.nc").replace(folder / "increment.nc")
    with pytest.raises(DataError, match=r"increment\.nc: q1 has shape \(16, 16\), the layout says \(8, 8\)"):
        read_cycle(folder)


def test_a_damaged_feedback_file_is_named(tmp_path):
    folder = sample.write_cycle(tmp_path, LAYOUT, sample.qg_fields(LAYOUT, 1))
    (folder / "feedback" / "broken.nc").write_bytes(b"not a NetCDF file")
    with pytest.raises(DataError, match=r"broken\.nc"):
        read_cycle(folder)


def test_layers_that_are_not_there_are_none(tmp_path):
    folder = sample.write_cycle(
        tmp_path, LAYOUT, sample.qg_fields(LAYOUT, 1), with_background=False, with_truth=False, n_obs=None
    )
    fields = read_cycle(folder)
    part = fields.variables[0]
    assert [part.background, part.increment, part.truth, part.analysis_error] == [None] * 4
    assert fields.observations == {}
    assert fields.facts.init == fields.facts.valid


def test_an_empty_stream_leaves_no_observations(tmp_path):
    folder = sample.write_cycle(tmp_path, LAYOUT, sample.qg_fields(LAYOUT, 1), n_obs=0)
    assert read_cycle(folder).observations == {}


def test_missing_values_are_nan_and_zeros_are_zero(radar_cycle):
    part = read_cycle(radar_cycle).variables[0]
    assert np.isnan(part.analysis[:, :6]).all()
    assert (part.background == 0).any()
    assert not np.isnan(part.background).any()


def test_positions_follow_the_names_of_the_axes(tmp_path):
    """A grid whose axes are called north and east is read by these names, in array order."""
    axes = tuple(replace(axis, name=name) for axis, name in zip(LAYOUT.grid.axes, ("north", "east"), strict=True))
    layout = replace(LAYOUT, grid=Grid(axes))
    fields = sample.qg_fields(LAYOUT, 1)
    folder = sample.write_cycle(tmp_path, layout, fields)
    points = read_cycle(folder).observations["q1"]
    row, column = (np.round((along - 62500.0) / 125000.0).astype(int) for along in (points.y, points.x))
    np.testing.assert_allclose(points.hofx, fields.background[0][row, column], rtol=1e-6)
