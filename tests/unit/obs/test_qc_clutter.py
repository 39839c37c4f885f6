"""Clutter of radars and missing pixels written as zero, on pictures drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import QC, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.obs.qc import quality_control
from cycler_da.obs.qc_clutter import ClutterSettings, clutter
from cycler_da.obs.qc_settings import MissingAsZero, QCSettings

N, SPACING = 64, 3000.0
AXES = tuple(Axis(name, N, SPACING, origin) for name, origin in (("y", -6000.0), ("x", 9000.0)))
LAYOUT = Layout("radar", (Variable("vil", "kg m-2", "liquid", 0.0, 80.0),), Grid(AXES), np.timedelta64(600, "s"))
SITE = (-6000.0 + 30 * SPACING, 9000.0 + 24 * SPACING)  # cell (30, 24)
ROWS, COLUMNS = np.indices((N, N))
DISTANCE = np.hypot(ROWS - 30, COLUMNS - 24)
#: A storm of 12 x 14 cells, thicker than any clutter.
STORM = (abs(ROWS - 46) <= 6) & (abs(COLUMNS - 30) <= 7)


def _kinds(field, *, seen=None, **options):
    row, column = np.nonzero(np.ones((N, N), dtype=bool) if seen is None else seen)
    index = np.stack([row, column], axis=1).astype(np.float64)
    found = np.full((N, N), "", dtype="U8")
    found[row, column] = clutter(field[row, column], index, LAYOUT.grid, ClutterSettings(echo=0.15, **options))
    return found


def test_an_echo_alone_is_speckle_and_the_edge_of_a_storm_is_not():
    field = np.where(STORM, 4.0, 0.0)
    field[5, 60], field[0, 0], field[10, 10], field[11, 11] = 1.0, 0.2, 1.0, 1.0
    found = _kinds(field)
    assert set(zip(*np.nonzero(found == "speckle"), strict=True)) == {(5, 60)}  # (0, 0) has three neighbours only
    assert set(zip(*np.nonzero(_kinds(field, neighbours=2)), strict=True)) == {(5, 60), (10, 10), (11, 11)}
    assert not (_kinds(field, neighbours=0) != "").any()


def test_a_ring_is_rejected_but_for_where_a_storm_lies_on_it():
    ring = np.abs(DISTANCE - 20.0) < 0.5
    found = _kinds(np.where(STORM | ring, 4.0, 0.0), sites=(SITE,))
    assert set(found.flat) == {"", "ring"}
    assert not (found[STORM] == "ring").any()
    far = ring & (np.hypot((ROWS - 46) / 6, (COLUMNS - 30) / 7) > 2.0)
    assert (found[far] == "ring").all()
    assert (_kinds(np.where(STORM, 4.0, 0.0), sites=(SITE,)) == "").all()


@pytest.mark.parametrize("angle", [0.0, 33.0, 90.0, 200.0, 315.0])
def test_a_spike_is_rejected_whole_at_any_angle(angle):
    along = (ROWS - 30) * np.cos(np.deg2rad(angle)) + (COLUMNS - 24) * np.sin(np.deg2rad(angle))
    across = (COLUMNS - 24) * np.cos(np.deg2rad(angle)) - (ROWS - 30) * np.sin(np.deg2rad(angle))
    spike = (np.abs(across) <= 0.5) & (along >= 6)
    found = _kinds(np.where(spike, 2.0, 0.0), sites=(SITE,))
    whole = spike & (ROWS >= 3) & (ROWS < N - 3) & (COLUMNS >= 3) & (COLUMNS < N - 3)  # both sides in the picture
    assert (found[whole] == "spike").all()
    assert (found[~spike] == "").all()


def test_a_squall_line_that_no_ray_follows_stays():
    line = np.abs((ROWS - 30) * 0.8 + (COLUMNS - 24) * 0.6 - 12.0) < 1.0  # thin, 12 cells from the site
    assert (_kinds(np.where(line, 8.0, 0.0), sites=(SITE,)) == "").all()


def test_cells_that_nobody_observed_are_not_clear():
    seen = np.random.default_rng(0).random((N, N)) < 0.1
    ring = np.abs(DISTANCE - 20.0) < 0.5
    assert (_kinds(np.where(ring, 4.0, 0.0), seen=seen, sites=(SITE,)) == "").all()


def test_settings_that_cannot_be_right_are_refused():
    for options in ({"neighbours": 9}, {"thickness": 1.0}, {"share": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            ClutterSettings(echo=0.15, **options)
    with pytest.raises(ConfigError, match="share"):
        MissingAsZero(echo=0.15, share=2.0)


def _controlled(make_batch, window, value, hx, **options):
    """Every cell observed, through the whole quality control; flags and reasons as pictures."""
    position = np.stack([axis.centres()[k] for axis, k in zip(AXES, (ROWS.ravel(), COLUMNS.ravel()), strict=True)], -1)
    batch = make_batch(
        LAYOUT, position=position.tolist(), values=value.ravel().tolist(), operator=CellSpec().build(LAYOUT)
    )
    members = torch.stack([torch.from_numpy(one.ravel().astype(np.float64)) for one in hx])
    settings = QCSettings(background_check=None, stream_check=None, **options)
    seen = quality_control(Observations((batch,), LAYOUT), members, window=window, settings=settings, noise=Noise(1))
    return seen.flags.numpy().reshape(N, N), np.asarray(seen.batches[0].reasons).reshape(N, N)


def test_clutter_comes_back_with_its_flag_and_a_reason(make_batch, window):
    field = np.where(STORM, 4.0, 0.0)
    field[5, 60] = 1.0
    flags, reasons = _controlled(make_batch, window, field, [field, field], clutter=ClutterSettings(echo=0.15))
    assert flags[5, 60] == QC.BUDDY
    assert reasons[5, 60] == "vil 1 kg m-2 is part of a speckle"
    assert (flags != 0).sum() == 1


def test_an_outage_written_as_zero_is_set_aside_and_clear_sky_is_not(make_batch, window):
    # The background has a storm in the whole box of rows 16-31 and columns 32-47, and in half of the next one.
    storm = (ROWS >= 16) & (ROWS < 32) & (COLUMNS >= 32) & (COLUMNS < 56)
    members = [np.where(storm, size, 0.0) for size in (2.0, 3.0)]
    flags, reasons = _controlled(
        make_batch, window, np.zeros((N, N)), members, missing_as_zero=MissingAsZero(echo=0.15)
    )
    whole = storm & (COLUMNS < 48)
    assert (flags[whole] == QC.FIRST_GUESS).all()
    assert (flags[~whole] == QC.USED).all()
    assert reasons[20, 40] == (
        "none of 256 observations of a box of 16 cells is echo, the background has it at 256 of them: "
        "missing written as zero?"
    )


def test_one_echo_in_a_box_is_enough_to_believe_its_zeros(make_batch, window):
    storm = (ROWS >= 16) & (ROWS < 32) & (COLUMNS >= 32) & (COLUMNS < 48)
    value = np.zeros((N, N))
    value[20, 40] = 0.2
    members = [np.where(storm, size, 0.0) for size in (2.0, 3.0)]
    flags, _ = _controlled(make_batch, window, value, members, missing_as_zero=MissingAsZero(echo=0.15))
    assert (flags == QC.USED).all()
