"""Drift: has the fit of ensemble and observations changed against the cycles that a passport is made of?

The innovation chi-square per observation is compared, recent cycles against those before them, on the logarithm:

    d = mean(log c_recent) - mean(log c_before),    z = d / (s sqrt(1/n_recent + 1/n_before)),

s the standard deviation of log c over the cycles before, raised for their lag-1 correlation (`effective_size`). The
last 3, 6 and 12 cycles are tried (a large change is seen early, a small one when there is enough of it) and the most
certain is told. Flagged when |z| > 3.5 and exp(d) is outside [1/1.08, 1.08]: a change that is certain and that
matters. `cycler bench passport` measures delay and false alarms.

The mean squared spread at the observations is compared in the same way, flagged outside [1/1.5, 1.5] (a spread that
is 0.82 or 1.22 of what it was). The chi-square sees spread and observation error together: a spread s beside an error
e that is scaled by 0.7 raises it by (s^2 + e^2) / (0.49 s^2 + e^2), 1.34 where both are equal, 1.02 where the error is
five times the spread, and then nothing made of innovations can see it; the spread itself halves its square.

Limits: a change of the spread may be the weather's, and is told all the same. What has been wrong from the beginning
is no drift: that is told by the coverage in the passport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.verification.consistency import effective_size

if TYPE_CHECKING:
    from jaxtyping import Float

#: Numbers of recent cycles that are tried, and the fewest before them that make a comparison.
RECENT, LEAST_BEFORE = (3, 6, 12), 12
#: How certain and how large a change must be: of 3000 steady series of 40 cycles with 390 independent observations in
#: each, 3 are flagged; of 200 whose chi-square rises by 1.145, 96 % within 12 cycles.
CERTAIN, MATTERS = 3.5, 1.08
#: How large a change of the squared spread must be.
SPREAD_MATTERS = 1.5


@dataclass(frozen=True)
class Drift:
    """Ratio of a recent number to that before, how many standard errors from 1, and whether it is flagged."""

    ratio: float
    z: float
    matters: float = MATTERS

    @property
    def is_flagged(self) -> bool:
        """True for a change that is certain and that matters."""
        return abs(self.z) > CERTAIN and abs(np.log(self.ratio)) > np.log(self.matters)

    def describe_spread(self, group: str) -> str:
        """The flag of the spread in words."""
        return (
            f"calibration of {group} has changed: the spread of the background at its observations is "
            f"{np.sqrt(self.ratio):.3g} times as large as before, by {abs(self.z):.1f} standard errors: another "
            "regime, or an inflation, a model or members that are not what they were"
        )

    def describe(self, group: str) -> str:
        """The flag of the chi-square in words."""
        way = "larger" if self.ratio > 1 else "smaller"
        cause = "too small for the errors" if self.ratio > 1 else "too large for the errors"
        return (
            f"calibration of {group} has changed: against what spread and error expect, squared innovations are "
            f"{self.ratio:.3g} times as large as before ({way} by {abs(self.z):.1f} standard errors): the "
            f"spread or the assumed error is {cause}"
        )


def drift(series: Float[np.ndarray, "cycle"], *, matters: float = MATTERS) -> Drift | None:
    """Compare the last cycles with those before them; None while there are too few, or one is not above 0."""
    spans = [recent for recent in RECENT if len(series) >= recent + LEAST_BEFORE]
    if not spans or not np.all(series > 0):
        return None
    log = np.log(np.asarray(series, dtype=np.float64))
    found = [_compared(log[:-recent], log[-recent:], matters) for recent in spans]
    return max(found, key=lambda one: (one.is_flagged, abs(one.z)))


def _compared(before: Float[np.ndarray, "cycle"], recent: Float[np.ndarray, "cycle"], matters: float) -> Drift:
    inflation = len(before) / effective_size(before)
    standard_error = before.std(ddof=1) * np.sqrt(inflation * (1 / len(recent) + 1 / len(before)))
    change = float(recent.mean() - before.mean())
    return Drift(float(np.exp(change)), change / float(max(standard_error, 1e-12)), matters)
