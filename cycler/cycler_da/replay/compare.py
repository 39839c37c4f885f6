"""Compare a cycle that was made again with the archived one: values bit for bit, and what made them.

Values are compared variable by variable through all groups of every NetCDF file, other files byte for byte.
What is a note of one run (when it was made, how long it took) lies in attributes and in `diag/summary.json`
and is not compared. A difference is told with its variable, its members and its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from cycler_da.errors import DataError
from cycler_da.products.gridfile import open_file, read_part
from cycler_da.products.provenance import environment

#: Facts of the environment that no value depends on.
_HARMLESS = {"cpu_count", "prefect"}


def differing_values(archived: Path, again: Path) -> list[str]:
    """Differences between two NetCDF files, one text for each variable; empty when all values are equal."""
    with open_file(archived) as first, open_file(again) as second:
        before, now = _variables(first), _variables(second)
        gone = [f"{name} is absent" for name in before if name not in now]
        more = [f"{name} was not there" for name in now if name not in before]
        told = (_difference(archived, name, before[name], now[name]) for name in before if name in now)
        return [*gone, *more, *(text for text in told if text)]


def differing_files(archived: Path, again: Path, names: list[str]) -> list[str]:
    """Differences of the named files of two cycle folders."""
    problems = []
    for name in names:
        if not (again / name).is_file():
            problems.append(f"{name}: was not made again")
        elif name.endswith(".nc"):
            problems += [f"{name}: {text}" for text in _differing_values(archived / name, again / name)]
        elif (archived / name).read_bytes() != (again / name).read_bytes():
            problems.append(f"{name}: the bytes differ")
    return problems


def _differing_values(archived: Path, again: Path) -> list[str]:
    """As `differing_values`; a file that cannot be read is a difference, too."""
    try:
        return differing_values(archived, again)
    except DataError as error:
        return [str(error)]


def differing_origin(manifest: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[str]:
    """What made the archived cycle and would be another one now: config, code, weights, libraries, machine.

    `inputs` has the keys of a manifest's `inputs`, those of today.
    """
    before, lines = manifest["inputs"], []
    for key in ("config", "code", "weights", "other"):
        if before[key] != inputs[key]:
            lines.append(f"{key} was {_short(before[key])}, is {_short(inputs[key])}")
    now, then = environment(), manifest["environment"]
    others = sorted(key for key in {*now, *then} - _HARMLESS if now.get(key) != then.get(key))
    return [*lines, *(f"{key} was {then.get(key)}, is {now.get(key)}" for key in others)]


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(one)}" for name, one in value.items()) or "none"
    text = str(value)
    return text[:12] if len(text) == 64 else text


def _variables(dataset: netCDF4.Dataset) -> dict[str, netCDF4.Variable]:
    found: dict[str, netCDF4.Variable] = {}
    for prefix, group in _groups(dataset):
        found |= {f"{prefix}{name}": variable for name, variable in group.variables.items()}
    return found


def _groups(dataset: netCDF4.Dataset, prefix: str = "") -> Iterator[tuple[str, Any]]:
    yield prefix, dataset
    for name, group in dataset.groups.items():
        yield from _groups(group, f"{prefix}{name}/")


def _difference(path: Path, name: str, before: netCDF4.Variable, now: netCDF4.Variable) -> str:
    first, second = np.asarray(read_part(path, before)), np.asarray(read_part(path, now))
    if first.shape != second.shape or first.dtype != second.dtype:
        return f"{name} was {first.dtype} {first.shape}, is {second.dtype} {second.shape}"
    if _same_bits(first, second):
        return ""
    if first.dtype.kind not in "fiu":
        return f"{name} has other texts"
    other = first != second
    text = f"{name} differs in {int(other.sum())} of {other.size} values"
    if before.dimensions and before.dimensions[0] == "realization":
        text += f", members {', '.join(str(i) for i in np.flatnonzero(other.reshape(len(other), -1).any(axis=1)))}"
    if first.dtype.kind == "f":
        units = f" {before.units}" if "units" in before.ncattrs() else ""
        text += f", by up to {np.nanmax(np.abs(first - second)):.3g}{units}"
    return text


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    if first.dtype.kind == "O":
        return first.tolist() == second.tolist()
    return np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes()
