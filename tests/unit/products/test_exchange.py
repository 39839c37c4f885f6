from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cycler_da import faultpoint
from cycler_da.drills.reading import read_cycle, read_opened_cycle
from cycler_da.errors import CannotWrite, LostLock
from cycler_da.products import exchange, publication, stages
from cycler_da.products.manifest import Inputs, build_manifest
from cycler_da.products.store import CycleLock, Store

TIME = np.datetime64("2020-01-02T00:00:00", "s")
REVISIONS = 8


@pytest.fixture(params=["one call of the kernel", "two renames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """How folders change places; the first is not to be had everywhere."""
    if request.param == "two renames":
        monkeypatch.setattr(exchange, "_exchanged", lambda one, other: False)
    elif not exchange.can_exchange(tmp_path):
        pytest.skip("the kernel or the file system of the tests has no RENAME_EXCHANGE")
    return request.param


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, "experiment", "chain")


def _publish(store: Store, text: str, *, lock: CycleLock | None = None) -> None:
    if lock is None:
        with store.lock(TIME) as held:
            return _publish(store, text, lock=held)
    (store.work_folder(TIME) / "notes.txt").write_text(text)
    manifest = build_manifest(
        store.work_folder(TIME),
        experiment=store.experiment,
        chain=store.chain,
        time=TIME,
        inputs=Inputs(config=text),
        token=lock.token,
    )
    store.publish(TIME, manifest, lock=lock, replace=store.is_complete(TIME))
    return None


def _published(store: Store) -> tuple[str, list[str]]:
    """The text that is published, and those of the earlier publications."""
    kept = [(folder / "notes.txt").read_text() for folder in store.revisions(TIME)]
    return (store.cycle_folder(TIME) / "notes.txt").read_text(), kept


def test_a_revision_takes_the_place_of_a_cycle_which_is_kept(store: Store, way: str) -> None:
    for text in ("first", "second", "third"):
        _publish(store, text)
    assert _published(store) == ("third", ["first", "second"])
    assert store.verify() == [] and not any((store.chain_folder / "work").iterdir())


def test_no_reader_of_the_newest_cycle_finds_it_absent_while_it_is_exchanged(store: Store, tmp_path: Path) -> None:
    if not exchange.can_exchange(tmp_path):
        pytest.skip("the kernel or the file system of the tests has no RENAME_EXCHANGE")
    _publish(store, "0")
    latest, stop = store.chain_folder / "latest", threading.Event()
    found: Counter[str] = Counter()

    def read() -> None:
        while not stop.is_set():
            found[read_cycle(latest)] += 1
            found[f"opened {read_opened_cycle(latest)}"] += 1
            (latest / "notes.txt").read_text()
            found["opens"] += 1

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(REVISIONS):
        _publish(store, str(number))
    stop.set()
    reader.join()
    assert not found["none"] and not found["partial"] and found["whole"]
    # What is opened once is of one publication, also while another takes its place.
    assert found["opened whole"] == found["opens"]


def test_an_opened_cycle_stays_the_one_that_was_opened(store: Store, way: str) -> None:
    _publish(store, "first")
    with exchange.opened(store.chain_folder / "latest") as folder:
        _publish(store, "second")
        assert (folder / "notes.txt").read_text() == "first"
        assert json.loads((folder / "MANIFEST.json").read_text())["inputs"]["config"] == "first"


def test_a_file_is_compared_with_the_manifest_of_its_own_publication(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revision that is published between the look into the manifest and the look at the file is no damage."""
    _publish(store, "first")
    compare = stages.is_same_file

    def exchanged_before(path: Path, entry: dict) -> bool:
        monkeypatch.setattr(stages, "is_same_file", compare)
        _publish(store, "second")
        return compare(path, entry)

    monkeypatch.setattr(stages, "is_same_file", exchanged_before)
    assert store.product(TIME, "notes.txt").read_text() == "second"


@pytest.mark.parametrize("point", ["publish.renamed", "publish.unmarked", "publish.success"])
def test_an_exchange_that_the_disk_refuses_leaves_the_earlier_publication(
    store: Store, way: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(store, "first")
    monkeypatch.setattr(faultpoint, "_visits", Counter())
    monkeypatch.setenv("CYCLER_FAULT", f"{point}=full")
    with pytest.raises(CannotWrite, match="the disk is full"):
        _publish(store, "second")
    monkeypatch.delenv("CYCLER_FAULT")
    assert _published(store) == ("first", []) and store.verify() == []
    assert (store.chain_folder / "work" / "20200102T0000Z" / "notes.txt").read_text() == "second"
    _publish(store, "third")
    assert _published(store) == ("third", ["first"]) and store.verify() == []


def test_a_failure_between_two_renames_puts_the_earlier_publication_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_exchanged", lambda one, other: False)
    _publish(store, "first")
    monkeypatch.setattr(faultpoint, "_visits", Counter())
    monkeypatch.setenv("CYCLER_FAULT", "publish.revised=full")
    with pytest.raises(CannotWrite, match="the disk is full"):
        _publish(store, "second")
    assert _published(store) == ("first", []) and store.verify() == []


@pytest.mark.parametrize("stopped", ["before the exchange", "after the first rename", "after the exchange"])
def test_the_next_run_ends_an_exchange_that_was_begun(
    store: Store, way: str, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states that a kill leaves, made by hand; killed processes are in test_store.py."""
    _publish(store, "first")
    swapped = {"before the exchange": False, "after the first rename": None, "after the exchange": True}[stopped]
    _stop_at(store, monkeypatch, swapped=swapped)
    with store.lock(TIME):
        assert _published(store) == ("second", ["first"]) and store.verify() == []
    assert not exchange.next_folder(store.revisions(TIME)[0]).exists()


def test_a_revision_that_was_damaged_before_its_exchange_is_not_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(store, "first")
    _stop_at(store, monkeypatch, swapped=False)
    (store.chain_folder / "revisions" / "20200102T0000Z.next" / "notes.txt").write_text("damaged")
    with store.lock(TIME):
        assert _published(store) == ("first", []) and store.verify() == []


def test_a_run_whose_exchange_another_one_has_ended_notices(store: Store, way: str, tmp_path: Path) -> None:
    _publish(store, "first")
    with pytest.raises(LostLock, match="another run"):
        exchange.swap(tmp_path / "gone", store.cycle_folder(TIME), revision=tmp_path / "kept")


def _stop_at(store: Store, monkeypatch: pytest.MonkeyPatch, *, swapped: bool | None) -> None:
    """Leave a revision as a run does that ends before the exchange (False), in its middle (None) or after it."""

    def begun(waiting: Path, published: Path, *, revision: Path) -> None:
        if swapped:
            aside = published.rename(waiting.with_name("aside"))
            waiting.rename(published)
            aside.rename(waiting)
        elif swapped is None:
            published.rename(revision)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publication, "swap", begun)
        with pytest.raises(KeyboardInterrupt):
            _publish(store, "second")
