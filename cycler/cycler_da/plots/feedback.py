"""Observations of a cycle as points: read from the feedback files, sorted by what became of them.

Flags follow UFO: 0 used, 1 passive (withheld from the analysis), 10 and above rejected.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import netCDF4
import numpy as np

from cycler_da.errors import DataError
from cycler_da.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Float, Int

USED = 0
PASSIVE = 1


@dataclass(frozen=True)
class ObsPoints:
    """Observations of one variable from all streams. What was not computed is NaN."""

    y: Float[np.ndarray, "obs"]  # along the last but one axis (m), or latitude; zero on one axis
    x: Float[np.ndarray, "obs"]  # along the last axis (m), or longitude
    value: Float[np.ndarray, "obs"]
    qc: Int[np.ndarray, "obs"]
    hofx: Float[np.ndarray, "obs"]  # background mean of H(x)
    ombg: Float[np.ndarray, "obs"]  # y - H(background)
    oman: Float[np.ndarray, "obs"]  # y - H(analysis)
    is_geographic: bool = False  # positions are latitude and longitude

    def __len__(self) -> int:
        return len(self.value)

    @property
    def is_used(self) -> np.ndarray:
        """True where the analysis used the observation."""
        return self.qc == USED

    @property
    def is_withheld(self) -> np.ndarray:
        """True where H(x) was computed but the analysis did not see the observation."""
        return self.qc == PASSIVE

    @property
    def is_rejected(self) -> np.ndarray:
        """True where quality control refused the observation."""
        return self.qc >= 10

    def counts(self) -> dict[str, int]:
        """How many were used, withheld and rejected."""
        kinds = {"used": self.is_used, "withheld": self.is_withheld, "rejected": self.is_rejected}
        return {kind: int(mask.sum()) for kind, mask in kinds.items()}


_GROUPS = {"value": "ObsValue", "hofx": "hofx", "ombg": "ombg", "oman": "oman"}


def read_feedback_folder(folder: Path, layout: Layout) -> dict[str, ObsPoints]:
    """Read every `*.nc` of a feedback folder; variables without any observation are left out."""
    parts: dict[str, list[ObsPoints]] = {}
    for path in sorted(folder.glob("*.nc")):
        for name, points in _read_file(path, layout).items():
            parts.setdefault(name, []).append(points)
    return {name: _join(found) for name, found in parts.items() if sum(map(len, found))}


def _read_file(path: Path, layout: Layout) -> dict[str, ObsPoints]:
    try:
        with netCDF4.Dataset(path) as source:
            flags = source["EffectiveQC"].variables
            return {name: _read_points(source, name, layout) for name in layout.channels if name in flags}
    except (OSError, IndexError, KeyError) as error:
        raise DataError(
            f"observation maps of {path}: {error}; expected a feedback file with the groups "
            f"MetaData, ObsValue, EffectiveQC, {', '.join(_GROUPS.values())}"
        ) from error


def _read_points(source: netCDF4.Dataset, name: str, layout: Layout) -> ObsPoints:
    qc = np.ma.asarray(source["EffectiveQC"][name][:])
    reported = ~np.ma.getmaskarray(qc)
    where = source["MetaData"].variables
    axes = ("", "", *layout.grid.names)[-2:]  # a system on one axis has no y
    is_geographic = axes[1] not in where and "longitude" in where
    y_name, x_name = ("latitude", "longitude") if is_geographic else axes

    def column(group: str) -> np.ndarray:
        if group not in source.groups or name not in source[group].variables:
            return np.full(int(reported.sum()), np.nan)
        return np.ma.filled(np.ma.asarray(source[group][name][:], dtype=np.float64), np.nan)[reported]

    def coordinate(label: str) -> np.ndarray:
        if label not in where:
            return np.zeros(int(reported.sum()))
        return np.ma.filled(np.ma.asarray(where[label][:], dtype=np.float64), np.nan)[reported]

    return ObsPoints(
        y=coordinate(y_name),
        x=coordinate(x_name),
        qc=qc.filled(0)[reported].astype(np.int64),
        is_geographic=is_geographic,
        **{field: column(group) for field, group in _GROUPS.items()},
    )


def _join(parts: list[ObsPoints]) -> ObsPoints:
    if len({part.is_geographic for part in parts if len(part)}) > 1:
        raise DataError("observation maps: some streams give latitude and longitude, others y and x; use one of them")
    arrays = [column.name for column in fields(ObsPoints) if column.name != "is_geographic"]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    return ObsPoints(**joined, is_geographic=any(part.is_geographic for part in parts if len(part)))
