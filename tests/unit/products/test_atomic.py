from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from cycler_da.errors import CannotWrite
from cycler_da.products import atomic
from cycler_da.products.atomic import require_space, write_atomically, write_json_atomically


def _entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def test_a_write_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_atomically(path, lambda private: _fill(private, "one"))
    write_atomically(path, lambda private: _fill(private, "two"))
    assert path.read_text() == "two"
    assert _entries(path.parent) == ["file.txt"]


def test_files_get_the_permissions_of_the_umask(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "a.json", {})
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o666 & ~mask


def test_an_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail(private: Path) -> None:
        private.write_text("half")
        raise KeyError("a bug keeps its name")

    with pytest.raises(KeyError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert _entries(tmp_path) == ["file.txt"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = """
import os, signal, sys
from pathlib import Path
from cycler_da.products.atomic import write_atomically
def write(private):
    private.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), write)
"""
    assert _run(code, path).returncode == -9
    assert path.read_text() == "old"
    assert all(atomic.is_private(tmp_path / name) for name in _entries(tmp_path) if name != "file.txt")


def test_a_reader_never_sees_a_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    contents = {str(digit) * 100_000 for digit in range(10)}
    path.write_text("0" * 100_000)
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        write_atomically(path, lambda private, turn=turn: _fill(private, str(turn % 10) * 100_000))
    stop.set()
    reader.join()
    assert seen <= contents


def test_a_file_larger_than_allowed_is_refused_with_advice_and_without_a_trace(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from cycler_da.errors import CannotWrite
from cycler_da.products.atomic import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_atomically(Path(sys.argv[1]), lambda private: private.write_bytes(bytes(20_000)) and None)
except CannotWrite as error:
    print(error)
"""
    done = _run(code, tmp_path / "file.bin")
    assert "file.bin" in done.stdout and "ulimit -f" in done.stdout, done.stderr
    assert _entries(tmp_path) == []


def test_a_folder_that_is_a_file_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(CannotWrite, match=r"give another store\.root"):
        write_atomically(tmp_path / "taken" / "file.txt", lambda private: _fill(private, ""))


def test_trouble_with_another_file_is_not_called_a_refused_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "a" / "file.txt", lambda private: _fill(private, (tmp_path / "b").read_text()))


def test_a_failed_write_on_a_nearly_full_disk_is_called_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The NetCDF library says "HDF error" and gives no error number.
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 100, 100))

    def fail(private: Path) -> None:
        raise RuntimeError("NetCDF: HDF error")

    with pytest.raises(CannotWrite, match="disk is full") as refused:
        write_atomically(tmp_path / "a.nc", fail)
    assert refused.value.exit_code == 73


def test_space_is_required_before_anything_is_written(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    require_space(tmp_path / "not" / "yet" / "there", free // 10)
    with pytest.raises(CannotWrite, match="bytes are free"):
        require_space(tmp_path / "not" / "yet" / "there", free)


def test_inodes_are_required_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = namedtuple("facts", "f_bavail f_frsize f_files f_favail")
    monkeypatch.setattr(atomic.os, "statvfs", lambda place: facts(10**9, 4096, 1000, 3))
    with pytest.raises(CannotWrite, match="3 inodes are free, 64 are needed"):
        require_space(tmp_path, 1)


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json_atomically(tmp_path / "a.json", {"rmse": float("nan")})
    assert _entries(tmp_path) == []


def _fill(private: Path, text: str) -> None:
    private.write_text(text)
