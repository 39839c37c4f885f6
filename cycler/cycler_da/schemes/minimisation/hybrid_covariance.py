"""Hybrid background-error covariance: a static B and the localized covariance of the members, by control variables.

    B_h = g B + (1 - g) rho o P,     P = sum_i a_i a_i^T,   a_i = f (x_i - mean) / sqrt(N - 1)
    U z = sqrt(g) B^1/2 z_0 + sqrt(1 - g) sum_i a_i o (L z_i),     rho = L L^T,     U U^T = B_h
One weight field z_i for each member, shared by all variables, so that balances among them are kept.
Source: Hamill and Snyder (2000), Mon. Wea. Rev. 128 (hybrid); Lorenc (2003), Q. J. R. Meteorol. Soc. 129 (control
variable); Wang, Snyder and Hamill (2007), Mon. Wea. Rev. 135 (equivalence).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.climatology import StateCovariance
from cycler_da.schemes.ensemble.localization_root import LocalizationRoot

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Numbers of one product of rows, members and cells that exist at once: 64 MB in float64.
NUMBERS_AT_ONCE = 2**23


@dataclass(frozen=True)
class EnsembleCovariance:
    """Rho o P, from scaled anomalies `a_i`."""

    anomalies: Float[Tensor, "member channel *space"]
    localization: LocalizationRoot

    def apply(self, v: Float[Tensor, "row channel *space"]) -> Float[Tensor, "row channel *space"]:
        """(rho o P) v, a few members at a time."""
        total = torch.zeros_like(v, dtype=torch.float64)
        for a in self._parts(v):
            seen = torch.einsum("nc...,rc...->rn...", a, v.to(torch.float64))
            total += torch.einsum("nc...,rn...->rc...", a, self.localization.apply(seen))
        return total

    def color(self, z: Float[Tensor, "row noise"]) -> Float[Tensor, "row channel *space"]:
        """Sum of a_i o (L z_i)."""
        weights = self.localization.spread(z.unflatten(1, (len(self.anomalies), *self.localization.torus)))
        return torch.einsum("nc...,rn...->rc...", self.anomalies, weights)

    def gather(self, v: Float[Tensor, "row channel *space"]) -> Float[Tensor, "row noise"]:
        """The transpose of `color`."""
        seen = torch.einsum("nc...,rc...->rn...", self.anomalies, v.to(torch.float64))
        return self.localization.gather(seen).flatten(1)

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """One row of weights for all members."""
        return (len(self.anomalies) * math.prod(self.localization.torus),)

    def _parts(self, v: Tensor) -> tuple[Tensor, ...]:
        cells = len(v) * math.prod(self.localization.torus)
        return self.anomalies.split(max(1, NUMBERS_AT_ONCE // cells))


@dataclass(frozen=True)
class HybridCovariance:
    """`share` of the static covariance, the rest of the ensemble's; noise is one row."""

    static: StateCovariance
    ensemble: EnsembleCovariance
    share: float
    state_shape: tuple[int, ...]

    def apply(self, v: Float[Tensor, "row channel *space"]) -> Float[Tensor, "row channel *space"]:
        """B_h v."""
        return self.share * self.static.apply(v) + (1 - self.share) * self.ensemble.apply(v)

    def color(self, z: Float[Tensor, "row noise"]) -> Float[Tensor, "row channel *space"]:
        """U z."""
        shape = tuple(self.static.noise_shape(self.state_shape))
        first, rest = z[:, : math.prod(shape)], z[:, math.prod(shape) :]
        static = self.static.color(first.unflatten(1, shape)).to(torch.float64)
        return self.share**0.5 * static + (1 - self.share) ** 0.5 * self.ensemble.color(rest)

    def gather(self, v: Float[Tensor, "row channel *space"]) -> Float[Tensor, "row noise"]:
        """U^T v."""
        static = self.static.gather(v).flatten(1).to(torch.float64)
        return torch.cat([self.share**0.5 * static, (1 - self.share) ** 0.5 * self.ensemble.gather(v)], dim=1)

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """The static control variable and the weights, in one row."""
        n_static = math.prod(self.static.noise_shape(state_shape))
        return (n_static + self.ensemble.noise_shape(state_shape)[0],)


def hybrid_covariance(
    static: StateCovariance | None, ensemble: EnsembleCovariance, *, share: float, state_shape: tuple[int, ...]
) -> StateCovariance:
    """B_h; at a share of 0 or 1 the other part is left out altogether."""
    if share == 1 and static is not None:
        return static
    if share == 0 or static is None:
        return ensemble
    return HybridCovariance(static, ensemble, share, state_shape)
