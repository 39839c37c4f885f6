"""Where a damaged file differs: variables and members whose values are not the recorded ones.

A damaged HDF5 file may end the process that reads it (the library follows what the file says), so it is read apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cycler_da.apart import ask_fresh
from cycler_da.errors import DataError
from cycler_da.products.gridfile import open_file, read_part
from cycler_da.products.provenance import logical_hash

UNREADABLE = "the structure of the file: it cannot be read"
UNKNOWN = "a place that is not known: no process could be started to look for it"
SECONDS = 120.0  # more than a trial has: every value of an ensemble is hashed


def damaged_arrays(path: Path, arrays: Mapping[str, Any]) -> list[str]:
    """Names of damaged variables, and of their members where hashes are of each; `arrays` as in a manifest."""
    try:
        outcome = ask_fresh(differing, path, arrays, seconds=SECONDS)
    except OSError:  # that the file is damaged is known already, and must be told
        return [UNKNOWN]
    found: list[str] = [UNREADABLE] if outcome.end or outcome.raised else outcome.answer
    return found


def differing(path: Path, arrays: Mapping[str, Any]) -> list[str]:
    """The same in this process, for files that are known to open."""
    found: list[str] = []
    with open_file(path) as dataset:
        for name, recorded in arrays.items():
            if isinstance(recorded, Mapping):
                whole = [_is_whole(path, dataset, name, k, wanted) for k, wanted in enumerate(recorded.values())]
                found += [f"{name} of member {member}" for member, ok in zip(recorded, whole, strict=True) if not ok]
            elif not _is_whole(path, dataset, name, ..., recorded):
                found.append(name)
    return found


def _is_whole(path: Path, dataset: Any, name: str, index: Any, wanted: str) -> bool:
    try:
        return logical_hash(read_part(path, dataset.variables[name], index)) == wanted
    except (DataError, KeyError):
        return False
