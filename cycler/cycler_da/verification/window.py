"""The trailing window: what each cycle adds to the calibration, kept for the last cycles.

A cycle hands the whole window on to the next one (`diag/window.json.gz`), so that it is made from the cycle before and
nothing else, and a replay makes the same one. JSON, compressed, without a time in it: equal windows are equal bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cycler_da.errors import DataError
from cycler_da.verification.calibration import CalibrationSums
from cycler_da.verification.innovations import InnovationSums
from cycler_da.verification.totals import Totals

_FORMAT = "cycler calibration window 1"

#: Cycles below which nothing is called usual.
LEAST_USUAL = 5


@dataclass(frozen=True)
class CycleCalibration:
    """What one cycle adds: sums of what its ensembles had not seen, and how far streams were from them."""

    stamp: str
    background: CalibrationSums = field(default_factory=CalibrationSums)  # all accepted observations
    analysis: CalibrationSums = field(default_factory=CalibrationSums)  # withheld observations
    assimilated: InnovationSums = field(default_factory=lambda: InnovationSums(Totals({})))  # with residuals
    deviation: Mapping[str, float] = field(default_factory=dict)  # by stream/variable, of streams not set aside
    analysis_deviation: Mapping[str, float] = field(default_factory=dict)  # by stream, of withheld observations
    error_factor: Mapping[str, float] = field(default_factory=dict)  # of observation errors, where they are tuned
    is_full_scheme: bool = True  # False: the analysis stands on a lower rung

    def to_json(self) -> dict[str, Any]:
        """Plain objects for strict JSON."""
        return {
            "stamp": self.stamp,
            "background": self.background.to_json(),
            "analysis": self.analysis.to_json(),
            "assimilated": self.assimilated.to_json(),
            "deviation": dict(self.deviation),
            "analysis_deviation": dict(self.analysis_deviation),
            **({"error_factor": dict(self.error_factor)} if self.error_factor else {}),
            **({} if self.is_full_scheme else {"is_full_scheme": False}),
        }

    @staticmethod
    def from_json(description: Mapping[str, Any]) -> CycleCalibration:
        """Read what `to_json` wrote."""
        return CycleCalibration(
            description["stamp"],
            CalibrationSums.from_json(description["background"]),
            CalibrationSums.from_json(description["analysis"]),
            InnovationSums.from_json(description["assimilated"]),
            dict(description["deviation"]),
            dict(description["analysis_deviation"]),
            dict(description.get("error_factor", {})),
            description.get("is_full_scheme", True),
        )


def pack(window: Sequence[CycleCalibration]) -> bytes:
    """The window as bytes of a file."""
    content = {"format": _FORMAT, "cycles": [cycle.to_json() for cycle in window]}
    text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def unpack(content: bytes) -> tuple[CycleCalibration, ...]:
    """Read what `pack` wrote; raises DataError for anything else."""
    try:
        described = json.loads(gzip.decompress(content))
        if described["format"] != _FORMAT:
            raise ValueError(described["format"])
        return tuple(CycleCalibration.from_json(cycle) for cycle in described["cycles"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"calibration window cannot be read ({error!r}); expected {_FORMAT}") from error


def usual(series: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of what every name had in the cycles of a window; names with too few values are left out."""
    names = sorted({name for one in series for name in one})
    values = {name: [one[name] for one in series if name in one] for name in names}
    return {name: float(np.median(found)) for name, found in values.items() if len(found) >= LEAST_USUAL}
