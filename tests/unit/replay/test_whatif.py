"""A what-if differs from the archive by its observations alone, and impacts are exact."""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.errors import CannotWrite, ConfigError, MissingProduct
from cycler_da.products.dataset import read_ensemble
from cycler_da.products.feedback import read_feedback
from cycler_da.replay.change import Change, read_change
from cycler_da.replay.impact import Event, impact_list
from cycler_da.replay.shadow import find_cycle
from cycler_da.replay.whatif import what_if

LAST = "20200103T0000Z"
EVENT = Event("q1", (3, 4), 0.0)


@pytest.fixture(scope="module")
def archived(replayed):
    return find_cycle(replayed.root / "tiny", LAST, "letkf")


def _values(folder: Path, name: str = "analysis.nc") -> torch.Tensor:
    return read_ensemble(folder / name).values


def test_dropping_nothing_gives_the_archived_analysis_bit_for_bit(archived, tmp_path: Path) -> None:
    report = what_if(archived, Change(), tmp_path)
    assert report["is_same"]
    assert torch.equal(_values(tmp_path), _values(archived.folder))
    assert not _values(tmp_path, "difference.nc").any()
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_an_analysis_without_a_stream_is_that_of_a_run_for_which_the_stream_never_came(
    archived, replayed, tmp_path: Path
) -> None:
    what_if(archived, Change(("stream:buoys",)), tmp_path / "out")
    config = replayed.system.config
    without = [f"root={tmp_path / 'store'}", f"observations.insitu.folder={replayed.observations}"]
    without += [f"observations.buoys.folder={tmp_path / 'buoys'}", "chains.letkf.scheme.inflation=1.03"]
    (tmp_path / "buoys").mkdir()
    for stamp in ("20200102T0000Z",):  # only the last cycle goes without
        (tmp_path / "buoys" / f"buoys_{stamp}.nc").write_bytes(
            (replayed.observations / f"buoys_{stamp}.nc").read_bytes()
        )
    arguments = [word for setting in without for word in ("--set", setting)]
    done = CliRunner().invoke(app, ["run", str(config), "--orchestrator", "none", *arguments])
    assert done.exit_code == 3, done.output
    assert torch.equal(_values(tmp_path / "out"), _values(tmp_path / "store" / "tiny" / "letkf" / "cycles" / LAST))


def test_everything_dropped_leaves_the_background(archived, tmp_path: Path) -> None:
    report = what_if(archived, Change(("stream:buoys", "stream:insitu")), tmp_path)
    assert report["n_used"] == 0 and report["n_used_before"] > 0
    assert torch.equal(_values(tmp_path), _values(archived.folder, "background.nc"))


def test_the_difference_is_what_if_minus_archived_and_its_files_say_what_they_are(archived, tmp_path: Path) -> None:
    report = what_if(archived, Change(scale_error=(("*", 3.0),)), tmp_path)
    assert torch.equal(_values(tmp_path, "difference.nc"), _values(tmp_path) - _values(archived.folder))
    assert report["variables"]["q1"]["spread"] > report["variables"]["q1"]["spread_before"]
    for name in ("analysis.nc", "difference.nc"):
        with netCDF4.Dataset(tmp_path / name) as file:
            assert file.title.startswith("WHAT IF errors of all streams times 3")
            assert file.cycler_kind in ("whatif", "whatif_difference")


def test_one_observation_is_dropped_by_its_id_and_comes_back_with_the_reason(archived, tmp_path: Path) -> None:
    feedback = read_feedback(archived.folder / "feedback" / "insitu.nc")
    one = next(i for i, flag in zip(feedback["ObsId"]["q1"], feedback["EffectiveQC"]["q1"], strict=True) if flag == 0)
    report = what_if(archived, Change((str(one),)), tmp_path)
    assert report["n_used"] == report["n_used_before"] - 1
    told = read_feedback(tmp_path / "feedback" / "insitu.nc")
    (at,) = np.flatnonzero(told["ObsId"]["q1"] == one)
    assert told["EffectiveQC"]["q1"][at] == 14
    assert told["Reason"]["q1"][at] == "dropped in this what-if"


