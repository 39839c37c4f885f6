"""Running statistics of members that arrive one by one; numpy only.

With n members seen, mean m_n and sum of squared deviations S_n:

    m_n = m_{n-1} + (x_n - m_{n-1}) / n
    S_n = S_{n-1} + (x_n - m_{n-1}) (x_n - m_n)

Two parts a and b join by S = S_a + S_b + d^2 n_a n_b / (n_a + n_b) with d = m_b - m_a.
Sources: Welford 1962, Technometrics 4, 419; Chan, Golub and LeVeque 1983, Am. Stat. 37, 242, eq. 2.1.
Memory is two float64 states, whatever the number of members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations, in float64."""

    count: int
    mean: Float[np.ndarray, "*shape"]
    squares: Float[np.ndarray, "*shape"]

    @staticmethod
    def empty(shape: tuple[int, ...]) -> Moments:
        """Moments of nothing yet."""
        return Moments(0, np.zeros(shape), np.zeros(shape))

    def add(self, x: Float[np.ndarray, "*shape"]) -> Moments:
        """Moments with one more member."""
        count = self.count + 1
        before = np.asarray(x, dtype=np.float64) - self.mean
        mean = self.mean + before / count
        return Moments(count, mean, self.squares + before * (x - mean))

    def join(self, other: Moments) -> Moments:
        """Moments of both groups of members together."""
        count = self.count + other.count
        if count == 0:
            return self
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + apart**2 * (self.count * other.count / count))

    def spread(self) -> Float[np.ndarray, "*shape"]:
        """Standard deviation with denominator n - 1; needs two members."""
        if self.count < 2:
            raise ValueError(f"the spread of {self.count} member(s) is not defined")
        return np.sqrt(self.squares / (self.count - 1))
