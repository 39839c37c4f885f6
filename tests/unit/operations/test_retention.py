"""Retention: what goes is archived, verified and needed by nobody; what stays is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from typer.testing import CliRunner

from cycler_da.bench.operations.soak_case import CHAIN, EVERY, make_case
from cycler_da.cli import app
from cycler_da.clock import HandClock
from cycler_da.errors import ConfigError, MissingProduct
from cycler_da.experiment import Experiment
from cycler_da.operations.retention import Report, carry_out, needed, plan, require_archive
from cycler_da.operations.serving import look
from cycler_da.operations_blocks import RetentionBlock
from cycler_da.products.manifest import Inputs, build_manifest, read_manifest
from cycler_da.products.retirement import read_retired
from cycler_da.products.stages import is_same_file
from cycler_da.setting import load_setting
from cycler_da.tables.innovations import innovation_rows

CYCLES = 5
TIERS = {"tiers": [{"files": "*.nc", "keep": "6h"}, {"files": "*", "keep": None}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Five cycles, all final."""
    case = make_case(tmp_path_factory.mktemp("retention"), cycles=CYCLES, members=3)
    for stream in ("buoys", "drifters"):
        for time in case.times[1:]:
            case.deliver(stream, time)
    with Experiment(load_setting(case.config), clock=HandClock(case.times[-1] + 4 * EVERY)) as experiment:
        experiment.prepare()
        look(experiment, stop=Event())
    return case


@pytest.fixture
def case(served, tmp_path):
    """A copy of its store, and an archive."""
    shutil.copytree(served.folder / "runs", tmp_path / "runs", symlinks=True)
    (tmp_path / "archive").mkdir()
    return served


@pytest.fixture
def store(case, tmp_path):
    from cycler_da.products.store import Store

    return Store(tmp_path / "runs", "soak", CHAIN)


@pytest.fixture
def block(tmp_path):
    return RetentionBlock.model_validate({"archive": str(tmp_path / "archive"), **TIERS})


def retain(store, block, times):
    report = Report()
    for one in list(plan(store, block, times)):
        carry_out(one, require_archive(block), report)
    return report


def test_old_files_go_into_the_archive_and_verify_still_passes(store, block, case):
    listed = {time: store.manifest(time)["files"] for time in case.times}
    report = retain(store, block, case.times)
    assert report.problems == [] and report.files > 0
    assert store.verify() == []
    oldest = store.cycle_folder(case.times[1])
    assert not list(oldest.glob("*.nc")) and (oldest / "diag" / "summary.json").is_file()
    for name, note in read_retired(oldest).items():
        assert note["sha256"] == listed[case.times[1]][name]["sha256"]
    assert retain(store, block, case.times).files == 0  # nothing is left to do


def test_the_table_of_innovations_does_not_need_backgrounds_that_were_retired(store, block, case):
    cycles = {CHAIN: [store.cycle_folder(time) for time in case.times[1:]]}
    before = innovation_rows(cycles)
    tiers = [{"files": "background.nc", "keep": "6h"}]
    retain(store, RetentionBlock.model_validate({**block.model_dump(), "tiers": tiers}), case.times)
    assert not (store.cycle_folder(case.times[1]) / "background.nc").exists()
    assert innovation_rows(cycles) == before and before


def test_the_newest_cycles_stay_whole_however_short_the_tiers(store, block, case):
    retain(
        store,
        RetentionBlock.model_validate({**block.model_dump(), "tiers": [{"files": "*", "keep": "0s"}]}),
        case.times,
    )
    for time in case.times[-2:]:
        assert read_retired(store.cycle_folder(time)) == {}
        assert store.product(time, "analysis.nc").is_file()


def test_what_an_unfinished_cycle_needs_stays(store, block, case):
    gap = case.times[3]
    assert case.times[1] not in needed(store, case.times)
    shutil.rmtree(store.cycle_folder(gap))  # a cycle that is to be made again
    found = needed(store, case.times)
    assert {case.times[1], case.times[2]} <= found
    retain(store, block, case.times)
    assert store.product(case.times[2], "analysis.nc").is_file()


@pytest.mark.parametrize("number", [1, -1])
def test_a_damaged_manifest_stops_the_retention_of_no_other_cycle(store, block, case, number):
    """It may be that of the newest cycle, which says how many frames a model reads: then all may be."""
    damaged = store.cycle_folder(case.times[number])
    (damaged / "MANIFEST.json").write_text("?")
    report = retain(store, block, case.times)
    assert report.problems == [] and (damaged / "analysis.nc").is_file()
    assert (report.files > 0) is (number == 1)
    assert store.product(case.times[-2], "analysis.nc").is_file()


def test_a_cycle_that_is_being_made_again_and_the_one_before_it_stay(store, case):
    (store.chain_folder / "work" / "20200101T1200Z").mkdir(parents=True)
    assert {case.times[1], case.times[2]} <= needed(store, case.times)


def test_a_damaged_file_is_neither_archived_nor_removed(store, block, case, tmp_path):
    path = store.cycle_folder(case.times[1]) / "analysis.nc"
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    report = retain(store, block, case.times)
    (problem,) = report.problems
    assert "analysis.nc is not what was published" in problem
    assert path.is_file() and read_retired(path.parent) == {}
    assert (store.cycle_folder(case.times[1]) / "background.nc").is_file()


