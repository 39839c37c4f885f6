"""Drift: has the fit of ensemble and observations changed against the cycles that a passport is made of?

The innovation chi-square per observation is compared, recent cycles against those before them, on the logarithm:

    d = mean(log c_recent) - mean(log c_before),    z = d / (s sqrt(1/n_recent + 1/n_before)),

s the standard deviation of log c over the cycles before, raised for their lag-1 correlation (`effective_size`).
Flagged when |z| > 4 and the ratio exp(d) is outside [1/1.08, 1.08]: a change that is certain and that matters. A spread
that is too small by the factor 0.7 raises the chi-square by 1.1 to 2 where spread and error are of one size.
`cycler bench passport` measures delay and false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.verification.consistency import effective_size

if TYPE_CHECKING:
    from jaxtyping import Float

#: Cycles whose mean is compared with those before them, and the fewest before them that make a comparison.
RECENT, LEAST_BEFORE = 6, 12
#: How certain and how large a change must be; tuned on the runs of `cycler bench passport`, 2026-11-26.
CERTAIN, MATTERS = 4.0, 1.08


@dataclass(frozen=True)
class Drift:
    """Ratio of the recent chi-square to that before, how many standard errors from 1, and whether it is flagged."""

    ratio: float
    z: float

    @property
    def is_flagged(self) -> bool:
        """True for a change that is certain and that matters."""
        return abs(self.z) > CERTAIN and abs(np.log(self.ratio)) > np.log(MATTERS)

    def describe(self, group: str) -> str:
        """The flag in words."""
        way = "larger" if self.ratio > 1 else "smaller"
        cause = "too small for the errors" if self.ratio > 1 else "too large for the errors"
        return (
            f"calibration of {group} has changed: against what spread and error expect, squared innovations are "
            f"{self.ratio:.3g} times as large as before ({way} by {abs(self.z):.1f} standard errors): the "
            f"spread or the assumed error is {cause}"
        )


def drift(chi_square: Float[np.ndarray, "cycle"]) -> Drift | None:
    """Compare the last cycles with those before them; None while there are too few, or one has no misfit at all."""
    if len(chi_square) < RECENT + LEAST_BEFORE or not np.all(chi_square > 0):
        return None
    log = np.log(np.asarray(chi_square, dtype=np.float64))
    before, recent = log[:-RECENT], log[-RECENT:]
    inflation = len(before) / effective_size(before)
    standard_error = before.std(ddof=1) * np.sqrt(inflation * (1 / RECENT + 1 / len(before)))
    change = float(recent.mean() - before.mean())
    return Drift(float(np.exp(change)), change / float(max(standard_error, 1e-12)))
