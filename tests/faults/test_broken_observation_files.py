"""A file that cannot be trusted is set aside with its reason; the cycle goes on as if it had not come."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import fault_system as tiny
import netCDF4
import observation_damage as damage
import pytest

pytestmark = pytest.mark.faults


BROKEN: dict[str, Callable[[Path], object]] = {
    "cut at 10 %": lambda path: damage.truncate(path, fraction=0.10),
    "cut at 50 %": lambda path: damage.truncate(path, fraction=0.50),
    "cut at 99 %": lambda path: damage.truncate(path, fraction=0.99),
    "empty": lambda path: path.write_bytes(b""),
    "random bytes": damage.fill_with_noise,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "another grid": damage.put_on_another_grid,
    "unknown variable": damage.rename_variable,
    "other units": lambda path: damage.claim_units(path, "day-1"),
    "not NetCDF": lambda path: path.write_text("station,value\nA,1\n"),
}

REASONS = {
    "other units": "has units 'day-1'; expected 's-1'",
    "a folder": "Is a directory",
    "empty": "is empty (0 bytes)",
    "another grid": "another grid",
    "unknown variable": "unknown variable t1; valid: q1, q2",
}


@pytest.fixture(scope="module")
def without_insitu(make_drill: Callable[[], tiny.Drill]) -> tiny.Hashes:
    """The run for which the file never came."""
    drill = make_drill()
    drill.obs_file("insitu").unlink()
    result = drill.run("cycles.count=1")
    assert result.code == 3, result.output
    assert "no file insitu_20200102T0000Z.nc" in result.output
    return drill.hashes()


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_set_aside_and_the_rest_is_used(
    drill: tiny.Drill, without_insitu: tiny.Hashes, undisturbed: tiny.Hashes, how: str
) -> None:
    BROKEN[how](drill.obs_file("insitu"))
    result = drill.run("cycles.count=1")
    assert result.code == 3, result.output
    (reason,) = drill.summary()["degraded"]
    assert reason.startswith("stream insitu is missing") and str(drill.obs_file("insitu")) in reason
    assert REASONS.get(how, "") in reason
    assert reason.split(":")[0] in result.output  # the operator sees it, too
    assert drill.hashes() == without_insitu
    assert drill.hashes()["20200102T0000Z"]["analysis.nc"] != undisturbed["20200102T0000Z"]["analysis.nc"]
    folder = drill.store().cycle_folder(tiny.CYCLES[0])
    assert not (folder / "obs" / "in.insitu.nc").exists()
    with netCDF4.Dataset(folder / "analysis.nc") as file:
        assert file.cycler_degraded and file.comment == reason  # and whoever opens the analysis alone
    assert drill.store().verify() == []


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
def test_a_flipped_bit_never_changes_an_analysis_unseen(
    drill: tiny.Drill, without_insitu: tiny.Hashes, undisturbed: tiny.Hashes, fraction: float
) -> None:
    damage.flip_bit(drill.obs_file("insitu"), position=fraction)
    result = drill.run("cycles.count=1")
    assert result.code in (0, 3), result.output
    first_two = dict(list(undisturbed.items())[:2])
    assert drill.hashes() == (without_insitu if result.code == 3 else first_two)


def test_without_any_file_that_can_be_read_the_background_is_published_with_a_label(drill: tiny.Drill) -> None:
    drill.obs_file("insitu").write_bytes(b"")
    drill.obs_file("buoys").unlink()
    result = drill.run("cycles.count=1")
    assert result.code == 4, result.output
    tiny.require_background_as_analysis(drill)


@pytest.mark.parametrize(("how", "code"), [("gone", 69), ("empty", 65)])
def test_a_required_stream_stops_the_cycle_and_nothing_of_it_is_published(
    drill: tiny.Drill, how: str, code: int
) -> None:
    path = drill.obs_file("insitu")
    path.unlink() if how == "gone" else path.write_bytes(b"")
    result = drill.run("observations.insitu.required=true")
    assert result.code == code, result.output
    assert "FATAL ERROR" in result.output and "insitu_20200102T0000Z.nc" in result.output
    assert drill.store().complete_cycles() == [tiny.START]
    assert drill.store().latest() == tiny.START


def test_a_required_file_that_comes_later_lets_the_same_command_go_on(
    drill: tiny.Drill, undisturbed: tiny.Hashes
) -> None:
    path, required = drill.obs_file("insitu"), "observations.insitu.required=true"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert drill.run(required).code == 65
    path.write_bytes(content)
    result = drill.run(required)
    assert result.code == 0, result.output
    assert drill.hashes() == undisturbed


def test_a_wrong_path_of_observations_is_refused_before_the_first_cycle(drill: tiny.Drill) -> None:
    result = drill.run(f"observations.buoys.folder={drill.folder / 'nowhere'}")
    assert result.code == 69, result.output
    assert f"folder {drill.folder / 'nowhere'} does not exist" in result.output
    assert drill.store().complete_cycles() == []


def test_observations_may_be_tidied_away_when_every_cycle_is_complete(drill: tiny.Drill) -> None:
    assert drill.run("cycles.count=1").code == 0
    shutil.rmtree(drill.observations)
    assert drill.run("cycles.count=1").code == 0
    assert drill.run().code == 69


def test_a_file_that_goes_bad_between_two_attempts_leaves_nothing_behind(
    drill: tiny.Drill, without_insitu: tiny.Hashes
) -> None:
    drill.run("cycles.count=1", fault="observations.written:2")
    drill.obs_file("insitu").unlink()
    assert drill.run("cycles.count=1").code == 3
    assert drill.hashes() == without_insitu


def test_a_file_that_changes_after_it_was_read_changes_nothing(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    drill.run("cycles.count=1", fault="assimilate.done:2")
    drill.obs_file("insitu").write_bytes(b"")
    assert drill.run("cycles.count=1").code == 0
    assert drill.hashes() == dict(list(undisturbed.items())[:2])
