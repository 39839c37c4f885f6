"""Quadratic spectral network for the velocity of a forced incompressible flow on a torus.

    zeta = i (k_x v - k_y u) / |k|,     (u, v) = (i k_y, -i k_x) zeta / |k|         one scalar for both velocities
    a_i, b_i = A_i z_{i-1}, B_i z_{i-1},   n_i = a_i * b_i,   z_i = zeta + L_i zeta + c_i + sum_{j <= i} R_ij n_j

for i = 1 ... S, repeated `repeats` times with the same weights, for a model step that is long beside the time in which
an eddy turns (fitted as one part of it, `data.parts` of a training). Filters are those of `quadratic_spectral`; in zeta
the velocity, the vorticity and the curl of a flux are all filters of one direction, which they are not in u and v. c_i
are learned constants on the lowest waves: a steady force, the one thing that knows where on the torus it is. The answer
has no divergence, whatever came in; the mean flow is multiplied by a learned number. With `dealiased` states and
products keep the waves of |k_x|, |k_y| < size / 3 alone: a filter of |k| cannot cut that square from an analysis.
Limits: nothing bounds it but what it learned. Both velocities must have one scale and no mean, so that scaled ones are
a velocity too; a mean flow does not carry the eddies along (in analyses it is small); periodic square grids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.networks.base import network
from cycler_da.generative.networks.spectral import RadialFilter, product_waves, waves_kept

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor


@network("incompressible_spectral")
class IncompressibleSpectralNet(nn.Module):
    """The network; input and output are `(batch, 2, y, x)` in scaled units."""

    def __init__(
        self,
        *,
        size: int,
        products: int = 4,
        stages: int = 3,
        repeats: int = 1,
        forced_waves: int = 6,
        dealiased: bool = False,
    ) -> None:
        super().__init__()
        if min(products, stages, repeats) < 1 or not 0 <= forced_waves < size // 2:
            raise ConfigError(
                "network incompressible_spectral: products, stages and repeats are 1 or more, forced_waves from 0 to "
                f"below half the size ({size}); got {products}, {stages}, {repeats}, {forced_waves}"
            )
        self.size, self.products, self.repeats, self.forced_waves = size, products, repeats, forced_waves
        self.factors = nn.ModuleList(RadialFilter(size, 1, 2 * products) for _ in range(stages))
        self.linear = nn.ModuleList(RadialFilter(size, 1, 1) for _ in range(stages))
        self.returns = nn.ModuleList(RadialFilter(size, (i + 1) * products, 1) for i in range(stages))
        self.force = nn.Parameter(torch.zeros(stages, 2 * forced_waves + 1, forced_waves + 1, 2))
        self.mean_decay = nn.Parameter(torch.ones(()))
        self._kept_waves: Tensor | None
        self.register_buffer("_kept_waves", waves_kept(size) if dealiased else None, persistent=False)
        self.direction: Tensor  # of the wave vector along x and y, 0 where there is none
        self.register_buffer("direction", _directions(size), persistent=False)

    def initialise(self) -> None:
        """Draw the first filters: one factor falls off like a velocity, the other is nearly local."""
        for bank in self.factors:
            assert isinstance(bank, RadialFilter)
            profile = torch.randn(bank.profile.shape[:-1])[..., None]
            fall = 1.0 / (1.0 + bank.radii)
            slope = torch.cat([fall.expand(self.products, 1, -1), torch.ones_like(fall).expand(self.products, 1, -1)])
            with torch.no_grad():
                bank.profile.copy_(profile * slope)

    def forward(self, x: Float[Tensor, "batch 2 y x"]) -> Float[Tensor, "batch 2 y x"]:
        """Predict the scaled increment over one model step."""
        waves = torch.fft.rfft2(x, norm="ortho")
        east, north = self.direction
        is_flow = east**2 + north**2 > 0  # a mean and the shortest waves of zeta stand for no velocity
        if self._kept_waves is not None:
            is_flow = is_flow * self._kept_waves
        zeta = 1j * (east * waves[:, 1:] - north * waves[:, :1]) * is_flow
        force = self._constants(zeta)
        for _ in range(self.repeats):
            zeta = self._stages(zeta, force) * is_flow
        flow = torch.fft.irfft2(torch.cat([1j * north * zeta, -1j * east * zeta], dim=1), s=x.shape[-2:], norm="ortho")
        return flow + self.mean_decay * x.mean(dim=(-2, -1), keepdim=True) - x

    def _stages(
        self, start: Complex[Tensor, "batch 1 y k"], force: Complex[Tensor, "stage y k"]
    ) -> Complex[Tensor, "batch 1 y k"]:
        state, products, grid = start, [], (self.size, self.size)
        for i, (factors, linear, returns) in enumerate(zip(self.factors, self.linear, self.returns, strict=True)):
            fields = torch.fft.irfft2(factors(state), s=grid, norm="ortho")
            products.append(product_waves(fields, self._kept_waves))
            state = start + linear(start) + returns(torch.cat(products, dim=1)) + force[i]
        return state

    def _constants(self, like: Complex[Tensor, "batch 1 y k"]) -> Complex[Tensor, "stage y k"]:
        n = self.forced_waves
        out = like.new_zeros((len(self.force), *like.shape[-2:]))
        learned = torch.view_as_complex(self.force).to(like.dtype) * self.size  # of order one as fields on the grid
        out[:, : n + 1, : n + 1] = learned[:, : n + 1]
        if n:
            out[:, -n:, : n + 1] = learned[:, n + 1 :]
        return out


def _directions(size: int) -> Float[Tensor, "2 y k"]:
    k = torch.arange(size // 2 + 1, dtype=torch.float64)[None, :].expand(size, -1)
    l = torch.fft.fftfreq(size, 1.0 / size, dtype=torch.float64)[:, None].expand(-1, size // 2 + 1)
    direction = torch.stack([k, l]) / torch.sqrt(k**2 + l**2).clamp(min=1.0)
    direction[:, (k == size // 2) | (l == -size // 2)] = 0.0  # a real field has no sign of wave number there
    return direction.float()