def test_a_damaged_copy_in_the_archive_is_made_again_before_anything_goes(store, block, case, tmp_path):
    copy = tmp_path / "archive" / "soak" / CHAIN / "20200101T0600Z" / "analysis.nc"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"half of it")
    entry = store.manifest(case.times[1])["files"]["analysis.nc"]
    retain(store, block, case.times)
    assert copy.stat().st_size == entry["bytes"]


def test_a_run_that_is_killed_between_note_and_removal_is_put_right_by_the_next(store, block, case, monkeypatch):
    import cycler_da.products.retirement as retirement

    def killed(point):
        if point == "retire.noted":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retirement, "reach", killed)
        with pytest.raises(KeyboardInterrupt):
            retain(store, block, case.times)
    assert store.verify() == []
    retain(store, block, case.times)
    assert store.verify() == []
    assert not list(store.cycle_folder(case.times[0]).glob("*.nc"))


def test_copies_of_an_earlier_publication_stay_when_its_revision_is_archived_too(store, block, case):
    time = case.times[1]
    retain(store, block, case.times)
    publish_revision(store, time, source=case.store.cycle_folder(case.times[2]))
    retain(store, block, case.times)
    (earlier,) = store.revisions(time)
    for folder in (earlier, store.cycle_folder(time)):
        notes = read_retired(folder)
        assert "background.nc" in notes
        for name, note in notes.items():
            copy = Path(note["archive"])
            assert is_same_file(copy, read_manifest(folder)["files"][name])
            assert (copy.parents[name.count("/")] / "MANIFEST.json").read_bytes() == (
                folder / "MANIFEST.json"
            ).read_bytes()


def publish_revision(store, time, *, source):
    """Publish the files of another folder as a revision of a cycle."""
    with store.lock(time) as lock:
        work = store.work_folder(time)
        shutil.copytree(source, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("MANIFEST.json", "_SUCCESS"))
        manifest = build_manifest(
            work,
            experiment=store.experiment,
            chain=store.chain,
            time=time,
            inputs=Inputs(config="another"),
            token=lock.token,
        )
        store.publish(time, manifest, lock=lock, replace=True)


def test_a_retired_file_is_named_with_its_copy_when_somebody_wants_it(store, block, case):
    retain(store, block, case.times)
    with pytest.raises(MissingProduct, match=r"was retired; its copy is .*letkf/20200101T0600Z/analysis.nc"):
        store.product(case.times[1], "analysis.nc")


def test_a_file_that_is_gone_without_a_note_is_damage_still(store, block, case):
    retain(store, block, case.times)
    folder = store.cycle_folder(case.times[1])
    note = json.loads((folder / "RETIRED.json").read_text())
    del note["analysis.nc"]
    (folder / "RETIRED.json").write_text(json.dumps(note))
    assert store.verify() == [f"{folder}/analysis.nc: the file is absent"]


def test_every_flipped_byte_of_a_note_is_found(store, block, case):
    retain(store, block, case.times)
    note = store.cycle_folder(case.times[1]) / "RETIRED.json"
    content = note.read_bytes().rstrip()
    assert store.verify(case.times[1]) == []
    for position in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[position] ^= 1
        note.write_bytes(bytes(flipped))
        unchanged = json.loads(content) == _loaded(flipped)  # white space between words
        assert unchanged or store.verify(case.times[1]), content[max(0, position - 20) : position + 20]


def _loaded(content):
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tiers": []}, "tiers is empty"),
        ({"archive": None}, "archive is not set"),
        ({"archive": "/none"}, "does not exist"),
    ],
)
def test_without_tiers_or_archive_nothing_is_removed(block, change, said):
    with pytest.raises(ConfigError, match=said):
        require_archive(RetentionBlock.model_validate({**block.model_dump(), **change}))


def test_the_command_tells_what_would_go_and_then_does_it(store, case, tmp_path):
    settings = ["--set", f"operations.retention={json.dumps({'archive': str(tmp_path / 'archive'), **TIERS})}"]
    folder = str(store.experiment_folder)
    before = sorted(path for path in store.chain_folder.rglob("*"))
    dry = CliRunner().invoke(app, ["retain", folder, "--dry-run", *settings])
    assert dry.exit_code == 0 and "would be retired, 0 problems" in dry.output
    assert "letkf/cycles/20200101T0600Z" in dry.output
    assert sorted(path for path in store.chain_folder.rglob("*")) == before
    done = CliRunner().invoke(app, ["retain", folder, *settings])
    assert done.exit_code == 0, done.output
    assert done.output.split()[0] == dry.output.splitlines()[-1].split()[0]  # as many files as were told
    assert CliRunner().invoke(app, ["verify", folder]).exit_code == 0
    assert np.datetime64("2020-01-01T06:00") in store.complete_cycles()


def test_the_command_without_tiers_ends_with_a_config_error(store):
    ended = CliRunner().invoke(app, ["retain", str(store.experiment_folder)])
    assert ended.exit_code == 78 and "tiers is empty" in ended.output
