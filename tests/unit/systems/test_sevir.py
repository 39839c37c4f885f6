"""SEVIR files and the nature run made of them: exact values, positions, and messages for what is wrong."""

from __future__ import annotations

import gzip
import pickle

import h5py
import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.registry import lookup
from cycler_da.systems import sevir_grid
from cycler_da.systems.sevir import SevirNatureSpec, SevirSystemSpec
from cycler_da.systems.sevir_codec import decode
from cycler_da.systems.sevir_files import coarsen_centre, coarsen_max, read_catalog, read_event

START = np.datetime64("2019-06-01T00:00:00", "s")
MINUTE = np.timedelta64(60, "s")
# A row of the archive's catalogue.
CATALOG = (
    "id,file_name,file_index,img_type,time_utc,minute_offsets,llcrnrlat,llcrnrlon,urcrnrlat,urcrnrlon\n"
    "S834603,vis/x.h5,0,vis,1999-01-01 00:00:00,0,0,0,0,0\n"
    "S834603,vil/2019/SEVIR_VIL_STORMEVENTS_2019_0101_0630.h5,0,vil,2019-05-12 18:30:00,-119:-115:-110:-104,"
    "29.86291091102648,-100.85553007644953,33.352318557307264,-96.8381467126008\n"
)


@pytest.fixture
def codes() -> np.ndarray:
    """Two events, 128 x 128, five frames: every pixel's code tells its event, row, column and time."""
    event, y, x, time = np.meshgrid(np.arange(2), np.arange(128), np.arange(128), np.arange(5), indexing="ij")
    return ((7 * event + 3 * y + 5 * x + 11 * time) % 255).astype(np.uint8)


@pytest.fixture
def path(tmp_path, codes):
    file_path = tmp_path / "events.h5"
    with h5py.File(file_path, "w") as file:
        file["vil"] = codes
        file["id"] = np.array([b"S834603", b"R17010100157316"])
    return file_path


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def test_states_are_the_decoded_frames_of_the_event(path, codes):
    nature = SevirNatureSpec(path=str(path), event="R17010100157316").build()
    assert nature.valid_times.tolist() == (START + 10 * MINUTE * np.arange(3)).tolist()
    states = nature.states(nature.valid_times[[2, 0]])
    expected = decode(codes[1][..., [4, 0]].transpose(2, 0, 1))[:, None]
    np.testing.assert_array_equal(states.numpy(), expected)


def test_event_is_chosen_by_row_or_by_id(path):
    by_row, by_id = (SevirNatureSpec(path=str(path), event=event).build() for event in (0, "S834603"))
    np.testing.assert_array_equal(by_row.codes, by_id.codes)
    assert by_row.attributes["event"] == "S834603"


def test_missing_is_nan_and_masked_but_no_echo_is_zero(tmp_path):
    values = np.zeros((1, 128, 128, 2), dtype=np.uint8)
    values[0, 10, 20, 1] = 255
    nature = SevirNatureSpec(path=str(write(tmp_path / "m.h5", vil=values)), step="5min").build()
    missing = nature.missing(nature.valid_times)
    assert missing.nonzero().tolist() == [[1, 0, 10, 20]]
    states = nature.states(nature.valid_times)
    assert torch.equal(torch.isnan(states), missing) and float(states.nan_to_num().abs().max()) == 0.0


def test_dimension_names_of_a_netcdf_file_are_obeyed(tmp_path, codes):
    netcdf = pytest.importorskip("netCDF4")
    with netcdf.Dataset(tmp_path / "events.nc", "w") as file:
        for name, size in zip(("seq", "time", "y", "x"), (2, 5, 128, 128), strict=True):
            file.createDimension(name, size)
        file.createVariable("vil", "u1", ("seq", "time", "y", "x"))[:] = codes.transpose(0, 3, 1, 2)
    read, _ = read_event(tmp_path / "events.nc", 1)
    np.testing.assert_array_equal(read, codes[1].transpose(2, 0, 1))


def test_the_largest_code_of_a_block_is_kept_unless_a_pixel_is_missing():
    fine = np.zeros((1, 6, 6), dtype=np.uint8)
    fine[0, 0, 2], fine[0, 4, 4], fine[0, 3, 3] = 90, 40, 255
    np.testing.assert_array_equal(coarsen_max(fine)[0], [[90, 0], [0, 255]])
    np.testing.assert_array_equal(coarsen_centre(fine)[0], [[0, 0], [0, 40]])


