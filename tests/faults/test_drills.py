"""The drills that `cycler drill` runs: each can be run, and what should not be is noticed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import fault_system as tiny
import netCDF4
import pytest
from typer.testing import CliRunner

from cycler_da.bench.operations.drill import drill_result
from cycler_da.bench.shares import wilson
from cycler_da.cli import app
from cycler_da.drills.catalogue import DRILLS, NOT_DRILLED, chosen
from cycler_da.drills.reading import read_cycle
from cycler_da.drills.trials import FaultDrill, Ground, Outcome, judged, run_trials
from cycler_da.errors import ConfigError, MissingProduct

pytestmark = pytest.mark.faults


@pytest.fixture(scope="session")
def ground(system: tiny.TinySystem, server: tiny.CommandServer, room: Path) -> Iterator[Ground]:
    with closing(Ground(system, server, room)) as ground:
        yield ground


@pytest.mark.parametrize(
    "name", ["kill", "broken_file", "lying_file", "store_bit", "surroundings", "late", "blow_up", "archive", "paused"]
)
def test_one_trial_of_a_drill_recovers_and_publishes_nothing_wrong(ground: Ground, name: str) -> None:
    (outcome,) = run_trials(chosen([name]), ground, trials=1, seed=5, on_trial=lambda name: None)[name]
    assert outcome.recovered and not outcome.wrong, outcome.told


def test_a_trial_that_ends_with_an_error_has_not_recovered_and_the_others_go_on(ground: Ground) -> None:
    drawn: list[float] = []

    def trial(ground: Ground, draw: random.Random) -> Outcome:
        drawn.append(draw.random())
        if len(drawn) == 1:
            raise MissingProduct("a manifest cannot be read")
        return Outcome(True)

    drill = FaultDrill("toy", 29, "a fault", trial, 2)
    first, second = run_trials([drill], ground, trials=None, seed=5, on_trial=lambda name: None)["toy"]
    assert not first.recovered and "MissingProduct: a manifest cannot be read" in first.told
    assert second.recovered


def test_a_published_cycle_with_another_value_is_noticed_as_wrong(ground: Ground) -> None:
    with ground.drill() as drill:
        result = drill.run("cycles.count=1", "chains.letkf.scheme.inflation=1.2")
        found = judged(drill, result, ground.first(ground.undisturbed))
    assert found.wrong and not found.recovered and tiny.time_stamp(tiny.CYCLES[0]) in found.told


def test_a_published_file_that_is_edited_is_noticed_as_wrong(ground: Ground) -> None:
    with ground.drill() as drill:
        result = drill.run("cycles.count=1")
        with netCDF4.Dataset(drill.store().cycle_folder(tiny.CYCLES[0]) / "analysis.nc", "r+") as file:
            file["q1"][0, 0, 0, 0] += 1e-6
        found = judged(drill, result, ground.first(ground.undisturbed))
    assert found.wrong and "analysis.nc" in found.told


def test_a_run_that_does_not_end_as_it_should_has_not_recovered(ground: Ground) -> None:
    with ground.drill() as drill:
        drill.obs_file().unlink()
        found = judged(drill, drill.run("cycles.count=1"), ground.without_insitu, code=0)
    assert not found.recovered and not found.wrong and "code 3, expected 0" in found.told


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in DRILLS])
def test_two_trials_of_every_drill_recover(ground: Ground, name: str) -> None:
    found = run_trials(chosen([name]), ground, trials=2, seed=3, on_trial=lambda name: None)[name]
    assert [one.told for one in found if not one.recovered or one.wrong or one.lost] == []


def test_a_reader_notices_a_file_that_is_not_the_one_of_the_manifest(ground: Ground) -> None:
    with ground.drill() as drill:
        drill.run("cycles.count=1")
        latest, folder = drill.store().chain_folder / "latest", drill.store().cycle_folder(tiny.CYCLES[0])
        assert read_cycle(latest) == read_cycle(folder) == "whole"
        content = (folder / "analysis.nc").read_bytes()
        (folder / "analysis.nc").write_bytes(content[:-1])
        assert read_cycle(latest) == "partial"
        (folder / "analysis.nc").unlink()
        assert read_cycle(latest) == "partial"
        (folder / "analysis.nc").write_bytes(content)
        (folder / "_SUCCESS").unlink()
        assert read_cycle(latest) == "replaced" and read_cycle(folder.parent / "none") == "none"


def test_every_fault_of_the_list_is_drilled_or_named(ground: Ground) -> None:
    assert {one.number for one in DRILLS} | set(NOT_DRILLED) == set(range(1, 31))


def test_trials_strike_elsewhere_each_time_and_where_they_did_for_the_same_seed() -> None:
    def points(seed: int) -> list[float]:
        return [random.Random(f"{seed}/kill/{number}").random() for number in range(4)]

    assert points(1) == points(1) and len(set(points(1)) | set(points(2))) == 8


def test_an_unknown_drill_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown drill 'kil'.*Did you mean 'kill'"):
        chosen(["kil"])
    with pytest.raises(ConfigError):
        drill_result(["kil"], trials=1, seed=1)
    assert CliRunner().invoke(app, ["drill", "kil"]).exit_code == 78
    listed = CliRunner().invoke(app, ["drill", "--list"])
    assert listed.exit_code == 0 and "not drilled" in listed.stdout and "store_bit" in listed.stdout


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(0, 100, 0.0, 0.0370), (100, 100, 0.9630, 1.0), (5, 10, 0.2366, 0.7634)]
)
def test_shares_have_wilson_s_interval(k: int, n: int, low: float, high: float) -> None:
    """Values of the formula in Brown, Cai and DasGupta (2001), Statist. Sci. 16, 101."""
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)
