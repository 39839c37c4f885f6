"""Stage markers: what a killed cycle need not do again.

A finished stage leaves `<stage>.done` in the work folder: the files it wrote with their sha256, a few facts,
and the key of what it was made from. A marker counts only while every file is what it says and the key
is the one asked for, so that a damaged file or a changed config makes the stage run again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cycler_da.errors import MissingProduct
from cycler_da.faultpoint import reach
from cycler_da.products.atomic import flush_file, refusals_explained, write_json_atomically
from cycler_da.products.provenance import code_version, sha256_file

SUFFIX = ".done"


def mark_stage(folder: Path, stage: str, files: Sequence[str], *, facts: Mapping[str, Any], key: str = "") -> None:
    """Say that a stage is finished; `files` are names relative to the work folder.

    `facts` must be plain JSON. Raises MissingProduct when a file is not there, CannotWrite.
    """
    entries = {}
    for name in files:
        path = folder / name
        if not path.is_file():
            raise MissingProduct(f"stage {stage} in {folder} should have written {name}, which is not there")
        with refusals_explained(path):
            flush_file(path)
        entries[name] = describe_file(path)
    reach(f"stage.{stage}.written")
    write_json_atomically(
        _marker(folder, stage),
        {"stage": stage, "key": key, "code_version": code_version(), "files": entries, "facts": dict(facts)},
    )
    reach(f"stage.{stage}.marked")


def stage_is_done(folder: Path, stage: str, *, key: str = "") -> bool:
    """Tell whether a stage left a marker with this key and all its files are whole."""
    marker = _read(folder, stage)
    if marker is None or marker["key"] != key:
        return False
    return all(is_same_file(folder / name, entry) for name, entry in marker["files"].items())


def has_other_stage(folder: Path, *, key: str) -> bool:
    """Tell whether a stage in the work folder was made with another key: its files may be in nobody's list now."""
    markers = (_read(folder, path.name.removesuffix(SUFFIX)) for path in folder.glob(f"*{SUFFIX}"))
    return any(marker is None or marker["key"] != key for marker in markers)


def stage_facts(folder: Path, stage: str) -> dict[str, Any]:
    """The facts a finished stage left; raises MissingProduct when there is no marker."""
    marker = _read(folder, stage)
    if marker is None:
        raise MissingProduct(f"stage {stage} in {folder} has left no marker; run the stage first")
    return marker["facts"]


def stage_files(folder: Path, stage: str) -> tuple[str, ...]:
    """Names of the files a finished stage wrote; raises MissingProduct when there is no marker."""
    marker = _read(folder, stage)
    if marker is None:
        raise MissingProduct(f"stage {stage} in {folder} has left no marker; run the stage first")
    return tuple(marker["files"])


def describe_file(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def is_same_file(path: Path, entry: Mapping[str, Any]) -> bool:
    """Tell whether a file is there with the size and sha256 of an entry."""
    try:
        return path.stat().st_size == entry["bytes"] and sha256_file(path) == entry["sha256"]
    except OSError:
        return False


def _marker(folder: Path, stage: str) -> Path:
    return folder / f"{stage}{SUFFIX}"


def _read(folder: Path, stage: str) -> dict[str, Any] | None:
    try:
        marker = json.loads(_marker(folder, stage).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    complete = isinstance(marker, dict) and {"key", "files", "facts"} <= marker.keys()
    return marker if complete else None
