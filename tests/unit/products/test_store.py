from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cycler_da.errors import CannotWrite, ConfigError, CyclerError, LostLock, MissingProduct
from cycler_da.layout import Layout
from cycler_da.products import publication
from cycler_da.products.atomic import write_json_atomically
from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import write_ensemble, write_field
from cycler_da.products.manifest import Inputs, build_manifest
from cycler_da.products.provenance import logical_hash, sha256_file
from cycler_da.products.store import Store

START = np.datetime64("2020-01-01T00:00:00", "s")
DAY = np.timedelta64(86400, "s")

RIVAL = Path(__file__).with_name("rival.py")
TIME = START + DAY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, "experiment", "chain")


def _publish(
    store: Store,
    time: np.datetime64,
    text: str = "some",
    *,
    previous: np.datetime64 | None = None,
    replace: bool = False,
) -> Path:
    """Make and publish a cycle of two files."""
    with store.lock(time) as lock:
        write_json_atomically(store.work_folder(time) / "diag" / "stats.json", {"text": text})
        (store.work_folder(time) / "notes.txt").write_text(text * 100)
        store.mark_stage(time, "all", ["diag/stats.json", "notes.txt"], facts={"n": 1}, lock=lock)
        manifest = build_manifest(
            store.work_folder(time),
            experiment=store.experiment,
            chain=store.chain,
            time=time,
            inputs=Inputs(config=text, previous=None if previous is None else store.link_to(previous)),
            token=lock.token,
        )
        return store.publish(time, manifest, lock=lock, replace=replace)


def _flip(path: Path, position: int = -3) -> None:
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 0x04
    path.write_bytes(bytes(content))


def test_a_published_cycle_is_complete_and_holds_its_files_and_nothing_else(store: Store) -> None:
    assert not store.is_complete(TIME) and store.latest() is None
    folder = _publish(store, TIME)
    assert folder == store.cycle_folder(TIME) and store.is_complete(TIME)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["MANIFEST.json", "_SUCCESS", "diag/stats.json", "notes.txt"]
    assert list((store.chain_folder / "work").iterdir()) == []
    assert store.complete_cycles() == [TIME] and store.latest() == TIME
    assert store.verify() == []


