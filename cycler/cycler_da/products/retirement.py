"""Retirement: files of a published cycle that were archived and removed, and the note that says so.

The published folder never changes otherwise, so the note lies beside the manifest, `RETIRED.json`: for each file its
sha256, where its copy is, and when it was removed. It is written before the first file goes. A file that is absent
and noted with the sha256 of the manifest is no damage; its copy was read back and compared before.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import CannotWrite, MissingProduct
from cycler_da.faultpoint import reach
from cycler_da.products.atomic import flush_folder, refusals_explained, write_atomically, write_json_atomically
from cycler_da.products.provenance import check_of
from cycler_da.products.stages import is_same_file
from cycler_da.times import iso_time

RETIRED = "RETIRED.json"

#: Keys of a note from before it had a check of its own.
BARE_NOTE = {"sha256", "archive", "when"}


def read_retired(folder: Path) -> dict[str, Any]:
    """Files of a cycle folder that were retired, by name; raises MissingProduct when the note is damaged."""
    path = folder / RETIRED
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise MissingProduct(
            f"{path} cannot be read ({error}); restore it from the archive beside the files"
        ) from error
    return content if isinstance(content, dict) else {}


def is_retired(folder: Path, name: str, entry: Mapping[str, Any]) -> bool:
    """Tell whether an absent file was retired as the one that the manifest's entry describes."""
    note = read_retired(folder).get(name)
    return note is not None and note.get("sha256") == entry["sha256"]


def check_notes(folder: Path) -> Iterator[str]:
    """Problems of the note of a cycle folder; raises MissingProduct when it cannot be read."""
    for name, note in read_retired(folder).items():
        if set(note) != BARE_NOTE and note.get("check") != check_of(note):
            yield f"{folder / RETIRED}: what it says of {name} is not what was written (check differs)"


def claim_place(place: Path, manifest: Path) -> Path:
    """The archive folder of one publication, marked by a copy of its manifest before any file comes.

    It is `place`, or `place` with the beginning of the manifest's sha256 where another publication is there already:
    copies of what a revision replaced are never written over. Raises CannotWrite.
    """
    content = manifest.read_bytes()
    for folder in (place, place.with_name(f"{place.name}.{hashlib.sha256(content).hexdigest()[:12]}")):
        claim = folder / manifest.name
        if not claim.exists():
            write_atomically(claim, lambda private: _copy(manifest, private))
        if claim.read_bytes() == content:
            return folder
    raise CannotWrite(f"{claim} is not the manifest {manifest}; the archive is damaged there, nothing is retired")


def archive_file(source: Path, target: Path, entry: Mapping[str, Any]) -> None:
    """Copy a file into the archive and read it back, unless it is there already.

    Raises MissingProduct when the source is not what was published, CannotWrite when the copy is not the source.
    """
    if not is_same_file(source, entry):
        raise MissingProduct(f"{source} is not what was published; it is neither archived nor retired")
    if is_same_file(target, entry):
        return
    write_atomically(target, lambda private: _copy(source, private))
    if not is_same_file(target, entry):
        raise CannotWrite(f"{target}: what the archive gives back is not what was written; nothing is retired")


def retire(folder: Path, names: Sequence[str], *, entries: Mapping[str, Any], archive: Path) -> None:
    """Note files and remove them; each must be in `archive` as its entry says. Raises CannotWrite, MissingProduct."""
    for name in names:
        if not is_same_file(archive / name, entries[name]):
            raise MissingProduct(f"{archive / name} is not what the manifest of {folder} names; nothing is retired")
    when = iso_time(np.datetime64("now", "s"))
    notes = {name: {"sha256": entries[name]["sha256"], "archive": str(archive / name), "when": when} for name in names}
    for note in notes.values():
        note["check"] = check_of(note)
    write_json_atomically(folder / RETIRED, {**read_retired(folder), **notes})
    reach("retire.noted")
    with refusals_explained(folder):
        for name in names:
            (folder / name).unlink(missing_ok=True)
            reach("retire.removed")
        for place in {(folder / name).parent for name in names} - {folder}:
            if not any(place.iterdir()):
                place.rmdir()
        flush_folder(folder)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
