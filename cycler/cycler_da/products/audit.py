"""Audit of published cycles: bytes against manifests, and manifests against each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cycler_da.errors import MissingProduct
from cycler_da.products.manifest import MANIFEST, SUCCESS, check_files, digest_of, read_manifest
from cycler_da.products.provenance import check_of, sha256_file
from cycler_da.products.retirement import check_notes

#: What is said behind a problem of an earlier publication.
REPLACED = "it has been replaced since; where nobody needs it, remove its folder"

#: Keys of a seal from before it had a check of its own.
BARE_SEAL = {"manifest_sha256", "fencing_token", "published"}


def audit_chain(folders: Mapping[str, Path], *, cycles: Path, revisions: Path) -> list[str]:
    """Problems of cycle folders (by stamp), oldest first; an empty list means all is as published.

    `cycles` and `revisions` are searched for the cycle that a manifest names as the one before it.
    """
    return [problem for stamp in sorted(folders) for problem in _audit_cycle(folders[stamp], cycles, revisions)]


def audit_revisions(folders: Iterable[Path]) -> list[str]:
    """Problems of earlier publications, in the order given; what they were made from may have gone."""
    return [f"{problem}; {REPLACED}" for folder in folders for problem in _audit_content(folder)[1]]


def _audit_cycle(folder: Path, cycles: Path, revisions: Path) -> Iterator[str]:
    manifest, problems = _audit_content(folder)
    yield from problems
    if manifest is not None and not any(str(folder / MANIFEST) in problem for problem in problems):
        yield from _check_link(folder, manifest, cycles, revisions)


def _audit_content(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The manifest of a folder, None for one that cannot be read, and the problems of what lies beside it."""
    try:
        manifest = read_manifest(folder)
    except MissingProduct as error:
        return None, [str(error)]
    problems = list(_check_seal(folder))
    try:
        problems += [*check_files(folder, manifest), *check_notes(folder), *_check_copies(folder, manifest)]
        if digest_of(manifest["arrays"]) != manifest.get("arrays_sha256"):
            problems.append(f"{folder / MANIFEST}: the hashes of the members do not match their digest")
    except MissingProduct as error:  # what was retired is not known
        problems.append(str(error))
    except (LookupError, TypeError, AttributeError):
        if not problems:
            raise
        return None, problems  # of a manifest that is not the one published, not all can be understood
    return manifest, problems


def _check_seal(folder: Path) -> Iterator[str]:
    path = folder / SUCCESS
    try:
        seal = json.loads(path.read_text(encoding="utf-8"))
        sealed = seal["manifest_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"{path}: cannot be read ({error})"
        return
    if sealed != sha256_file(folder / MANIFEST):
        yield f"{folder / MANIFEST}: the manifest is not the one that was published (sha256 differs from {SUCCESS})"
    elif set(seal) != BARE_SEAL and seal.get("check") != check_of(seal):
        yield f"{path}: its content is not what was written (check differs)"


def _check_copies(folder: Path, manifest: Mapping) -> Iterator[str]:
    """The kept copies of observation files must be the inputs that the manifest names."""
    for stream, wanted in manifest["inputs"]["observations"].items():
        entry = manifest["files"].get(f"obs/in.{stream}.nc")
        if entry is not None and entry["sha256"] != wanted:
            yield f"{folder}/obs/in.{stream}.nc: it is not the file that the cycle read (inputs name another sha256)"


def _check_link(folder: Path, manifest: Mapping, cycles: Path, revisions: Path) -> Iterator[str]:
    link = manifest["inputs"]["previous_manifest"]
    if link is None:
        return
    before = cycles / link["cycle"]
    if (before / MANIFEST).is_file() and sha256_file(before / MANIFEST) == link["sha256"]:
        return
    for revision in sorted(revisions.glob(f"{link['cycle']}.*/{MANIFEST}")):
        if sha256_file(revision) == link["sha256"]:
            if _follows_early_pass(revision, manifest):
                return
            yield (
                f"{folder}: it was made from {revision.parent.name}, an earlier publication of its previous cycle; "
                "run it again with --force to follow the present one"
            )
            return
    state = "differs from" if (before / MANIFEST).is_file() else "is absent, expected"
    yield f"{folder}: the manifest of its previous cycle {link['cycle']} {state} the one it was made from"


def _follows_early_pass(revision: Path, manifest: Mapping) -> bool:
    """An early cycle was made from an early one that its final pass has since replaced: so it is meant to be."""
    earlier = json.loads(revision.read_text(encoding="utf-8"))["facts"].get("delivery")
    return bool(earlier == "early" and manifest["facts"].get("delivery") == "early")
