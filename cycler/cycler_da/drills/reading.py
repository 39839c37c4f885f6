"""A reader of published cycles that believes nothing: each file against the manifest, the manifest against the seal."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cycler_da.products.exchange import opened
from cycler_da.products.manifest import MANIFEST, SUCCESS

#: Between two rounds (s): a reader takes no core from the run that it watches.
PAUSE = 0.002


def read_cycle(link: Path) -> str:
    """Read all of the cycle that a path leads to: `whole`, `partial`, `replaced` (read again) or `none` there.

    partial     `_SUCCESS` stands there before and after, and a file is absent or has another sha256
    replaced    `_SUCCESS` is absent or was exchanged meanwhile: a revision took the place of the cycle
    """
    return _read(link.resolve())


def read_opened_cycle(link: Path) -> str:
    """The same through a folder that is opened once: a revision that takes its place meanwhile is not seen."""
    try:
        with opened(link) as folder:
            return _read(folder)
    except FileNotFoundError:
        return "none"


def _read(folder: Path) -> str:
    if not folder.is_dir():
        return "none"
    seal, manifest = _content(folder / SUCCESS), _content(folder / MANIFEST)
    is_whole = bool(manifest) and _is_whole(folder, seal, manifest)
    if not seal or _content(folder / SUCCESS) != seal:
        return "replaced"
    return "whole" if is_whole else "partial"


@contextmanager
def reading(*links: Path) -> Iterator[Counter[str]]:
    """Read cycles again and again meanwhile, in a thread; the counts are complete at the end."""
    found: Counter[str] = Counter()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for link in links:
                found[read_cycle(link)] += 1
            stop.wait(PAUSE)

    thread = threading.Thread(target=work, name="reader", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def _is_whole(folder: Path, seal: bytes, manifest: bytes) -> bool:
    if not seal or json.loads(seal)["manifest_sha256"] != hashlib.sha256(manifest).hexdigest():
        return False
    listed = json.loads(manifest)["files"]
    return all(entry["sha256"] == hashlib.sha256(_content(folder / name)).hexdigest() for name, entry in listed.items())


def _content(path: Path) -> bytes:
    """Bytes of a file, none where it is absent."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
