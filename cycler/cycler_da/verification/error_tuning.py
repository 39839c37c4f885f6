"""Slow tuning of observation errors from the statistics of Desroziers.

With innovations d_b, residuals d_a and the error e that the provider gives, an analysis with right errors has
E[d_a d_b] = E[e^2] (Desroziers et al. 2005, QJRMS 131, 3385, eq. 3). The errors of a stream and variable are
multiplied by a factor f; over the cycles i of the trailing window before this one the target is

    t^2 = sum_i (d_a d_b)_i / sum_i (e^2)_i,      log f_k = log f_{k-1} + clip(rate log(t / f_{k-1}), +-log(1 + most)),

held inside `limits`. Cycles of the window were made with earlier factors. As E[d_a d_b] lies between the error that was
used and the true one where the spread is right, the iteration closes in on the true one from one side (Menard 2016,
QJRMS 142, 257: its fixed point needs a right background error, else both errors share what is missing).

Limits: correlated errors and biases count as error. A filter whose spread is wrong drags the errors along; a bound on
the factor and a slow rate keep that from running away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cycler_da.errors import ConfigError
from cycler_da.registry import Spec


@dataclass(frozen=True, kw_only=True)
class ErrorTuning(Spec):
    """How errors of a stream are tuned."""

    rate: float = 0.2  # share of the way to the target that a cycle goes, on the logarithm
    most: float = 0.05  # largest change of the factor in one cycle
    limits: tuple[float, float] = (0.5, 2.0)  # of the factor
    cycles: int = 20  # of the trailing window that are looked at
    fewest: int = 500  # observations in them below which nothing is changed

    def __post_init__(self) -> None:
        low, high = self.limits
        if not (0 < self.rate <= 1 and 0 < self.most < 1 and 0 < low <= 1 <= high and self.cycles > 0):
            raise ConfigError(
                f"error_tuning: got {self}; expected 0 < rate <= 1, 0 < most < 1, limits around 1, cycles > 0"
            )


@dataclass(frozen=True)
class TunedSums:
    """Sums of one cycle over the used observations of one stream and variable, and the factor of its errors."""

    count: float
    residual_innovation: float
    error_squared: float  # of the errors that were used
    factor: float = 1.0


def next_factor(previous: float, cycles: Sequence[TunedSums], tuning: ErrorTuning) -> float:
    """Factor of the errors after these cycles, oldest first; the previous one where they do not say enough."""
    recent = cycles[-tuning.cycles :]
    product = sum(one.residual_innovation for one in recent)
    reported = sum(one.error_squared / one.factor**2 for one in recent)
    if sum(one.count for one in recent) < tuning.fewest or not (product > 0 and reported > 0):
        return previous
    step = tuning.rate * (0.5 * np.log(product / reported) - np.log(previous))
    most = np.log1p(tuning.most)
    return float(np.clip(previous * np.exp(np.clip(step, -most, most)), *tuning.limits))
