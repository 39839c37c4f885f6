"""Single events of the public SEVIR archive, without its files of many gigabytes.

    archive   https://sevir.s3.amazonaws.com, the bucket s3://sevir, which needs no account
    one event, 7 MB, is read out of its HDF5 file by ranges (`remote_file`) and written to OUT/<id>.h5 with the
    datasets `vil` [1, 384, 384, 49] and `id`, as the archive's own files have them

An event that is there with the checksum noted in OUT/SHA256SUMS is left alone, so the same command continues where it
was stopped; one that is damaged is fetched again. The id in the file must be that of the catalogue.
Limit: the archive publishes no checksums; the noted ones say that a file is what was downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import DataError
from cycler_da.systems.remote_file import RemoteFile
from cycler_da.systems.sevir_catalog import SevirEvent

ARCHIVE = "https://sevir.s3.amazonaws.com"
SUMS = "SHA256SUMS"


def download_events(
    events: Sequence[SevirEvent],
    out: Path,
    *,
    archive: str = ARCHIVE,
    on_event: Callable[[int, SevirEvent], None] = lambda done, event: None,
    on_bytes: Callable[[int], None] = lambda n: None,
) -> list[Path]:
    """Fetch events that are not there yet; returns their files, in the order asked for.

    Raises MissingInput when the archive cannot be reached or lacks a file, DataError when an event is not what the
    catalogue says; what was fetched before stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    known, files, written = read_sums(out), dict[str, Any](), []
    for done, event in enumerate(events):
        on_event(done, event)
        path = out / f"{event.id}.h5"
        if known.get(path.name) != (_sha256(path) if path.is_file() else None) or path.name not in known:
            known[path.name] = _fetch(event, path, files, archive=archive, on_bytes=on_bytes)
            _write_sums(out, known)
        written.append(path)
    return written


def read_sums(out: Path) -> dict[str, str]:
    """File name -> sha256, as noted when it was fetched."""
    path = out / SUMS
    lines = path.read_text().splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines if line.strip())}


def _fetch(
    event: SevirEvent, path: Path, files: dict[str, Any], *, archive: str, on_bytes: Callable[[int], None]
) -> str:
    import h5py

    if event.file not in files:
        files.clear()  # one file of the archive open at a time
        url = f"{archive.rstrip('/')}/data/{event.file}"
        files[event.file] = h5py.File(RemoteFile(url, on_bytes=on_bytes), "r")
    source = files[event.file]
    found = source["id"][event.row] if event.row < len(source["id"]) else b""
    name = found.decode() if isinstance(found, bytes) else str(found)
    if name != event.id:
        raise DataError(
            f"event {event.id}: row {event.row} of {event.file} is {name or 'absent'}; the catalogue is not that "
            "of this archive"
        )
    frames = np.asarray(source["vil"][event.row])
    private = path.with_suffix(".part")
    with h5py.File(private, "w") as target:
        target.create_dataset("id", data=np.array([event.id.encode()]))
        target.create_dataset(
            "vil", data=frames[None], chunks=(1, *frames.shape[:2], 1), compression=1, shuffle=True, fletcher32=True
        )
    private.replace(path)
    return _sha256(path)


def _write_sums(out: Path, known: dict[str, str]) -> None:
    private = out / f"{SUMS}.part"
    private.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(known.items())))
    private.replace(out / SUMS)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
