"""Covariance of fields on a rectangle that is not periodic, with a standard deviation that varies from place to place.

    C_i = D_i K D_i,   D_i = diag(std_i(x)) of member i,   K(x, x') = rho(x - x')

K is applied exactly: the rectangle is embedded in a torus so much larger that nothing wraps around,

    K = P^T F^H S F P,   P = padding with zeros, P^T = cropping, S >= 0 the transform of rho

and its root is not square: K = G G^T with G = P^T F^H S^1/2 F, so that cropped noise of the torus is a
draw from N(0, K) exactly. S is the same for all members. Channels are independent of each other.
Source: circulant embedding, Dietrich and Newsam (1997), SIAM J. Sci. Comput. 18, 1088.

`exponential_correlation` sums exponentials, rho(d) = sum_k w_k exp(-d / l_k); one with l = 0 is white. The
torus is longer than the rectangle by `reach` times the longest l: what wraps is exp(-reach), by default nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Lengths of an exponential after which it counts as gone: exp(-26) = 5e-12.
REACH = 26.0


@dataclass(frozen=True)
class StationaryCorrelation:
    """K on a rectangle of `shape` cells (one axis or more); `spectrum` (S, float64) lives on half of a larger torus.

    On axes that are periodic themselves the torus is the grid and nothing is padded.
    """

    spectrum: Float[Tensor, "torus_y torus_k"]
    shape: tuple[int, ...]
    torus: tuple[int, ...]

    def apply(self, v: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """K v."""
        return self._crop(self._filter(self._pad(v), self.spectrum))

    def spread(self, z: Float[Tensor, "batch channel torus_y torus_x"]) -> Float[Tensor, "batch channel y x"]:
        """G z: from noise on the torus to the rectangle."""
        return self._crop(self._filter(z, torch.sqrt(self.spectrum)))

    def gather(self, v: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel torus_y torus_x"]:
        """G^T v, the transpose of `spread`."""
        return self._filter(self._pad(v), torch.sqrt(self.spectrum))

    def _filter(self, z: Tensor, spectrum: Tensor) -> Tensor:
        axes = tuple(range(-len(self.torus), 0))
        wide = torch.fft.rfftn(z, dim=axes) * spectrum.to(z.device, z.dtype)
        return torch.fft.irfftn(wide, s=self.torus, dim=axes)

    def _pad(self, v: Tensor) -> Tensor:
        margins = [(0, n - held) for n, held in zip(self.torus, self.shape, strict=True)]
        return F.pad(v, tuple(itertools.chain.from_iterable(reversed(margins))))

    def _crop(self, z: Tensor) -> Tensor:
        for axis, held in enumerate(self.shape, start=z.ndim - len(self.shape)):
            z = z.narrow(axis, 0, held)
        return z


@dataclass(frozen=True)
class LocalCovariance:
    """C_i = D_i K D_i; `std` has one row for each member, or one for all."""

    std: Float[Tensor, "batch channel y x"]
    correlation: StationaryCorrelation

    def apply(self, v: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """C_i v_i."""
        return self.std * self.correlation.apply(self.std * v)

    def color(self, z: Float[Tensor, "batch channel torus_y torus_x"]) -> Float[Tensor, "batch channel y x"]:
        """D_i G z_i: a draw from N(0, C_i) when z is standard normal of shape `noise_shape`."""
        return self.std * self.correlation.spread(z)

    def gather(self, v: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel torus_y torus_x"]:
        """G^T D_i v_i, the transpose of `color`."""
        return self.correlation.gather(self.std * v)

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the noise that `color` takes, for states of shape `(channel, y, x)`."""
        return (state_shape[0], *self.correlation.torus)


def exponential_correlation(
    shape: tuple[int, int], parts: Sequence[tuple[float, float]], *, reach: float = REACH
) -> StationaryCorrelation:
    """Sum of exponentials given as (weight, length in cells); weights are positive and are made to sum to one.

    A smaller `reach` makes a smaller torus: still a correlation, but one that wraps around by exp(-reach).
    """
    total = sum(weight for weight, _ in parts)
    if not parts or any(weight <= 0 or length < 0 for weight, length in parts):
        raise ValueError(f"a correlation needs positive weights and lengths of 0 or more, got {tuple(parts)}")
    longest = max(length for _, length in parts)
    torus = (fast_size(shape[0] + math.ceil(reach * longest)), fast_size(shape[1] + math.ceil(reach * longest)))
    kernel = torch.zeros(torus, dtype=torch.float64)
    # Images around the torus are summed, not cut off: so the spectrum is that of rho, which has no negative part.
    for shift_y, shift_x in itertools.product((-1, 0, 1), repeat=2):
        y, x = (torch.arange(n, dtype=torch.float64) + k * n for n, k in zip(torus, (shift_y, shift_x), strict=True))
        distance = torch.sqrt(y[:, None] ** 2 + x[None, :] ** 2)
        for weight, length in parts:
            rho = (distance == 0).to(torch.float64) if length == 0 else torch.exp(-distance / length)
            kernel = kernel + weight / total * rho
    spectrum = torch.fft.rfft2(kernel).real.clamp(min=0.0)  # rounding
    return StationaryCorrelation(spectrum, shape, torus)


def fast_size(at_least: int) -> int:
    """The next size with no prime factor above 5, for which transforms are fast."""
    size = at_least
    while _rest(size) != 1:
        size += 1
    return size


def _rest(n: int) -> int:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n