def test_the_manifest_names_size_and_hash_of_every_file(store: Store) -> None:
    folder = _publish(store, TIME)
    manifest = store.manifest(TIME)
    for name in ("diag/stats.json", "notes.txt"):
        path = folder / name
        assert manifest["files"][name] == {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    assert manifest["fencing_token"] == 1 and manifest["cycle"] == "20200102T0000Z"
    assert json.loads((folder / "_SUCCESS").read_text())["manifest_sha256"] == sha256_file(folder / "MANIFEST.json")


def test_latest_leads_to_the_newest_cycle_also_after_a_backfill(store: Store) -> None:
    _publish(store, TIME + DAY)
    _publish(store, TIME)
    link = store.chain_folder / "latest"
    assert link.is_symlink() and str(link.readlink()) == "cycles/20200103T0000Z"
    assert (link / "notes.txt").is_file()
    assert store.complete_cycles() == [TIME, TIME + DAY]


def test_a_complete_cycle_is_not_published_twice(store: Store) -> None:
    _publish(store, TIME, "first")
    with pytest.raises(CannotWrite, match="--force"):
        _publish(store, TIME, "second")
    assert "first" in (store.cycle_folder(TIME) / "notes.txt").read_text()


def test_a_forced_run_makes_a_revision_and_keeps_the_earlier_one(store: Store) -> None:
    for text in ("first", "second", "third"):
        _publish(store, TIME, text, replace=True)
    assert store.manifest(TIME)["inputs"]["config"] == "third"
    kept = [json.loads((folder / "MANIFEST.json").read_text())["inputs"]["config"] for folder in store.revisions(TIME)]
    assert kept == ["first", "second"]
    assert [folder.name for folder in store.revisions(TIME)] == ["20200102T0000Z.r001", "20200102T0000Z.r002"]


def test_a_forced_run_that_fails_leaves_the_earlier_publication(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _publish(store, TIME, "first")

    def refuse(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(publication, "_rename", refuse)
    with pytest.raises(CannotWrite, match="disk is full"):
        _publish(store, TIME, "second", replace=True)
    assert store.is_complete(TIME) and store.manifest(TIME)["inputs"]["config"] == "first"
    assert store.verify() == []


def test_make_revision_moves_a_cycle_away_and_latest_with_it(store: Store) -> None:
    _publish(store, TIME)
    _publish(store, TIME + DAY)
    folder = store.make_revision(TIME + DAY)
    assert folder.is_dir() and not store.is_complete(TIME + DAY)
    assert str((store.chain_folder / "latest").readlink()) == "cycles/20200102T0000Z"
    store.make_revision(TIME)
    assert not (store.chain_folder / "latest").is_symlink()
    with pytest.raises(MissingProduct, match="not complete"):
        store.make_revision(TIME)


def test_a_stage_is_done_only_with_its_key_and_whole_files(store: Store) -> None:
    with store.lock(TIME) as lock:
        path = store.work_folder(TIME) / "a.txt"
        path.write_text("whole")
        assert not store.stage_is_done(TIME, "analysis")
        with pytest.raises(MissingProduct, match="no marker"):
            store.stage_facts(TIME, "analysis")
        store.mark_stage(TIME, "analysis", ["a.txt"], facts={"spread": 0.5}, key="config 1", lock=lock)
        assert store.stage_is_done(TIME, "analysis", key="config 1")
        assert store.stage_facts(TIME, "analysis") == {"spread": 0.5}
        assert not store.stage_is_done(TIME, "analysis", key="config 2")
        path.write_text("whale")
        assert not store.stage_is_done(TIME, "analysis", key="config 1")
        path.unlink()
        assert not store.stage_is_done(TIME, "analysis", key="config 1")
        with pytest.raises(MissingProduct, match=r"should have written a\.txt"):
            store.mark_stage(TIME, "analysis", ["a.txt"], facts={})
        (store.work_folder(TIME) / "analysis.done").write_text("{half")
        assert not store.stage_is_done(TIME, "analysis", key="config 1")


def test_a_work_folder_can_be_thrown_away(store: Store) -> None:
    (store.work_folder(TIME) / "a.txt").write_text("")
    store.discard_work(TIME)
    store.discard_work(TIME)
    assert list((store.chain_folder / "work").iterdir()) == []


def test_work_of_another_config_is_thrown_away_whole(store: Store) -> None:
    path = store.work_folder(TIME) / "carry.safetensors"
    path.write_text("of a config that carries something")
    store.mark_stage(TIME, "analysis", ["carry.safetensors"], facts={}, key="config 1")
    assert not store.discard_other_work(TIME, key="config 1") and path.exists()
    assert store.discard_other_work(TIME, key="config 2") and not path.exists()
    assert not store.discard_other_work(TIME, key="config 2")


def test_a_run_that_lost_its_lock_publishes_nothing(store: Store) -> None:
    with store.lock(TIME) as lock:
        (store.work_folder(TIME) / "a.txt").write_text("stale")
        manifest = _manifest(store, TIME)
        (store.chain_folder / "locks" / "20200102T0000Z.lock" / "000002").write_text('{"token": 2}')
        with pytest.raises(LostLock):
            store.publish(TIME, manifest, lock=lock)
        with pytest.raises(LostLock):
            store.mark_stage(TIME, "all", ["a.txt"], facts={}, lock=lock)
    assert not store.is_complete(TIME) and not store.cycle_folder(TIME).exists()


def test_a_run_that_was_stopped_while_it_published_leaves_what_another_has_sealed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach, final = publication.reach, store.cycle_folder(TIME)

    def stop(point: str) -> None:
        if point == "publish.unmarked":
            monkeypatch.setattr(publication, "reach", reach)
            (store.chain_folder / "locks" / "20200102T0000Z.lock" / "000002").write_text('{"token": 2}')
            publication.remove_unfinished(final)  # as `recover` does for the run that takes over
            publication._seal(final, publication._write_seal(final, SimpleNamespace(token=2)))

    with store.lock(TIME) as lock:
        (store.work_folder(TIME) / "a.txt").write_text("whole")
        manifest = _manifest(store, TIME)
        monkeypatch.setattr(publication, "reach", stop)
        with pytest.raises(LostLock):
            store.publish(TIME, manifest, lock=lock)
    assert store.is_complete(TIME) and store.verify() == []
    assert json.loads((final / "_SUCCESS").read_text())["fencing_token"] == 2


@pytest.mark.parametrize("fault", ["changed", "absent", "unlisted"])
def test_a_work_folder_that_is_not_what_the_manifest_says_is_not_published(store: Store, fault: str) -> None:
    with store.lock(TIME) as lock:
        path = store.work_folder(TIME) / "a.txt"
        path.write_text("what the manifest says")
        manifest = _manifest(store, TIME)
        if fault == "changed":
            _flip(path)
        elif fault == "absent":
            path.unlink()
        else:
            (store.work_folder(TIME) / "b.txt").write_text("another")
        with pytest.raises(CannotWrite, match=r"[ab]\.txt"):
            store.publish(TIME, manifest, lock=lock)
        assert store.work_folder(TIME).exists()
    assert not store.cycle_folder(TIME).exists() and store.latest() is None


def test_files_changed_between_verification_and_publication_are_not_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = publication._rename

    def tamper(source: Path, target: Path) -> None:
        (source / "a.txt").write_text("from a run that should have ended")
        rename(source, target)

    with store.lock(TIME) as lock:
        (store.work_folder(TIME) / "a.txt").write_text("verified")
        monkeypatch.setattr(publication, "_rename", tamper)
        with pytest.raises(LostLock, match="after they were verified"):
            store.publish(TIME, _manifest(store, TIME), lock=lock)
    assert not store.is_complete(TIME)
    monkeypatch.undo()
    with store.lock(TIME):
        assert not store.cycle_folder(TIME).exists()


@pytest.mark.parametrize("name", ["notes.txt", "diag/stats.json", "MANIFEST.json", "_SUCCESS"])
def test_verify_finds_one_flipped_bit_and_names_the_file(store: Store, name: str) -> None:
    _publish(store, TIME)
    _publish(store, TIME + DAY, previous=TIME)
    _flip(store.cycle_folder(TIME + DAY) / name, position=20)
    problems = store.verify()
    assert len(problems) == 1 and "20200103T0000Z" in problems[0], problems
    # A broken seal and a broken manifest show as a difference between the two.
    assert name in problems[0] or (name == "_SUCCESS" and "MANIFEST.json" in problems[0])
    assert store.verify(TIME) == []


@pytest.mark.parametrize("name", ["notes.txt", "diag/stats.json", "MANIFEST.json", "_SUCCESS"])
def test_verify_finds_one_flipped_bit_in_an_earlier_publication(store: Store, name: str) -> None:
    _publish(store, TIME)
    _publish(store, TIME, "another", replace=True)
    (kept,) = store.revisions(TIME)
    assert store.verify() == []
    _flip(kept / name, position=20)
    (problem,) = store.verify()
    assert "20200102T0000Z.r001" in problem and "replaced since; where nobody needs it, remove" in problem
    assert name in problem or (name == "_SUCCESS" and "MANIFEST.json" in problem)
    assert [problem] == store.verify(TIME)


def test_every_flipped_byte_of_a_seal_or_manifest_is_found(store: Store) -> None:
    folder = _publish(store, TIME)
    for name in ("_SUCCESS", "MANIFEST.json"):
        content = (folder / name).read_bytes().rstrip()  # white space at the end says nothing
        for position in range(0, len(content), 1 if name == "_SUCCESS" else 7):
            flipped = bytearray(content)
            flipped[position] ^= 1
            (folder / name).write_bytes(bytes(flipped))
            assert store.verify(), (name, position)
        (folder / name).write_bytes(content + b"\n")
    assert store.verify() == []


def test_a_revision_that_was_removed_by_hand_stops_no_later_one(store: Store) -> None:
    _publish(store, TIME, "first")
    for text in ("second", "third"):
        _publish(store, TIME, text, replace=True)
    shutil.rmtree(store.revisions(TIME)[0])
    _publish(store, TIME, "fourth", replace=True)
    assert [folder.name[-4:] for folder in store.revisions(TIME)] == ["r002", "r003"]
    assert store.verify() == []
    with store.lock(TIME):  # nothing is left to be put right
        assert not list((store.chain_folder / "revisions").glob("*.next"))


def test_verify_finds_absent_and_foreign_files(store: Store) -> None:
    folder = _publish(store, TIME)
    (folder / "notes.txt").unlink()
    (folder / "extra.txt").write_text("")
    problems = store.verify(TIME)
    assert len(problems) == 2 and "absent" in problems[0] and "not in the manifest" in problems[1]


def test_verify_finds_an_exchanged_cycle_by_the_link_after_it(store: Store) -> None:
    _publish(store, TIME)
    _publish(store, TIME + DAY, previous=TIME)
    assert store.verify() == []
    _publish(store, TIME, "another", replace=True)
    problems = store.verify()
    assert len(problems) == 1 and "made from 20200102T0000Z.r001" in problems[0]
    for folder in store.revisions(TIME):
        folder.rename(store.chain_folder / "elsewhere")
    assert "differs from the one it was made from" in store.verify()[0]


def test_verify_names_the_member_whose_values_were_damaged(
    make_ensemble, store: Store, qg_layout: Layout, facts: FileFacts
) -> None:
    ensemble = make_ensemble(qg_layout, n_members=8)
    with store.lock(TIME) as lock:
        folder = store.work_folder(TIME)
        write_ensemble(folder / "analysis.nc", ensemble, facts=facts)
        increment = replace(facts, kind="increment")
        write_field(folder / "increment.nc", ensemble.values[0], ensemble.valid_times, qg_layout, facts=increment)
        manifest = _manifest(store, TIME)
        store.publish(TIME, manifest, lock=lock)
    for index, name in enumerate(qg_layout.channels):
        for position, member in enumerate(ensemble.members):
            wanted = logical_hash(ensemble.values[position, :, index].numpy())
            assert manifest["arrays"]["analysis.nc"][name][str(member)] == wanted
        assert manifest["arrays"]["increment.nc"][name] == logical_hash(ensemble.values[0, :, index].numpy())
    path = store.cycle_folder(TIME) / "analysis.nc"
    content, found = path.read_bytes(), set()
    for position in range(len(content) // 4, len(content) - 1, len(content) // 12):
        _flip(path, position)
        (problem,) = store.verify(TIME)
        assert "analysis.nc" in problem
        found.add(problem.partition("(sha256), ")[2])
        with pytest.raises(MissingProduct, match="is damaged and is not used"):
            store.product(TIME, "analysis.nc")
        path.write_bytes(content)
    assert any("of member" in place for place in found), found
    assert store.product(TIME, "analysis.nc") == path


def test_equal_values_have_equal_hashes_in_two_runs(
    make_ensemble, tmp_path: Path, qg_layout: Layout, facts: FileFacts
) -> None:
    manifests = []
    for run in ("a", "b"):
        store = Store(tmp_path, run, "chain")
        other = replace(facts, experiment=run)
        write_ensemble(store.work_folder(TIME) / "analysis.nc", make_ensemble(qg_layout), facts=other)
        manifests.append(_manifest(store, TIME))
    assert manifests[0]["files"] != manifests[1]["files"]
    assert manifests[0]["arrays_sha256"] == manifests[1]["arrays_sha256"]


def test_products_of_cycles_that_are_not_complete_are_refused(store: Store) -> None:
    with pytest.raises(MissingProduct, match="holds no complete cycle"):
        store.product(TIME, "analysis.nc")
    _publish(store, TIME)
    with pytest.raises(MissingProduct, match=r"analysis\.nc does not exist"):
        store.product(TIME, "analysis.nc")
    assert store.product(TIME, "notes.txt").is_file()


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a b"])
def test_names_that_cannot_be_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a folder"):
        Store(tmp_path, name, "chain")


def test_folders_that_are_no_cycles_are_not_taken_for_cycles(store: Store) -> None:
    _publish(store, TIME)
    (store.chain_folder / "cycles" / "notes").mkdir()
    (store.chain_folder / "cycles" / "notes" / "_SUCCESS").write_text("")
    store.cycle_folder(TIME + DAY).mkdir()
    assert store.complete_cycles() == [TIME]


def test_a_reader_that_trusts_success_sees_whole_cycles_only(store: Store) -> None:
    wrong, stop, n_seen = [], threading.Event(), [0]
    folder = store.cycle_folder(TIME)

    def read() -> None:
        while not stop.is_set():
            try:
                seal = json.loads((folder / "_SUCCESS").read_text())
                manifest = json.loads((folder / "MANIFEST.json").read_text())
                texts = {
                    (folder / "notes.txt").read_text()[:6],
                    json.loads((folder / "diag/stats.json").read_text())["text"],
                }
                again = json.loads((folder / "_SUCCESS").read_text())
            except FileNotFoundError:
                continue  # between two revisions
            if seal != again:
                continue  # the cycle was replaced while it was read, and the reader can tell
            n_seen[0] += 1
            if texts != {manifest["inputs"]["config"]}:
                wrong.append(texts)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(12):
        _publish(store, TIME, f"turn{turn:02d}", replace=True)
    stop.set()
    reader.join()
    assert wrong == [] and n_seen[0] > 0


def _manifest(store: Store, time: np.datetime64) -> dict:
    inputs = Inputs(config="c", observations={"stations": "0" * 64}, weights={"qg": "1" * 64})
    return build_manifest(
        store.work_folder(time), experiment=store.experiment, chain=store.chain, time=time, inputs=inputs, token=1
    )


# Processes that are killed, race, or find the disk full


@pytest.fixture(scope="module")
def run_together():
    """Run cycles in processes of their own, all at once; returns their exit codes and output."""
    server = subprocess.Popen([sys.executable, str(RIVAL), "serve"], stdin=-1, stdout=-1, text=True)
    assert server.stdin is not None and server.stdout is not None

    def run(*runs: dict) -> list[dict]:
        server.stdin.write(json.dumps(runs) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    yield run
    server.stdin.close()
    server.stdout.close()
    server.wait()


@pytest.fixture
def run_cycle(run_together, tmp_path: Path):
    """Run one cycle in a process of its own."""
    return lambda **arguments: run_together({"root": str(tmp_path), **arguments})[0]


FAULTS = [
    "lock.written",
    "lock.taken",
    "stage.background.start",
    "file.half",
    "stage.background.written",
    "stage.analysis.marked",
    "stage.diag.marked",
    "publish.flushed",
    "publish.verified",
    "publish.renamed",
    "publish.unmarked",
    "publish.success",
]


@pytest.mark.faults
@pytest.mark.parametrize("fault", FAULTS)
def test_a_cycle_killed_anywhere_is_completed_by_the_same_command(store: Store, run_cycle, fault: str) -> None:
    assert run_cycle(fault=fault)["code"] == -9
    # A reader sees a whole cycle or none.
    assert store.verify() == []
    assert store.is_complete(TIME) == (fault == "publish.success")
    again = run_cycle()
    assert again["code"] == 0, again
    assert store.is_complete(TIME) and store.verify() == []
    folder = store.cycle_folder(TIME)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == ["MANIFEST.json", "_SUCCESS", "analysis.txt", "background.txt", "diag/diag.txt"]
    assert (folder / "analysis.txt").read_text() == "analysis v"
    if fault.startswith("stage.") and fault.endswith(".marked"):
        assert f"kept {fault.split('.')[1]}" in again["output"]
    if fault in ("publish.flushed", "publish.verified", "publish.renamed", "publish.unmarked"):
        assert again["output"].endswith("recovered\n")
    assert run_cycle()["output"] == "complete\n"
    store.refresh_latest()
    assert (store.chain_folder / "latest" / "_SUCCESS").is_file()


@pytest.mark.faults
def test_a_cycle_killed_at_random_instants_is_whole_or_absent_and_completed_in_the_end(store: Store, run_cycle) -> None:
    instants = np.random.default_rng(5).uniform(0.0, 0.08, 30)
    for turn, instant in enumerate(instants):
        force = store.is_complete(TIME)
        answer = run_cycle(value=f"v{turn // 10}", force=force, kill_after=float(instant))
        assert answer["code"] in (0, -9), answer
        assert store.verify() == []
    assert run_cycle(value="last", force=store.is_complete(TIME))["code"] == 0
    assert store.is_complete(TIME) and store.verify() == []


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault", ["stage.analysis.marked", "publish.verified", "publish.renamed", "publish.success", "publish.revised"]
)
def test_a_forced_run_killed_anywhere_leaves_one_whole_publication(store: Store, run_cycle, fault: str) -> None:
    run_cycle(value="first")
    assert run_cycle(value="second", force=True, fault=fault)["code"] == -9
    assert run_cycle(value="second")["code"] == 0
    moved = fault == "publish.revised"  # before it the earlier publication stands
    assert store.manifest(TIME)["inputs"]["config"] == ("second" if moved else "first")
    assert store.verify() == []
    assert run_cycle(value="third", force=True)["code"] == 0
    assert (store.cycle_folder(TIME) / "analysis.txt").read_text() == "analysis third"
    assert store.verify() == []


@pytest.mark.faults
def test_of_runs_racing_on_one_cycle_exactly_one_publishes_and_the_others_retry_later(
    tmp_path: Path, run_together
) -> None:
    for turn in range(8):
        root = tmp_path / str(turn)
        answers = run_together(*({"root": str(root), "value": f"v{k}"} for k in range(4)))
        assert sum("published" in answer["output"] for answer in answers) == 1, answers
        for answer in answers:
            # A loser that comes when all is done finds the cycle complete.
            done = any(word in answer["output"] for word in ("published", "complete", "recovered"))
            assert answer["code"] == (0 if done else 75), answer
        assert Store(root, "experiment", "chain").verify() == []


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.faults
def test_a_full_disk_publishes_nothing_and_the_cycle_goes_on_when_there_is_room(
    make_ensemble, small_disk: Path, qg_layout: Layout, facts: FileFacts
) -> None:
    store = Store(small_disk, "experiment", "chain")
    _publish(store, TIME)
    big = make_ensemble(qg_layout, n_members=200)
    with pytest.raises(CannotWrite, match="disk is full"), store.lock(TIME + DAY):
        write_ensemble(store.work_folder(TIME + DAY) / "analysis.nc", big, facts=facts)
    assert list(store.work_folder(TIME + DAY).iterdir()) == []
    assert store.latest() == TIME and store.verify() == []
    _publish(store, TIME + DAY, previous=TIME)
    assert store.latest() == TIME + DAY and store.verify() == []


@pytest.mark.faults
def test_at_whatever_byte_the_disk_is_full_nothing_partial_is_published(small_disk: Path) -> None:
    store, filler = Store(small_disk, "experiment", "chain"), small_disk / "filler"
    n_refused = 0
    for turn, left in enumerate(range(0, 40_000, 4096)):
        time = TIME + turn * DAY
        filler.unlink(missing_ok=True)
        with filler.open("wb") as handle:
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
            handle.write(bytes(max(0, free - left)))
        try:
            _publish(store, time)
        except (CyclerError, OSError) as error:
            # The notes of this test are written without the store.
            assert isinstance(error, CannotWrite) or error.errno == 28, error
            n_refused += 1
            assert not store.is_complete(time) and not store.cycle_folder(time).exists()
        filler.unlink()
        with store.lock(time):
            pass  # ends a publication that was begun
        if not store.is_complete(time):
            _publish(store, time)
        assert store.verify() == [] and store.latest() == time
    assert 2 <= n_refused < 10
