"""A number that was found several times independently (for each truth, trial or seed): its mean with an interval.

The interval is Student's t of the mean at 95 %. For series in time order see `verification.consistency`.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np

from cycler_da.tables.report import Row
from cycler_da.verification.consistency import t_quantile


def independent_row(case: str, method: str, metric: str, found: Sequence[float]) -> Row:
    """Row of a number found independently; NaN are left out and not counted, one value has no interval."""
    kept = [float(value) for value in found if np.isfinite(value)]
    if len(kept) < 2:
        return Row(case, method, metric, kept[0] if kept else float("nan"), n=len(kept))
    half = t_quantile(0.975, len(kept) - 1) * stdev(kept) / len(kept) ** 0.5
    return Row(case, method, metric, mean(kept), mean(kept) - half, mean(kept) + half, len(kept))
