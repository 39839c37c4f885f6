"""The Gaussian with the second moments of a window of frames on a torus, wave by wave.

For fields that are statistically homogeneous in space and stationary in time, the Fourier coefficients of all channels
at lag m have a covariance of their own for each wave vector,

    Gamma_m(k) = E[ x_{f+m}(k) x_f(k)^H ]        channel x channel, complex: waves travel

and a window of T frames has the block Toeplitz covariance C_fg = Gamma_{f-g}, diagonalised once for each wave. Then

    zhat = C (C + r^2 I)^-1 z / mu          Cov[z_0 | z_t] = C (C + r^2 I)^-1 r^2

cost two FFTs and small matrix products. This is the space-time Wiener filter: what any denoiser knows that looks at
spectra alone. Networks learn what is left (`window`); likelihood scores take its covariance.

`given(first)`: the first frames are known, the rest is what this Gaussian says of it then.
`Gamma` is measured with the mean removed; channels are those of scaled states and may be nonlinear maps of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.information import Information, WaveInformation
from cycler_da.generative.half_plane import times_counted

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor

#: Ratios r at which the standard deviation that is left is tabulated.
_RATIOS = torch.logspace(-3.0, 3.0, 61, dtype=torch.float64)
#: Added to the variance of frames that are given, as a part of it, so that they can be inverted.
_JITTER = 1e-9


@dataclass(frozen=True, eq=False)
class WindowGaussian:
    """Eigenvalues and vectors of the covariance of a window for every wave of rfft2; zero mean."""

    values: Float[Tensor, "y k n"]  # n = frames x channels, frames outside
    vectors: Complex[Tensor, "y k n n"]
    frames: int
    channels: int
    gain: Complex[Tensor, "y k n given"] | None = None  # of frames that are given, see `given`
    _table: dict[str, Tensor] = field(default_factory=dict)

    def denoise(
        self, x: Float[Tensor, "batch frame channel y x"], ratio: float | Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch frame channel y x"]:
        """E[x_0 | x_0 + r e = x]; r may differ between states."""
        square = _columns(ratio, x) ** 2
        return self._function(x, lambda values: values / (values + square))

    def left(self, v: Float[Tensor, "batch frame channel y x"], ratio: float) -> Tensor:
        """Cov[x_0 | x_0 + r e] v."""
        return self._function(v, lambda values: values * (ratio**2 / (values + ratio**2)))

    def left_covariance(self, ratio: float, part: float = 1.0) -> LeftOfWindow:
        """Cov[x_0 | x_0 + r e], or a part of it, by its symmetric root."""
        root = torch.sqrt(part * self.values * (ratio**2 / (self.values + ratio**2)))
        return LeftOfWindow((self.vectors * root[..., None, :]) @ self.vectors.mH)

    def color(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch frame channel y x"]:
        """A draw, from standard normal z."""
        return self._function(z, torch.sqrt)

    def left_std(self, ratio: Float[Tensor, "batch"]) -> Float[Tensor, "batch frame channel"]:
        """Standard deviation of x_0 given x_0 + r e at any point, interpolated in log r."""
        table = self._std_table()
        place = (torch.log10(ratio.double()) + 3.0).clamp(0.0, 6.0) * 10.0
        low = place.floor().long().clamp(max=len(table) - 2)
        part = (place - low)[:, None]
        found = torch.exp((1.0 - part) * table[low] + part * table[low + 1])
        return found.to(ratio.dtype).unflatten(1, (self.frames, self.channels))

    def mean_given(self, known: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch frame channel y x"]:
        """Mean of the other frames when the first ones are `known`; for what `given` returned."""
        assert self.gain is not None
        waves = torch.fft.rfft2(known.flatten(1, 2))
        moved = torch.einsum("yknm,bmyk->bnyk", self.gain.to(waves.dtype), waves)
        return torch.fft.irfft2(moved, s=known.shape[-2:]).unflatten(1, (self.frames, self.channels))

    def given(self, first: int) -> WindowGaussian:
        """The Gaussian of the frames after the first ones, around a mean that is linear in them (`mean_given`)."""
        if not 0 < first < self.frames:
            raise ConfigError(f"a window of {self.frames} frames cannot be given {first} of them")
        n = first * self.channels
        blocks = self.blocks()
        known, cross, rest = blocks[..., :n, :n], blocks[..., n:, :n], blocks[..., n:, n:]
        trace = known.diagonal(dim1=-2, dim2=-1).real.mean(dim=-1)[..., None, None]
        eye = torch.eye(n, dtype=blocks.dtype)
        safe = known + (_JITTER * trace + torch.finfo(torch.float64).tiny) * eye
        gain = torch.linalg.solve(safe, cross.mH).mH
        return _decompose(rest - gain @ cross.mH, self.frames - first, self.channels, gain)

    def on(self, device: torch.device) -> WindowGaussian:
        """The same on another device, for fields there; itself where it is there."""
        if self.values.device == device:
            return self
        gain = None if self.gain is None else self.gain.to(device)
        table = {"std": self._std_table().to(device)}
        return replace(self, values=self.values.to(device), vectors=self.vectors.to(device), gain=gain, _table=table)

    def blocks(self) -> Complex[Tensor, "y k n n"]:
        """C of every wave."""
        return (self.vectors * self.values[..., None, :]) @ self.vectors.mH

    def _function(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        waves = torch.fft.rfft2(x.flatten(1, 2), norm="ortho")
        vectors = self._as("vectors", self.vectors, waves.dtype)
        values = self._as("values", self.values, x.dtype)
        # y k n batch; products of many small matrices are several times faster on contiguous ones.
        turned = self._as("rows", self.vectors.mH, waves.dtype) @ waves.permute(2, 3, 1, 0).contiguous()
        scaled = turned * function(values[..., None])
        back = (vectors @ scaled).permute(3, 2, 0, 1).contiguous()
        return torch.fft.irfft2(back, s=x.shape[-2:], norm="ortho").view(x.shape)

    def _as(self, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
        key = f"{name} {dtype}"
        if key not in self._table:
            self._table[key] = value.to(dtype).resolve_conj().contiguous()
        return self._table[key]

    def _std_table(self) -> Float[Tensor, "ratio n"]:
        """log std for every tabulated ratio: mean over waves of the diagonal of what is left."""
        if "std" not in self._table:
            n_y, n_k = self.values.shape[:2]
            weight = times_counted(n_y, 2 * (n_k - 1)) / (n_y * 2 * (n_k - 1))
            power = (self.vectors.abs() ** 2).to(torch.float64)
            rows = []
            for square in _RATIOS**2:
                left = self.values * (square / (self.values + square))
                rows.append(torch.einsum("ykij,ykj,yk->i", power, left, weight))
            self._table["std"] = 0.5 * torch.log(torch.stack(rows).clamp(min=1e-30))
        return self._table["std"]


@dataclass(frozen=True)
class LeftOfWindow:
    """C_t of a window, wave by wave: L = F^-1 W^-1 M, L^T = M^H W F with the transform F of all frames, C_t = M M^H.

    Unknowns are the Fourier coefficients, real and imaginary parts, `(y, k, channel)` outside in; W weighs those that
    stand for two, so that scalar products are those of fields. A solve then has two transforms an iteration.
    """

    matrix: Complex[Tensor, "y k n n"]  # M

    @cached_property
    def adjoint(self) -> Complex[Tensor, "y k n n"]:
        """M^H; products of many small matrices are several times faster on contiguous ones."""
        return self.matrix.mH.resolve_conj().contiguous()

    def pushed(
        self, u: Float[Tensor, "batch n"], like: Float[Tensor, "batch frame channel y x"]
    ) -> Float[Tensor, "batch frame channel y x"]:
        """L u."""
        waves = _waves(u, like, self.matrix.shape[-1])
        waves = waves / _pairs(like)
        fields = (self.matrix.to(waves.dtype) @ waves).permute(3, 2, 0, 1)
        return torch.fft.irfft2(fields, s=like.shape[-2:], norm="ortho").view(like.shape)

    def pulled(self, v: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch n"]:
        """L^T v."""
        waves = torch.fft.rfft2(v.flatten(1, 2), norm="ortho").permute(2, 3, 1, 0).contiguous()
        return _unknowns((self.adjoint.to(waves.dtype) @ waves) * _pairs(v))

    def colored(self, xi: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch frame channel y x"]:
        """F^-1 M F xi, which has the covariance F^-1 M M^H F."""
        waves = torch.fft.rfft2(xi.flatten(1, 2), norm="ortho").permute(2, 3, 1, 0).contiguous()
        fields = (self.matrix.to(waves.dtype) @ waves).permute(3, 2, 0, 1)
        return torch.fft.irfft2(fields, s=xi.shape[-2:], norm="ortho").view(xi.shape)

    def std(self, like: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "frame channel"]:
        """Standard deviation of any point, float64."""
        n_y, n_x = like.shape[-2:]
        power = (self.matrix.abs() ** 2).sum(dim=-1).to(torch.float64)
        counted = times_counted(n_y, n_x) / (n_y * n_x)
        return torch.einsum("yki,yk->i", power, counted).sqrt().view(like.shape[1:3])

    def informed(self, information: Information, like: Float[Tensor, "batch frame channel y x"]) -> LeftOfWindow:
        """L (I + L^T D L)^-1/2, in the type of `like`."""
        eye = torch.eye(self.matrix.shape[-1], dtype=self.matrix.dtype)
        told = information.density.flatten()[:, None].to(self.matrix) * self.matrix
        if isinstance(information, WaveInformation):
            told = told + information.times_waves(self.matrix)
        total = eye + self.adjoint @ told
        root = torch.linalg.cholesky(0.5 * (total + total.mH))
        rows = torch.linalg.solve_triangular(root, self.adjoint, upper=False)
        return LeftOfWindow(rows.mH.resolve_conj().contiguous().to(_complex(like.dtype)))


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.complex64 if dtype == torch.float32 else torch.complex128


def _waves(u: Tensor, like: Tensor, n: int) -> Complex[Tensor, "y k n batch"]:
    rows = u.to(like.dtype).mT.reshape(like.shape[-2], like.shape[-1] // 2 + 1, n, 2, len(like))
    return torch.view_as_complex(rows.transpose(3, 4).contiguous())


def _unknowns(waves: Complex[Tensor, "y k n batch"]) -> Float[Tensor, "batch unknown"]:
    """Flat unknowns, float64."""
    return torch.view_as_real(waves).transpose(3, 4).flatten(0, 3).mT.to(torch.float64)


def _pairs(like: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "1 k 1 1"]:
    """Root of how many waves a coefficient of rfft2 stands for."""
    weight = like.new_full((like.shape[-1] // 2 + 1,), 2.0)
    weight[0] = weight[-1] = 1.0
    return weight.sqrt()[None, :, None, None]


def window_gaussian(
    lags: Complex[Tensor, "lag channel channel y k"], frames: int, *, channels: Sequence[int] | None = None
) -> WindowGaussian:
    """The Gaussian of some channels over some frames; raises ConfigError for more frames than there are lags."""
    if not 1 <= frames <= len(lags):
        raise ConfigError(
            f"a window of {frames} frames needs covariances at lags up to {frames - 1}; got {len(lags) - 1}. "
            "Take shorter cycles, or train weights with more lags"
        )
    picked = list(range(lags.shape[1])) if channels is None else list(channels)
    some = lags[:, picked][:, :, picked].permute(0, 3, 4, 1, 2)  # lag y k channel channel
    rows = [
        torch.cat([some[f - g] if f >= g else some[g - f].mH for g in range(frames)], dim=-1) for f in range(frames)
    ]
    return _decompose(torch.cat(rows, dim=-2), frames, len(picked), None)


def measure_lags(
    fields: Float[Tensor, "trajectory time channel y x"], n_lags: int, *, mirror: bool
) -> Complex[Tensor, "lag channel channel y k"]:
    """Gamma of every lag from trajectories of zero mean, complex128.

    Sums over n - m pairs are divided by n, so that every block Toeplitz matrix of them is positive semi-definite.
    `mirror`: the law does not change under x(y) -> -x(-y), as on a beta plane; both orientations are averaged.
    """
    n_times, total = fields.shape[1], 0
    shape = (n_lags, fields.shape[2], fields.shape[2], fields.shape[3], fields.shape[4] // 2 + 1)
    sums = torch.zeros(shape, dtype=torch.complex128)
    for trajectory in fields:
        waves = torch.fft.rfft2(trajectory.to(torch.float32), norm="ortho")
        for lag in range(n_lags):
            later, earlier = waves[lag:], waves[: n_times - lag]
            sums[lag] += torch.einsum("tiyk,tjyk->ijyk", later, earlier.conj()).to(torch.complex128)
        total += n_times
    lags = sums / total
    if mirror:
        lags = 0.5 * (lags + torch.roll(lags.flip(-2), 1, dims=-2))
    return lags


def persistent_lags(
    blocks: Complex[Tensor, "y k channel channel"], correlation: float, n_lags: int
) -> Complex[Tensor, "lag channel channel y k"]:
    """Lags of a process that keeps a fixed correlation from frame to frame: Gamma_m = correlation^m B."""
    factors = correlation ** torch.arange(n_lags, dtype=torch.float64)
    base = blocks.permute(2, 3, 0, 1).to(torch.complex128)
    return factors[:, None, None, None, None] * base


def _decompose(blocks: Tensor, frames: int, channels: int, gain: Tensor | None) -> WindowGaussian:
    values, vectors = torch.linalg.eigh(0.5 * (blocks + blocks.mH))
    return WindowGaussian(values.clamp(min=0.0), vectors, frames, channels, gain)


def _columns(ratio: float | Tensor, like: Tensor) -> Tensor:
    if isinstance(ratio, float):
        return like.new_tensor(ratio)
    return ratio.to(like.dtype)  # the batch is the last axis where it is used
