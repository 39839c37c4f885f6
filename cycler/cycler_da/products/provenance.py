"""Provenance: what a product was made from, as hashes and versions.

`sha256_file` identifies the bytes of a file; `logical_hash` identifies values, so that a file written
again with another compression still proves to hold the same analysis.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_DISTRIBUTION = "cycler-da"
_REPORTED = ("torch", "numpy", "netCDF4", "dask", "prefect")


def sha256_file(path: Path | str) -> str:
    """Hexadecimal sha256 of the bytes of a file, read in pieces."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_of(content: Mapping[str, Any]) -> str:
    """Hash of a small JSON object but for its key `check`, where it may stand: a changed byte shows."""
    text = json.dumps({name: value for name, value in content.items() if name != "check"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def logical_hash(array: np.ndarray) -> str:
    """Hexadecimal sha256 of the dtype, shape and values of an array.

    Independent of memory order, byte order, chunking and compression. Values count bit by bit: -0.0 and
    0.0 differ, and so do float32 and float64.
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    head = f"{little.dtype.kind}{little.dtype.itemsize}|{'x'.join(map(str, array.shape))}|"
    digest = hashlib.sha256(head.encode())
    digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@cache
def code_version() -> str:
    """Version of the package; in a checkout also the commit, and `.dirty` when files differ from it."""
    version = package_version(_DISTRIBUTION) or "unknown"
    commit = _git("rev-parse", "--short=12", "HEAD") if _is_tracked() else None
    if commit is None:
        return version
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{version}+g{commit}{'.dirty' if changed else ''}"


def package_version(name: str) -> str | None:
    """Version of an installed distribution, None when it is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Facts about the machine and the libraries that may change the last bits of a result."""
    versions = {name: version for name in _REPORTED if (version := package_version(name))}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu_count": os.cpu_count(),
        **versions,
    }


def _is_tracked() -> bool:
    # A package installed into an environment inside some other repository has no commit of ours.
    return _git("ls-files", "--error-unmatch", Path(__file__).name, folder=Path(__file__).parent) is not None


def _git(*words: str, folder: Path | None = None) -> str | None:
    where = folder or Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