def test_a_published_event_is_brought_to_three_kilometres(tmp_path):
    fine = np.random.default_rng(3).integers(0, 255, (1, 384, 384, 3), dtype=np.uint8)
    source = write(tmp_path / "fine.h5", vil=fine)
    coarse = SevirNatureSpec(path=str(source), step="5min", coarsen="max").build()
    expected = fine[0, 30:33, 60:63, 1].max()
    assert coarse.codes[1, 10, 20] == expected and coarse.layout.grid.shape == (128, 128)
    full = SevirNatureSpec(path=str(source), step="5min", size=384).build()
    np.testing.assert_array_equal(full.codes, fine[0].transpose(2, 0, 1))


def test_catalogue_corners_are_384_km_apart_on_the_map():
    south, west = sevir_grid.corner_at((29.86291091102648, -100.85553007644953))
    north, east = sevir_grid.corner_at((33.352318557307264, -96.8381467126008))
    np.testing.assert_allclose([north - south, east - west], 384000.0, atol=1e-3)


def test_map_positions_come_back_as_degrees():
    latitude, longitude = np.array([25.0, 38.0, 49.5]), np.array([-120.0, -98.0, -70.0])
    back = sevir_grid.degrees_of(*sevir_grid.map_position(latitude, longitude))
    np.testing.assert_allclose(back, [latitude, longitude], atol=1e-9)


def test_cell_centres_lie_half_a_cell_inside_the_corner():
    layout = SevirSystemSpec(size=384, lower_left=(29.86291091102648, -100.85553007644953)).layout()
    south, west = sevir_grid.corner_at((29.86291091102648, -100.85553007644953))
    assert [axis.origin for axis in layout.grid.axes] == pytest.approx([south + 500.0, west + 500.0], abs=0.5)
    assert layout.grid.grid_mapping["georeference"] == "config"


def test_catalogue_gives_position_and_nominal_times(tmp_path, path):
    catalog = tmp_path / "CATALOG.csv"
    catalog.write_text(CATALOG)
    nature = SevirNatureSpec(path=str(path), step="5min", catalog=str(catalog)).build()
    # The first frame is 119 minutes before 18:30; nominally 120.
    assert nature.valid_times[0] == np.datetime64("2019-05-12T16:30:00")
    system = SevirSystemSpec(step="5min", lower_left=(29.86291091102648, -100.85553007644953)).layout()
    assert nature.layout.grid.axes == system.grid.axes
    assert nature.layout.grid.grid_mapping["georeference"] == "catalogue"


def test_a_compressed_catalogue_reads_alike(tmp_path):
    (tmp_path / "CATALOG.csv").write_text(CATALOG)
    with gzip.open(tmp_path / "CATALOG.csv.gz", "wt") as file:
        file.write(CATALOG)
    plain, packed = (read_catalog(tmp_path / name, "S834603") for name in ("CATALOG.csv", "CATALOG.csv.gz"))
    assert plain == packed and plain.minute_offsets == (-119, -115, -110, -104)


def test_an_event_that_is_listed_twice_is_taken_when_both_rows_agree_and_refused_when_not(tmp_path):
    lines = CATALOG.rstrip("\n").splitlines()
    row = next(line for line in lines if line.startswith("S834603") and ",vil," in line)
    path = tmp_path / "CATALOG.csv"
    path.write_text("\n".join([*lines, row]) + "\n")
    assert read_catalog(path, "S834603").event == "S834603"
    path.write_text("\n".join([*lines, row.replace("2019-05-12 18:30:00", "2019-05-13 18:30:00")]) + "\n")
    with pytest.raises(DataError, match="2 times"):
        read_catalog(path, "S834603")


def test_system_and_nature_share_a_layout_and_say_that_the_position_is_assumed(path):
    nature = SevirNatureSpec(path=str(path)).build()
    SevirSystemSpec().build().layout.require_same(nature.layout, what="nature")
    assert nature.attributes["georeference"] == nature.layout.grid.grid_mapping["georeference"] == "assumed"


def test_registry_knows_radar_as_system_and_as_nature():
    assert lookup("system", "sevir") is SevirSystemSpec
    assert lookup("nature", "sevir") is SevirNatureSpec


def test_a_nature_run_survives_pickling(path):
    nature = SevirNatureSpec(path=str(path)).build()
    again = pickle.loads(pickle.dumps(nature))
    assert torch.equal(again.states(nature.valid_times), nature.states(nature.valid_times))


