"""Covariance operators: applied, square-rooted and damped without ever being a matrix, where they can.

A covariance C acts on states `(batch, channel, *space)`. Every kind gives `apply` (C v), `color` (C^1/2 z,
symmetric root), `whiten` (C^-1/2 v) and `damped(dt)` = (C^-1 + dt I)^-1, the covariance that is left after
the endpoint was seen with precision dt.

`SpectralCovariance` is homogeneous on a torus: C = F^H B F with one channel-by-channel block B for each
wave number (orthonormal FFT). It is measured from residuals as the mean of r_k r_k^H, over shells of |k| where
it is isotropic too (then B is real), or for every wave number (then B is Hermitian: channels may be shifted
against each other, as the layers of a growing baroclinic wave are).
`FullCovariance` is a dense matrix over the flattened state, for low dimension and for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.generative.half_plane import times_counted, wave_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jaxtyping import Float
    from torch import Tensor


@runtime_checkable
class Covariance(Protocol):
    """A covariance shared by all states of a batch."""

    def apply(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """C v."""
        ...

    def color(self, z: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """C^1/2 z: a draw from N(0, C) when z is standard normal."""
        ...

    def whiten(self, v: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """C^-1/2 v; directions without variance give zero."""
        ...

    def damped(self, precision: float) -> Covariance:
        """(C^-1 + precision I)^-1."""
        ...


@dataclass(frozen=True)
class SpectralCovariance:
    """Homogeneous covariance on a periodic two-dimensional grid.

    `values` (y, k, channel) >= 0 and `vectors` (y, k, channel, channel) are the eigen-decomposition of the
    blocks on the half plane of rfft2, float64; complex vectors where the blocks are Hermitian.
    """

    values: Float[Tensor, "y k channel"]
    vectors: Float[Tensor, "y k channel channel"]

    def apply(self, v: Tensor) -> Tensor:
        """C v."""
        return self._function(v, lambda b: b)

    def color(self, z: Tensor) -> Tensor:
        """C^1/2 z."""
        return self._function(z, torch.sqrt)

    def whiten(self, v: Tensor) -> Tensor:
        """C^-1/2 v."""
        floor = 1e-14 * float(self.values.max())
        return self._function(v, lambda b: torch.where(b > floor, b.clamp(min=floor) ** -0.5, torch.zeros_like(b)))

    def damped(self, precision: float) -> SpectralCovariance:
        """(C^-1 + precision I)^-1, exact for each wave number."""
        return SpectralCovariance(self.values / (1.0 + precision * self.values), self.vectors)

    def gather(self, v: Tensor) -> Tensor:
        """C^1/2 v: the root is symmetric, its own transpose."""
        return self.color(v)

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the noise that `color` takes: that of a state."""
        return tuple(state_shape)

    def scaled(self, factor: float) -> SpectralCovariance:
        """The covariance times a factor."""
        return SpectralCovariance(self.values * factor, self.vectors)

    def variance(self) -> Float[Tensor, "channel"]:
        """Variance of each channel at any grid point."""
        blocks = self.blocks().diagonal(dim1=-2, dim2=-1).real
        n_y = blocks.shape[0]
        n_x = 2 * (blocks.shape[1] - 1)
        weight = torch.full((blocks.shape[1],), 2.0, dtype=blocks.dtype)
        weight[0] = weight[-1] = 1.0
        return (blocks * weight[None, :, None]).sum(dim=(0, 1)) / (n_y * n_x)

    def blocks(self) -> Float[Tensor, "y k channel channel"]:
        """B of every wave number."""
        return self._blocks(self.values)

    def _blocks(self, values: Tensor) -> Tensor:
        return torch.einsum("ykic,ykc,ykjc->ykij", self.vectors, values.to(self.vectors.dtype), self.vectors.conj())

    def _function(self, v: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        wide = torch.fft.rfft2(v.to(torch.float64), norm="ortho")
        blocks = self._blocks(function(self.values)).to(wide.dtype)
        turned = torch.einsum("ykij,bjyk->biyk", blocks, wide)
        return torch.fft.irfft2(turned, s=v.shape[-2:], norm="ortho").to(v.dtype)


def spectral_from_shells(shells: Float[Tensor, "shell channel channel"], n: int) -> SpectralCovariance:
    """Build the covariance on an n by n grid from real symmetric blocks on integer shells of |k|.

    Blocks between shells are interpolated linearly; negative eigenvalues from rounding are set to zero.
    """
    lower, fraction = _shell_position(n)
    return spectral_from_blocks(shells[lower] + fraction[..., None, None] * (shells[lower + 1] - shells[lower]))


def spectral_from_blocks(blocks: Float[Tensor, "y k channel channel"]) -> SpectralCovariance:
    """Build the covariance from the (nearly) Hermitian block of every wave number on the half plane of rfft2."""
    values, vectors = torch.linalg.eigh(0.5 * (blocks + blocks.mH))
    return SpectralCovariance(values.clamp(min=0.0), vectors)


def shells_from_residuals(residuals: Float[Tensor, "sample channel y x"]) -> Float[Tensor, "shell channel channel"]:
    """Estimate the shell blocks of a homogeneous, isotropic covariance from zero-mean residual fields.

    Shells without a mode take the value of the nearest shell below. Cross-spectra of isotropic fields are
    real: the imaginary part is estimation noise and dropped.
    """
    n = residuals.shape[-1]
    power = blocks_from_residuals(residuals).real
    radius = wave_numbers(n)
    nearest = radius.round().long()
    n_shells = int(radius.max()) + 3
    weight = times_counted(n, n)
    total = torch.zeros(n_shells, *power.shape[-2:], dtype=torch.float64)
    count = torch.zeros(n_shells, dtype=torch.float64)
    total.index_add_(0, nearest.flatten(), (weight[..., None, None] * power).flatten(0, 1))
    count.index_add_(0, nearest.flatten(), weight.flatten())
    for shell in range(n_shells):
        if count[shell] == 0:
            total[shell], count[shell] = total[shell - 1], count[shell - 1]
    return total / count[:, None, None]


def blocks_from_residuals(residuals: Float[Tensor, "sample channel y x"]) -> Tensor:
    """Estimate the Hermitian block of every wave number of a homogeneous covariance from zero-mean fields, complex.

    Every block is a sample covariance: its entries have relative errors of 1 / sqrt(samples).
    """
    modes = torch.fft.rfft2(residuals.to(torch.float64), norm="ortho")
    return torch.einsum("biyk,bjyk->ykij", modes, modes.conj()) / residuals.shape[0]


@dataclass(frozen=True)
class FullCovariance:
    """A dense covariance over the flattened state, float64."""

    matrix: Float[Tensor, "n n"]

    def apply(self, v: Tensor) -> Tensor:
        """C v."""
        return self._times(v, self.matrix)

    def color(self, z: Tensor) -> Tensor:
        """C^1/2 z."""
        return self._times(z, self._power(0.5))

    def whiten(self, v: Tensor) -> Tensor:
        """C^-1/2 v."""
        return self._times(v, self._power(-0.5))

    def damped(self, precision: float) -> FullCovariance:
        """(C^-1 + precision I)^-1, computed as C^1/2 (I + precision C)^-1 C^1/2."""
        values, vectors = self._eigen
        values = values.clamp(min=0.0)
        return FullCovariance((vectors * (values / (1.0 + precision * values))) @ vectors.T)

    def gather(self, v: Tensor) -> Tensor:
        """C^1/2 v: the root is symmetric, its own transpose."""
        return self.color(v)

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the noise that `color` takes: that of a state."""
        return tuple(state_shape)

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.matrix)
        return values, vectors

    def _power(self, exponent: float) -> Tensor:
        values, vectors = self._eigen
        floor = 1e-14 * float(values.max())
        raised = torch.where(values > floor, values.clamp(min=floor) ** exponent, torch.zeros_like(values))
        return (vectors * raised) @ vectors.T

    @staticmethod
    def _times(v: Tensor, matrix: Tensor) -> Tensor:
        flat = v.reshape(v.shape[0], -1).to(torch.float64) @ matrix.T
        return flat.reshape(v.shape).to(v.dtype)


@dataclass(frozen=True)
class WhiteCovariance:
    """`level` times the identity: the covariance of a whitened residual."""

    level: float = 1.0

    def apply(self, v: Tensor) -> Tensor:
        """C v."""
        return self.level * v

    def color(self, z: Tensor) -> Tensor:
        """C^1/2 z."""
        return self.level**0.5 * z

    def whiten(self, v: Tensor) -> Tensor:
        """C^-1/2 v."""
        return v / self.level**0.5

    def damped(self, precision: float) -> WhiteCovariance:
        """(C^-1 + precision I)^-1."""
        return WhiteCovariance(self.level / (1.0 + precision * self.level))


def _shell_position(n: int) -> tuple[Tensor, Tensor]:
    radius = wave_numbers(n)
    lower = radius.floor().long()
    return lower, radius - lower
