"""Quadratic spectral network: translation-equivariant, exact on a torus, made of learned filters and products.

    a_i, b_i = A_i z_{i-1}, B_i z_{i-1}            learned linear filters, C -> K fields each
    n_i      = a_i * b_i                           products on the grid
    z_i      = x + L_i x + sum_{j <= i} R_ij n_j   learned linear filters, K -> C

for i = 1 ... S; the output is z_S - x, or with `repeats` that of so many parts of the step, one after the other with
the same filters: for a step in which fields move by several grid cells. A linear filter acts on Fourier coefficients,

    W(k) = s(|k|) + i (k_x / |k|) a(|k|) + i (k_y / |k|) b(|k|),

with three learned profiles for each pair of channels: a scalar part and the two directional parts of a
derivative. Fluid dynamics with quadratic advection and a linear inversion lies in this family, and so do
its Runge-Kutta steps; no constant of any equation is given. It is a relative of the Fourier neural operator
(Li et al. 2021, ICLR) with products in place of pointwise activations, and of quadratic neural ODEs.

With `dealiased` products keep the waves of |k_x|, |k_y| < size / 3 alone, as pseudo-spectral solvers do: a filter that
knows |k| cannot cut that square, and what it lets through in its corners is most of the error of a flow that fills it.
Known limits: periodic square grids only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.networks.base import network

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor


class RadialFilter(nn.Module):
    """A bank of linear filters, `(batch, n_in, y, k)` -> `(batch, n_out, y, k)` on Fourier coefficients."""

    def __init__(self, size: int, n_in: int, n_out: int, *, n_parts: int = 3) -> None:
        super().__init__()
        k = torch.arange(size // 2 + 1, dtype=torch.float64)[None, :].expand(size, -1)
        l = torch.fft.fftfreq(size, 1.0 / size, dtype=torch.float64)[:, None].expand(-1, size // 2 + 1)
        radius = torch.sqrt(k**2 + l**2)
        shell = radius.floor().long()
        n_shells = int(shell.max()) + 2
        safe = torch.where(radius == 0, torch.ones_like(radius), radius)
        direction = torch.stack([torch.ones_like(k), k / safe, l / safe])
        nyquist = (k == size // 2) | (l == -size // 2)
        direction[1:, nyquist] = 0.0  # a real field has no sign of wave number there
        self._shell: Tensor
        self._fraction: Tensor
        self._direction: Tensor
        self.radii: Tensor
        self.register_buffer("_shell", shell, persistent=False)
        self.register_buffer("_fraction", (radius - shell).float(), persistent=False)
        self.register_buffer("_direction", direction.float(), persistent=False)
        self.register_buffer("radii", torch.arange(n_shells, dtype=torch.float32), persistent=False)
        self.profile = nn.Parameter(torch.zeros(n_parts, n_out, n_in, n_shells))
        self._kept: tuple[tuple[Any, ...], Tensor] | None = None

    def weights(self) -> Complex[Tensor, "out inn y k"]:
        """Filter values on all modes."""
        low, high = self.profile[..., self._shell], self.profile[..., self._shell + 1]
        parts = low + self._fraction * (high - low)
        scalar = parts[0]
        turned = (self._direction[1:, None, None] * parts[1:]).sum(dim=0)
        return torch.complex(scalar, turned)

    def forward(self, x: Complex[Tensor, "batch inn y k"]) -> Complex[Tensor, "batch out y k"]:
        """Apply all filters."""
        return torch.einsum("bi...,oi...->bo...", x, self._values())

    def _values(self) -> Tensor:
        """The weights, kept between calls that need no gradient for as long as the profile is the same."""
        if (torch.is_grad_enabled() and self.profile.requires_grad) or self.profile.is_inference():
            return self.weights()
        state = (self.profile.data_ptr(), self.profile._version, self.profile.device, self.profile.dtype)
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, self.weights())
        return self._kept[1]


def waves_kept(size: int) -> Float[Tensor, "y k"]:
    """1 for the waves of a product that the two-thirds rule keeps, 0 for the others."""
    k = torch.arange(size // 2 + 1)[None, :]
    l = (torch.fft.fftfreq(size) * size)[:, None]
    return ((k < size / 3) & (l.abs() < size / 3)).float()


def product_waves(
    factors: Float[Tensor, "batch two_k y x"], kept: Float[Tensor, "y k"] | None
) -> Complex[Tensor, "batch k y k"]:
    """Waves of the products of the first half of the fields with the second; `kept` cuts them, None keeps all."""
    left, right = factors.chunk(2, dim=1)
    waves = torch.fft.rfft2(left * right, norm="ortho")
    return waves if kept is None else waves * kept


@network("quadratic_spectral")
class QuadraticSpectralNet(nn.Module):
    """The network; input and output are `(batch, channel, y, x)` in scaled units."""

    def __init__(
        self,
        *,
        size: int,
        channels: int,
        products: int = 8,
        stages: int = 4,
        repeats: int = 1,
        dealiased: bool = False,
    ) -> None:
        super().__init__()
        if min(products, stages, repeats) < 1:
            raise ConfigError(
                f"network quadratic_spectral: products {products}, stages {stages}, repeats {repeats}; "
                "all are 1 or more"
            )
        self.size, self.channels, self.products = size, channels, products
        self.stages, self.repeats, self.dealiased = stages, repeats, dealiased
        self._kept_waves: Tensor | None
        self.register_buffer("_kept_waves", waves_kept(size) if dealiased else None, persistent=False)
        self.factors = nn.ModuleList(RadialFilter(size, channels, 2 * products) for _ in range(stages))
        self.linear = nn.ModuleList(RadialFilter(size, channels, channels) for _ in range(stages))
        self.returns = nn.ModuleList(RadialFilter(size, (i + 1) * products, channels) for i in range(stages))

    def initialise(self) -> None:
        """Draw the first filters: one factor falls off like a velocity, the other is nearly local."""
        for bank in self.factors:
            assert isinstance(bank, RadialFilter)
            profile = torch.randn(bank.profile.shape[:-1])[..., None]
            fall = 1.0 / (1.0 + bank.radii)
            smooth, local = fall, torch.ones_like(fall)
            slope = torch.cat([smooth.expand(self.products, 1, -1), local.expand(self.products, 1, -1)])
            with torch.no_grad():
                bank.profile.copy_(profile * slope)

    def resized(self, size: int) -> QuadraticSpectralNet:
        """The same filters on a smaller grid, not to be trained: alike for fields whose products it can hold."""
        small = QuadraticSpectralNet(
            size=size,
            channels=self.channels,
            products=self.products,
            stages=self.stages,
            repeats=self.repeats,
            dealiased=self.dealiased,
        )
        mine = dict(self.named_parameters())
        with torch.no_grad():
            for name, profile in small.named_parameters():
                profile.copy_(mine[name][..., : profile.shape[-1]])
        return small.requires_grad_(False).eval()

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel y x"]:
        """Predict the scaled increment over one model step."""
        start = torch.fft.rfft2(x, norm="ortho")
        change = self._change(start)
        for _ in range(self.repeats - 1):
            change = change + self._change(start + change)
        return torch.fft.irfft2(change, s=(self.size, self.size), norm="ortho")

    def _change(self, start: Complex[Tensor, "batch channel y k"]) -> Complex[Tensor, "batch channel y k"]:
        """z_S - x for one part of the step."""
        state, products = start, []
        grid = (self.size, self.size)
        for factors, linear, returns in zip(self.factors, self.linear, self.returns, strict=True):
            fields = torch.fft.irfft2(factors(state), s=grid, norm="ortho")
            products.append(product_waves(fields, self._kept_waves))
            change = returns(torch.cat(products, dim=1)) + linear(start)
            state = start + change
        return change