def test_an_absent_file_tells_where_sevir_is_and_what_it_looks_like(tmp_path):
    with pytest.raises(MissingInput) as caught:
        SevirNatureSpec(path=str(tmp_path / "absent.h5")).build()
    for part in ("s3://sevir", "[N, 384, 384, 49]", "uint8", "--set nature.path=", "Veillette", str(tmp_path)):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("datasets", "found"),
    [
        ({"vis": np.zeros((1, 128, 128, 5), np.uint8)}, "only ['vis']"),
        ({"vil": np.zeros((1, 128, 128, 5), np.float32)}, "float32"),
        ({"vil": np.zeros((128, 128, 5), np.uint8)}, "(128, 128, 5)"),
        ({"vil": np.zeros((1, 5, 128, 128), np.uint8)}, "(1, 5, 128, 128)"),
        ({"vil": np.zeros((1, 96, 96, 5), np.uint8)}, "(1, 96, 96, 5)"),
    ],
)
def test_a_file_of_another_form_is_refused_with_both_forms(tmp_path, datasets, found):
    with pytest.raises(DataError) as caught:
        read_event(write(tmp_path / "wrong.h5", **datasets), 0)
    assert found in str(caught.value) and "[N, 384, 384, 49]" in str(caught.value)


@pytest.mark.parametrize("damage", ["empty", "truncated", "random"])
def test_a_damaged_file_is_refused(path, damage):
    content = path.read_bytes()
    random = np.random.default_rng(0).bytes(5000)
    path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "random": random}[damage])
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        read_event(path, 0)


@pytest.mark.parametrize("event", [2, -1, "S000000"])
def test_an_unknown_event_is_refused(path, event):
    with pytest.raises(DataError, match=str(event)):
        read_event(path, event)


def test_an_event_without_any_known_pixel_is_refused(tmp_path):
    blind = write(tmp_path / "blind.h5", vil=np.full((1, 128, 128, 3), 255, np.uint8))
    with pytest.raises(DataError, match="every pixel"):
        SevirNatureSpec(path=str(blind)).build()


def test_one_kilometre_is_not_made_from_three(path):
    with pytest.raises(DataError, match=r"set system.size and nature.size to 128"):
        SevirNatureSpec(path=str(path), size=384).build()


def test_a_time_between_frames_is_refused_with_the_times_there_are(path):
    nature = SevirNatureSpec(path=str(path)).build()
    with pytest.raises(MissingInput, match="00:05:00Z; it has 3 frames from 2019-06-01T00:00:00Z"):
        nature.states(np.array([START + 5 * MINUTE]))


@pytest.mark.parametrize(
    "settings", [{"size": 100}, {"step": "7min"}, {"step": "0min"}, {"coarsen": "mean"}, {"start_time": "noon"}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ConfigError):
        SevirNatureSpec(path="any.h5", **settings)


def test_a_catalogue_needs_ids_in_the_file(tmp_path, codes):
    bare = write(tmp_path / "bare.h5", vil=codes)
    with pytest.raises(DataError, match=r"nature\.lower_left"):
        SevirNatureSpec(path=str(bare), catalog=str(tmp_path / "CATALOG.csv")).build()


def test_real_sevir_files_in_both_formats_hold_the_same_storm(realdata):
    natures = [SevirNatureSpec(path=str(realdata / f"sevir_vil_diffcast_demo01.{end}")).build() for end in ("h5", "nc")]
    np.testing.assert_array_equal(natures[0].codes, natures[1].codes)
    # Genuine SEVIR never holds code 1, and this storm moves north: the centre of echo rises by rows.
    assert not (natures[0].codes == 1).any()
    echo = natures[0].codes >= 133
    rows = [frame.nonzero()[0].mean() for frame in echo[[0, 6]]]
    assert rows[1] > rows[0]


def test_real_catalogue_patches_are_384_km(realdata):
    import csv

    with gzip.open(realdata / "sevir_catalog_2019H1_subset.csv.gz", "rt", newline="") as lines:
        rows = [
            [float(row[name]) for name in ("llcrnrlat", "llcrnrlon", "urcrnrlat", "urcrnrlon")]
            for row in csv.DictReader(lines)
        ]
    corners = np.array(rows)
    lower = sevir_grid.map_position(corners[:, 0], corners[:, 1])
    upper = sevir_grid.map_position(corners[:, 2], corners[:, 3])
    np.testing.assert_allclose(np.subtract(upper, lower), 384000.0, atol=1e-2)
