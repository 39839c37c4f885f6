from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time as clock
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cycler_da.errors import CannotWrite, LockedCycle, LostLock
from cycler_da.products import lock as lock_module
from cycler_da.products.lock import CycleLock, lock_holder, take_lock
from cycler_da.products.owner import Owner

RIVAL = Path(__file__).with_name("rival.py")
BEAT = np.timedelta64(50, "ms")
MINUTE = np.timedelta64(60, "s")


def _take(folder: Path, **limits: np.timedelta64) -> CycleLock:
    return take_lock(folder, **{"heartbeat": BEAT, "stale_after": MINUTE, **limits})


@pytest.fixture
def rival(tmp_path: Path):
    """Start a process that takes the lock and holds it for a minute; yields it once it has the lock."""
    process = subprocess.Popen(
        [sys.executable, str(RIVAL), "lock", str(tmp_path / "a.lock"), "60"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def _edit(folder: Path, token: int, change: Callable[[dict], dict], *, age: float) -> None:
    """Rewrite a token file as if another process had left it `age` seconds ago."""
    path = folder / f"{token:06d}"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    os.utime(path, (clock.time() - age, clock.time() - age))


def _leave(folder: Path, *, age: float, **changes: object) -> None:
    """A token file of a process that ended without releasing it."""
    folder.mkdir(parents=True)
    content = {"token": 4, "nonce": "n", **Owner.of_this_process().to_json(), **changes}
    path = folder / "000004"
    path.write_text(json.dumps(content))
    os.utime(path, (clock.time() - age, clock.time() - age))


def test_tokens_grow_with_every_holder(tmp_path: Path) -> None:
    tokens = []
    for _ in range(3):
        lock = _take(tmp_path / "a.lock")
        lock.require_held()
        tokens.append(lock.token)
        lock.release()
    assert tokens == [1, 2, 3]
    assert [path.name for path in (tmp_path / "a.lock").iterdir()] == ["000003.released"]


def test_a_held_lock_is_refused_and_says_who_holds_it(tmp_path: Path, rival: subprocess.Popen) -> None:
    with pytest.raises(LockedCycle, match=f"process {rival.pid} on .* holds token 1") as refused:
        _take(tmp_path / "a.lock", stale_after=np.timedelta64(0, "s"))
    assert refused.value.exit_code == 75
    holder = lock_holder(tmp_path / "a.lock")
    assert holder is not None and holder.pid == rival.pid


def test_a_lock_of_this_very_process_is_refused_too(tmp_path: Path) -> None:
    lock = _take(tmp_path / "a.lock")
    with pytest.raises(LockedCycle):
        _take(tmp_path / "a.lock")
    lock.release()


def test_a_killed_holder_is_succeeded_with_a_higher_token(tmp_path: Path, rival: subprocess.Popen) -> None:
    rival.kill()
    os.waitid(os.P_PID, rival.pid, os.WEXITED | os.WNOWAIT)  # not reaped: a zombie is dead too
    began = clock.monotonic()
    lock = _take(tmp_path / "a.lock")
    # The heartbeat must be three beats old; a limit for other hosts plays no part.
    assert clock.monotonic() - began < 30
    assert lock.token == 2
    lock.release()
    assert lock_holder(tmp_path / "a.lock") is None


def test_a_stopped_holder_keeps_its_lock_however_long_it_sleeps(tmp_path: Path, rival: subprocess.Popen) -> None:
    os.kill(rival.pid, signal.SIGSTOP)
    _edit(tmp_path / "a.lock", 1, lambda entry: entry, age=1e6)
    with pytest.raises(LockedCycle):
        _take(tmp_path / "a.lock")


def test_of_another_host_only_the_heartbeat_counts(tmp_path: Path) -> None:
    _leave(tmp_path / "young.lock", age=30, host="elsewhere")
    with pytest.raises(LockedCycle, match=r"elsewhere.*limit 60 s"):
        _take(tmp_path / "young.lock")
    _leave(tmp_path / "old.lock", age=90, host="elsewhere")
    lock = _take(tmp_path / "old.lock")
    assert lock.token == 5
    lock.release()


@pytest.mark.parametrize("changes", [{"boot": "an earlier boot"}, {"namespace": "pid:[1]"}])
def test_a_process_id_of_another_boot_or_container_proves_nothing(tmp_path: Path, changes: dict) -> None:
    _leave(tmp_path / "a.lock", age=30, pid=2**22 + 1, **changes)
    with pytest.raises(LockedCycle):
        _take(tmp_path / "a.lock")


def test_a_reused_process_id_does_not_pass_for_the_holder(tmp_path: Path) -> None:
    _leave(tmp_path / "a.lock", age=30, started="1")
    lock = _take(tmp_path / "a.lock")
    assert lock.token == 5
    lock.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "many"}'])
def test_a_half_written_lock_is_held_until_its_heartbeat_is_old(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "a.lock"
    folder.mkdir()
    (folder / "000001").write_text(content)
    with pytest.raises(LockedCycle, match="another run"):
        _take(folder)
    os.utime(folder / "000001", (clock.time() - 90, clock.time() - 90))
    lock = _take(folder)
    assert lock.token == 2
    lock.release()


def test_a_holder_that_was_passed_over_learns_it_and_leaves_the_new_lock_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a.lock"
    slow = _take(folder, heartbeat=MINUTE)
    _edit(folder, 1, lambda entry: entry | {"host": "elsewhere"}, age=90)
    quick = _take(folder)
    with pytest.raises(LostLock, match="held token 1 and lost it to token 2"):
        slow.require_held()
    slow.release()
    quick.require_held()
    quick.release()


def test_a_released_lock_is_no_longer_held(tmp_path: Path) -> None:
    lock = _take(tmp_path / "a.lock")
    lock.release()
    lock.release()
    with pytest.raises(LostLock, match="released"):
        lock.require_held()


def test_the_heartbeat_keeps_the_lock_young(tmp_path: Path) -> None:
    lock = _take(tmp_path / "a.lock")
    path = tmp_path / "a.lock" / "000001"
    os.utime(path, (0, 0))
    deadline = clock.monotonic() + 20
    while path.stat().st_mtime == 0 and clock.monotonic() < deadline:
        clock.sleep(0.02)
    assert path.stat().st_mtime > 0
    lock.release()


def test_of_many_rivals_for_a_dead_lock_exactly_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every rival is held between "it is free" and "create", the place where a race would be lost.
    n_rivals, create = 8, lock_module._create
    for turn in range(20):
        _leave(tmp_path / f"{turn}.lock", age=90, started="1")
        gate, winners, losers = threading.Barrier(n_rivals), [], []

        def create_together(path, token, nonce, gate=gate):
            if token == 5:
                gate.wait(timeout=60)
            return create(path, token, nonce)

        def compete(folder=tmp_path / f"{turn}.lock", winners=winners, losers=losers):
            try:
                winners.append(_take(folder))
            except LockedCycle:
                losers.append(1)

        monkeypatch.setattr(lock_module, "_create", create_together)
        threads = [threading.Thread(target=compete) for _ in range(n_rivals)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [lock.token for lock in winners] == [5] and len(losers) == n_rivals - 1
        winners[0].release()


def test_a_rival_that_slept_through_two_holders_does_not_revive_an_old_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It saw token 0, and creates token 1 only after holders 1 and 2 came, went and were tidied away.
    folder, create = tmp_path / "a.lock", lock_module._create

    def create_late(path: Path, token: int, nonce: str) -> bool:
        monkeypatch.setattr(lock_module, "_create", create)
        _take(folder).release()
        _take(folder).release()
        return create(path, token, nonce)

    monkeypatch.setattr(lock_module, "_create", create_late)
    late = _take(folder)
    assert late.token == 3
    late.require_held()
    late.release()
    assert [path.name for path in folder.iterdir()] == ["000003.released"]


def test_a_place_that_cannot_be_written_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    with pytest.raises(CannotWrite, match=r"store\.root"):
        _take(tmp_path / "locks" / "a.lock")