def test_a_region_is_limited_on_the_axes_that_it_names(archived, tmp_path: Path) -> None:
    half = "region:y=0..5e5"
    south = what_if(archived, Change((half,)), tmp_path / "south", check=False)
    corner = what_if(archived, Change((f"{half},x=0..5e5",)), tmp_path / "corner", check=False)
    feedback = read_feedback(tmp_path / "corner" / "feedback" / "insitu.nc")
    dropped = feedback["Reason"]["q1"] == "dropped in this what-if"
    assert dropped.any() and (feedback["MetaData"]["x"][dropped] <= 5e5).all()
    assert south["n_used"] < corner["n_used"] < corner["n_used_before"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change(("stream:bouys",)), "there are: buoys, insitu"),
        (Change(("region:z=0..1",)), "axes are y, x"),
        (Change(("region:y=0",)), "write region:AXIS=LOW..HIGH"),
        (Change(("nothing/0123",)), "names no observation"),
        (Change(scale_error=(("bouys", 2.0),)), "there are: buoys, insitu"),
    ],
)
def test_a_change_that_names_nothing_is_refused(archived, tmp_path: Path, change: Change, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        what_if(archived, change, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["0", "-1", "two", "insitu=", "=2", "nan", "inf"])
def test_a_factor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write a factor > 0"):
        read_change([], [text])


def test_a_folder_with_files_is_not_written_into(archived, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(CannotWrite, match="is not empty"):
        what_if(archived, Change(), tmp_path)


def test_an_archive_that_cannot_be_made_again_gives_no_difference(
    archived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a difference would be told that comes from another version of the code."""
    monkeypatch.setattr("cycler_da.schemes.letkf.Letkf.analyse", lambda self, prior, *args, **named: _keep(prior))
    with pytest.raises(MissingProduct, match="would not be due to the observations"):
        what_if(archived, Change(("stream:buoys",)), tmp_path)


def _keep(prior):
    from cycler_da.schemes.base import Analysis

    return Analysis(prior.background)


def test_the_expected_impact_is_the_exact_one_where_everything_is_linear_and_gaussian(replayed) -> None:
    """The ETKF's mean is the Kalman analysis of the ensemble's covariance: leaving one out has a closed form.

    The tolerance is that of the float32 in which ensembles are stored: 1e-7 of q (1e-5 s-1) beside impacts of 1e-7 s-1.
    """
    found = impact_list(find_cycle(replayed.root / "tiny", LAST, "etkf"), EVENT, n_exact=12)
    expected = np.array([one.expected for one in found.impacts])
    exact = np.array([one.mean for one in found.impacts])
    assert np.abs(exact).max() > 1e-7
    np.testing.assert_allclose(expected, exact, rtol=0.02, atol=1e-10)


def test_impacts_are_listed_with_the_largest_first_and_probabilities_in_steps_of_a_member(archived) -> None:
    event = Event("q2", (8, 8), 1e-7, steps=1)
    found = impact_list(archived, event, n_exact=6)
    sizes = [abs(one.mean) for one in found.impacts]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 6 and sizes[0] > 0
    assert all(float(6 * one.probability).is_integer() for one in found.impacts)
    assert found.n_screened > 6


def test_the_commands_say_what_moved(archived, replayed, tmp_path: Path) -> None:
    experiment = str(replayed.root / "tiny")
    common = [experiment, "--cycle", "latest", "--chain", "letkf"]
    done = CliRunner().invoke(
        app, ["whatif", *common, "--drop", "stream:buoys", "--scale-error", "insitu=2", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "without stream:buoys; errors of insitu times 2" in done.stdout and "q1: rms difference" in done.stdout
    done = CliRunner().invoke(app, ["impact", *common, "--event", "q1>=0", "--cell", "3,4", "--exact", "2"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("P(q1>=0) = ")
    for wrong in (["--event", "q1>0", "--cell", "3,4"], ["--event", "q1>=0", "--cell", "3,99"]):
        assert CliRunner().invoke(app, ["impact", *common, *wrong]).exit_code == 78
