"""Local ensemble transform: Kalman weights in the space of the members, one set for each grid point.

Notation: N members, Y the anomalies of H(x) (rows are members), r the error variances, rho the taper,
d = y - mean(H(x)), f the inflation of the background anomalies, A the anomalies of the state. With
    S = f Y sqrt(rho / r) / sqrt(N - 1),   b = sqrt(rho / r) d
    w = f S (I + S^T S)^-1 b / sqrt(N - 1),   T = (I + S S^T)^-1/2  (symmetric)
    x_a,i = mean(x) + sum_j (f T_ij + w_j) A_j = x_i + sum_j D_ij A_j
Only the deviation D of the transform from the identity is kept: it is exactly zero where no observation
is in reach, and small next to it. S S^T (N x N) or S^T S (local observations) is decomposed, whichever
is smaller; both give the same T and w. R is localized: rho divides the error variance.
Source: Hunt, Kostelich and Szunyogh (2007), Physica D 230, eqs. 20-25; inflation inside the transform.
Departure from it: where no observation is in reach the members are not inflated either.

Without localization it is the global ETKF, exact for the sample mean and covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Layout
from cycler_da.schemes.localization import Neighbours, NeighbourSearch, sort_into_cells
from cycler_da.schemes.weight_grid import Band, WeightGrid

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: Bytes of transforms (cells x members^2, float64) that exist at once when no tile size is given.
TRANSFORM_BYTES = 128 * 2**20
#: Bytes of gathered observation anomalies and matrices of one batch of local solves.
SOLVE_BYTES = 64 * 2**20


def transform_weights(
    hx: Float[Tensor, "member obs"],
    values: Float[Tensor, "obs"],
    *,
    error_variance: Float[Tensor, "obs"],
    positions: Float[Tensor, "obs axis"],
    layout: Layout,
    radius: float | None,
    channels: Int[Tensor, "obs"] | None = None,
    weight_stride: int = 1,
    inflation: float = 1.0,
    cross_channel: float = 1.0,
    tile: int | None = None,
) -> LocalTransform:
    """Prepare the transform that takes members to members given the observations.

    `hx` are the members' equivalents of the observations, at the observation's own time if one likes: the
    transform then acts on states of another time (a smoother). `radius` is the Gaspari-Cohn half-width in
    axis units, None for no localization. `inflation` multiplies the anomalies before the transform.
    `cross_channel` in [0, 1] multiplies the taper between an observation and the other variables; unless it
    is 1 every variable has its own transform, and `channels` is required. `tile` is the number of grid
    cells whose transforms exist at once. All arithmetic is in float64.
    """
    hx, precision = hx.to(torch.float64), error_variance.to(torch.float64).rsqrt()
    mean = hx.mean(dim=0)
    n_members = hx.shape[0]
    if tile is None:
        tile = max(1, TRANSFORM_BYTES // (8 * n_members**2))
    axes = layout.grid.axes
    search = None if radius is None else sort_into_cells(positions, axes=axes, half_width=radius)
    has_own_transforms = cross_channel != 1.0 and channels is not None
    return LocalTransform(
        scaled_anomalies=(hx - mean) * (inflation * precision / (n_members - 1) ** 0.5),
        scaled_innovations=(values.to(torch.float64) - mean) * precision,
        channels=channels if has_own_transforms else None,
        search=search,
        grid=WeightGrid(axes, weight_stride),
        inflation=inflation,
        cross_channel=cross_channel,
        tile=tile,
    )


@dataclass(frozen=True)
class LocalTransform:
    """A linear map of the members at every grid point; computed tile by tile when it is applied."""

    scaled_anomalies: Float[Tensor, "member obs"]  # S without the taper
    scaled_innovations: Float[Tensor, "obs"]  # b without the taper
    channels: Int[Tensor, "obs"] | None  # given when each variable has its own transform
    search: NeighbourSearch | None  # None: one transform for the whole grid
    grid: WeightGrid
    inflation: float
    cross_channel: float
    tile: int

    def apply(
        self, states: Float[Tensor, "member *batch channel *space"]
    ) -> Float[Tensor, "member *batch channel *space"]:
        """Transform members (several frames at once if one likes); dtype and shape stay.

        Grid points out of reach of every observation (with interpolated weights: all whose nodes are) keep
        their members bit for bit.
        """
        n_space = len(self.grid.axes)
        n_members, space = states.shape[0], states.shape[states.ndim - n_space :]
        result = states.clone(memory_format=torch.contiguous_format)
        flat = result.view(n_members, -1, states.shape[-n_space - 1], *space)
        for selected, channel in self._groups(flat.shape[2]):
            for band in self._bands():
                target = flat[:, :, selected, band.rows]
                target.copy_(self._transform(target, self._cell_deviations(band, channel)))
        return result

    def deviations(
        self, points: Float[Tensor, "point axis"], *, channel: int | None = None
    ) -> Float[Tensor, "point member member"]:
        """Deviation D of the local transform from the identity at given positions (axis units)."""
        near = self._neighbours(points)
        n_members = self.scaled_anomalies.shape[0]
        size = max(1, SOLVE_BYTES // (8 * n_members * (near.index.shape[1] + n_members)))
        parts = [
            self._solve(index, self._taper(index, taper, channel))
            for index, taper in zip(near.index.split(size), near.taper.split(size), strict=True)
        ]
        return torch.cat(parts)

    def _groups(self, n_channels: int) -> list[tuple[slice, int | None]]:
        if self.channels is None:
            return [(slice(None), None)]
        return [(slice(channel, channel + 1), channel) for channel in range(n_channels)]

    def _bands(self) -> list[Band]:
        if self.search is None:
            everything = slice(0, self.grid.axes[0].size)
            return [Band(everything, torch.zeros(1, dtype=torch.int64))]
        return list(self.grid.bands(self.tile))

    def _cell_deviations(self, band: Band, channel: int | None) -> Tensor:
        points = self.grid.points(band).to(self.scaled_anomalies.device)
        if self.search is None:
            return self.deviations(points[:1], channel=channel)
        return self.grid.interpolate(self.deviations(points, channel=channel), band)

    def _neighbours(self, points: Tensor) -> Neighbours:
        if self.search is not None:
            return self.search.near(points)
        n_obs = len(self.scaled_innovations)
        index = torch.arange(n_obs, device=points.device).expand(len(points), n_obs)
        return Neighbours(index, torch.ones_like(index, dtype=torch.float64))

    def _taper(self, index: Tensor, taper: Tensor, channel: int | None) -> Tensor:
        if channel is None or self.channels is None:
            return taper
        return torch.where(self.channels[index] == channel, taper, taper * self.cross_channel)

    def _solve(self, index: Tensor, taper: Tensor) -> Tensor:
        root = taper.sqrt()
        s = self.scaled_anomalies[:, index].transpose(0, 1) * root[:, None, :]
        b = self.scaled_innovations[index] * root
        solve = solve_in_observation_space if s.shape[2] < s.shape[1] else solve_in_member_space
        shrinkage, w = solve(s, b)
        n_members = s.shape[1]
        f = self.inflation
        deviation = f * (shrinkage + w[:, None, :] / (n_members - 1) ** 0.5)
        deviation.diagonal(dim1=1, dim2=2).add_(f - 1)
        is_reached = (taper > 0).any(dim=1)
        return deviation.mul_(is_reached[:, None, None])

    @staticmethod
    def _transform(states: Tensor, deviation: Tensor) -> Tensor:
        """x_i + sum_j D_ij (x_j - mean) for states `(member, batch, channel, *space)`, D one or per cell."""
        x = states.to(torch.float64).flatten(3).permute(3, 0, 1, 2).flatten(2)  # cell, member, rest
        anomalies = x - x.mean(dim=1, keepdim=True)
        # One matrix for all cells: einsum does not copy it for every cell, as a broadcast product would.
        is_global = deviation.shape[0] == 1
        change = torch.einsum("ij,cjr->cir", deviation[0], anomalies) if is_global else deviation @ anomalies
        is_changed = (deviation != 0).flatten(1).any(dim=1)[:, None, None]
        moved = torch.where(is_changed, x + change, x)
        return moved.unflatten(2, states.shape[1:3]).permute(1, 2, 3, 0).reshape(states.shape)


def solve_in_member_space(
    s: Float[Tensor, "point member obs"], b: Float[Tensor, "point obs"]
) -> tuple[Float[Tensor, "point member member"], Float[Tensor, "point member"]]:
    """Return T - I and S (I + S^T S)^-1 b from the eigenvectors of S S^T."""
    t, v = torch.linalg.eigh(s @ s.mT)
    t = t.clamp_min(0)
    root = (1 + t).sqrt()
    shrinkage = (v * (-t / (root * (1 + root)))[:, None, :]) @ v.mT
    w = v @ ((v.mT @ (s @ b[:, :, None])) / (1 + t)[:, :, None])
    return shrinkage, w[:, :, 0]


def solve_in_observation_space(
    s: Float[Tensor, "point member obs"], b: Float[Tensor, "point obs"]
) -> tuple[Float[Tensor, "point member member"], Float[Tensor, "point member"]]:
    """Return T - I and S (I + S^T S)^-1 b from the eigenvectors of S^T S."""
    t, v = torch.linalg.eigh(s.mT @ s)
    t = t.clamp_min(0)
    root = (1 + t).sqrt()
    sv = s @ v
    shrinkage = (sv * (-1 / (root * (1 + root)))[:, None, :]) @ sv.mT
    w = sv @ ((v.mT @ b[:, :, None]) / (1 + t)[:, :, None])
    return shrinkage, w[:, :, 0]
