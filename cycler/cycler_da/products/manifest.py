"""The manifest of a cycle: what it consists of, as hashes, and what it was made from.

`files` holds size and sha256 of every file; `arrays` a hash of the values of every member of every field
variable (independent of compression); `inputs` the hashes of config, weights, observation files and the
manifest of the previous cycle. As every manifest names the one before, the cycles form a chain: one
changed byte anywhere shows in a file hash, one exchanged cycle in the link after it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import DataError, MissingProduct
from cycler_da.products.atomic import is_private
from cycler_da.products.damage import damaged_arrays
from cycler_da.products.gridfile import open_file, read_part
from cycler_da.products.provenance import code_version, environment, logical_hash
from cycler_da.products.retirement import RETIRED, is_retired
from cycler_da.products.stages import SUFFIX, describe_file, is_same_file
from cycler_da.times import iso_time, time_stamp

FORMAT = "cycler-manifest-1"
MANIFEST = "MANIFEST.json"
SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class PreviousCycle:
    """The link to the cycle before: its stamp and the sha256 of its manifest file."""

    stamp: str
    manifest_sha256: str


@dataclass(frozen=True)
class Inputs:
    """Hashes (sha256) of everything a cycle was made from; absent streams and weights are left out."""

    config: str
    previous: PreviousCycle | None = None  # None: the first cycle
    observations: Mapping[str, str] = field(default_factory=dict)  # stream: hash of the file used
    weights: Mapping[str, str] = field(default_factory=dict)
    other: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary for the manifest."""
        link = self.previous
        return {
            "config": self.config,
            "code": code_version(),
            "previous_manifest": link and {"cycle": link.stamp, "sha256": link.manifest_sha256},
            "observations": dict(self.observations),
            "weights": dict(self.weights),
            "other": dict(self.other),
        }


def build_manifest(
    folder: Path,
    *,
    experiment: str,
    chain: str,
    time: np.datetime64,
    inputs: Inputs,
    token: int,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a finished work folder; `token` is the fencing token of the lock it is published under.

    `facts` (degraded reasons, counts, seed) must be plain JSON. Raises DataError for a damaged field file.
    """
    files = {name: describe_file(folder / name) for name in product_names(folder)}
    arrays = {name: hashes for name in files if name.endswith(".nc") and (hashes := array_hashes(folder / name))}
    return {
        "format": FORMAT,
        "experiment": experiment,
        "chain": chain,
        "cycle": time_stamp(time),
        "valid_time": iso_time(time),
        "created": iso_time(np.datetime64("now", "s")),
        "fencing_token": token,
        "facts": dict(facts or {}),
        "inputs": inputs.to_json(),
        "environment": environment(),
        "files": files,
        "arrays": arrays,
        "arrays_sha256": digest_of(arrays),
    }


def product_names(folder: Path) -> list[str]:
    """Names of all product files of a cycle, sorted: no manifest, markers or unfinished files."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and not is_private(path))
    return sorted(
        name.as_posix()
        for name in names
        if name.suffix != SUFFIX and name.as_posix() not in (MANIFEST, SUCCESS, RETIRED)
    )


def array_hashes(path: Path) -> dict[str, Any]:
    """Hashes of the values of a field file: `{variable: {member: hash}}`, or `{variable: hash}` of single states.

    Empty for other NetCDF files (observations, feedback).
    """
    with open_file(path) as dataset:
        if "cycler_layout" not in dataset.ncattrs() or "time" not in dataset.dimensions:
            return {}
        channels = [variable["name"] for variable in json.loads(dataset.cycler_layout)["variables"]]
        if getattr(dataset, "cycler_kind", "") == "forecast_products":  # made of the variables, which it does not hold
            channels = [name for name, v in dataset.variables.items() if "time" in v.dimensions and v.ndim > 1]
        hashes: dict[str, Any] = {}
        for name in channels:
            variable = dataset.variables.get(name)
            if variable is None:
                raise DataError(f"{path}: variable {name} is absent; the file is not whole, make it again")
            if variable.dimensions[0] == "realization":
                ids = read_part(path, dataset.variables["realization"])
                hashes[name] = {str(i): logical_hash(read_part(path, variable, k)) for k, i in enumerate(ids)}
            else:
                hashes[name] = logical_hash(read_part(path, variable))
    return hashes


def digest_of(content: Any) -> str:
    """One sha256 of a JSON-ready value; equal content, equal digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a cycle folder; raises MissingProduct when it is absent or damaged."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingProduct(f"{path} does not exist; the cycle was not published") from error
    except (OSError, ValueError) as error:
        raise MissingProduct(f"{path} cannot be read ({error}); restore it or run the cycle again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise MissingProduct(f"{path} is no manifest of this program; expected format {FORMAT}")
    absent = [name for name in ("facts", "inputs", "files", "arrays") if not isinstance(content.get(name), dict)]
    if absent:
        raise MissingProduct(f"{path} is damaged: it has no {', '.join(absent)}; restore it or run the cycle again")
    return content


def check_files(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    """Problems of a folder against its manifest, one text each: damaged, absent and unlisted files.

    A file that was archived and retired is absent as it should be.
    """
    listed: Mapping[str, Any] = manifest["files"]
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            if not is_retired(folder, name, entry):
                yield f"{path}: the file is absent"
        elif not is_same_file(path, entry):
            yield f"{path}: {_what_differs(path, entry, manifest['arrays'].get(name, {}))}"
    for name in product_names(folder):
        if name not in listed:
            yield f"{folder / name}: the file is not in the manifest"


def _what_differs(path: Path, entry: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"the size is {size} bytes, the manifest says {entry['bytes']}"
    if not arrays:
        return "the bytes differ from the manifest (sha256)"
    where = damaged_arrays(path, arrays)
    place = f"in {', '.join(where)}" if where else "outside the fields of the members (metadata, mean or spread)"
    return f"the bytes differ from the manifest (sha256), {place}"
