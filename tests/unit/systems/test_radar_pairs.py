"""Training samples of radar: exact times and pixels, equal draws, masks, and no SEVIR in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.systems.radar_pairs import RadarPairs, RadarSequence, make_pairs, read_sequence, source_files


def translating(n: int = 21, *, minutes: int = 2, name: str = "moving") -> RadarSequence:
    """A blob that moves by 6 px (two cells of 3 km) to the north in 10 minutes, on a 192 km square."""
    y, x = np.meshgrid(np.arange(192), np.arange(192), indexing="ij")
    rows = 60 + 0.6 * minutes * np.arange(n)
    codes = np.stack([200 * np.exp(-((y - row) ** 2 + (x - 90) ** 2) / (2 * 18.0**2)) for row in rows])
    return RadarSequence(name, codes.round().astype(np.uint8), minutes * np.arange(n))


@pytest.fixture(scope="module")
def pairs() -> RadarPairs:
    return make_pairs([translating(), translating(n=18, name="other")], phases=[(1, 1)])


def test_every_start_with_four_frames_ten_minutes_apart_is_a_sample(pairs):
    # Frames at 0, 2, ... 40 minutes: starts from 20 to 30; at 0 ... 34: from 20 to 24.
    assert pairs.sequence == ("moving",) * 6 + ("other",) * 3


def test_targets_are_the_frames_ten_minutes_later_with_weak_codes_at_zero(pairs):
    codes = translating().codes[15:21, 1::3, 1::3]
    expected = np.where(codes >= 6, codes / 255.0, 0.0)
    np.testing.assert_allclose(pairs.target[:6, 0].float(), expected, atol=3e-4)  # float16


def test_all_history_frames_are_brought_to_the_time_of_the_target(pairs):
    error = (pairs.history.float() - pairs.target.float()).abs()
    # The blob only moves, so what is left is interpolation of its curvature and rounding to codes.
    assert float(error.max()) < 0.02


def test_equal_step_and_seed_give_equal_batches_and_others_do_not(pairs):
    first, again = pairs.batch(5, 4, seed=3, crop=32), pairs.batch(5, 4, seed=3, crop=32)
    assert torch.equal(first.history, again.history) and torch.equal(first.target, again.target)
    for other in (pairs.batch(6, 4, seed=3, crop=32), pairs.batch(5, 4, seed=4, crop=32)):
        assert not torch.equal(first.target, other.target)


def test_history_and_target_are_cut_turned_and_scaled_alike(pairs):
    batch = pairs.batch(0, 32, seed=0, crop=48)
    assert float((batch.history - batch.target).abs().max()) < 1.4 * 0.02
    peaks = batch.target.amax(dim=(1, 2, 3))
    assert float(peaks.max()) <= 254 / 255 + 1e-6 and float(peaks.max() - peaks.min()) > 0.1


def test_missing_pixels_have_no_weight_and_hold_zero():
    sequence = translating()
    sequence.codes[:, :, 150:] = 255
    pairs = make_pairs([sequence], phases=[(1, 1)])
    assert torch.equal(pairs.known[0, 0, 0], torch.arange(64) < 50)
    assert float(pairs.history[..., 52:].abs().max()) == 0.0 and float(pairs.target[..., 50:].abs().max()) == 0.0


def test_sequences_can_be_held_out(pairs):
    kept = pairs.select(["other"])
    assert len(kept) == 3 and torch.equal(kept.target, pairs.target[6:])
    assert torch.equal(kept.whole([2]).target[0], pairs.target[8].float())


def test_crops_larger_than_the_field_and_sequences_too_short_are_refused(pairs):
    with pytest.raises(ConfigError, match="crop"):
        pairs.batch(0, 1, seed=0, crop=65)
    with pytest.raises(DataError, match="10 minutes apart"):
        make_pairs([translating(n=10)])


def test_files_are_read_by_name_and_sevir_is_refused(tmp_path):
    netcdf = pytest.importorskip("netCDF4")
    sequence = translating(n=5)
    for name in ("b_radar.nc", "a_radar.nc", "sevir_storm.nc"):
        with netcdf.Dataset(tmp_path / name, "w") as file:
            for axis, size in zip(("time", "y", "x"), sequence.codes.shape, strict=True):
                file.createDimension(axis, size)
            file.createVariable("vil_proxy_code", "u1", ("time", "y", "x"))[:] = sequence.codes
            file.createVariable("minute", "i2", ("time",))[:] = 30 + sequence.minutes
    found = source_files(tmp_path)
    assert [path.name for path in found] == ["a_radar.nc", "b_radar.nc"]
    read = read_sequence(found[0])
    np.testing.assert_array_equal(read.codes, sequence.codes)
    np.testing.assert_array_equal(read.minutes, sequence.minutes)
    with pytest.raises(DataError, match="never trained on"):
        read_sequence(tmp_path / "sevir_storm.nc")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(MissingInput, match="vil_proxy_code"):
        source_files(tmp_path)


def test_advection_beats_persistence_on_real_proxies(realdata):
    sequence = read_sequence(realdata / "fmi_20160928.nc")
    pairs = make_pairs([sequence], phases=[(1, 1)])
    target, known = pairs.target.float(), pairs.known

    def rmse(forecast: torch.Tensor) -> float:
        return float(((forecast - target)[known] ** 2).mean().sqrt())

    frames = np.stack([sequence.codes[k][1::3, 1::3] for k in range(4, 38)])
    last = torch.from_numpy(np.where(frames >= 6, frames / 255.0, 0.0)).float()[:, None]
    assert rmse(pairs.history[:, -1:].float()) < 0.75 * rmse(last)
