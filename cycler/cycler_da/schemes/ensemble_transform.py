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

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cycler_da.layout import Layout
from cycler_da.schemes.localization import Neighbours, NeighbourSearch, sort_into_cells
from cycler_da.schemes.weight_grid import Band, WeightGrid

if TYPE_CHECKING:
    from jaxtyping import Float, Int

#: Bytes of transforms (nodes x members^2, float64) that exist at once when no tile size is given.
TRANSFORM_BYTES = 32 * 2**20
#: Bytes of gathered observation anomalies and matrices of one batch of local solves, and its most points.
#: Small enough for the processor's cache; tuned on QG 64x64 with 16-100 members.
SOLVE_BYTES = 16 * 2**20
SOLVE_POINTS = 128
#: From the local S `(point, member, obs)` and b `(point, obs)` to the deviation `(point, member, member)` of the
#: transform from the identity, without inflation.
LocalUpdate = Callable[[Tensor, Tensor], Tensor]


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
    inflation: float | Float[Tensor, "field *space"] = 1.0,
    cross_channel: float = 1.0,
    tile: int | None = None,
    update: LocalUpdate | None = None,
) -> LocalTransform:
    """Prepare the transform that takes members to members given the observations.

    `hx` are the members' equivalents of the observations, at the observation's own time if one likes: the
    transform then acts on states of another time (a smoother). `radius` is the Gaspari-Cohn half-width in
    axis units, None for no localization. `inflation` multiplies the anomalies before the transform: a number,
    or a value for every grid point (one field for all variables or one for each), read at the nearest one.
    `cross_channel` in [0, 1] multiplies the taper between an observation and the other variables; unless it
    is 1 every variable has its own transform, and `channels` (of the observations) is needed. `tile` is about
    the number of grid points (nodes) whose transforms exist at once. `update` replaces the Kalman weights. All
    arithmetic is in float64.
    """
    if cross_channel != 1 and channels is None:
        raise ValueError(f"cross_channel is {cross_channel}: the channels of the observations are needed")
    n_members, device = hx.shape[0], hx.device
    hx, precision = hx.to(torch.float64), error_variance.to(device, torch.float64).rsqrt()
    positions = positions.to(device, torch.float64)
    mean = hx.mean(dim=0)
    axes = layout.grid.axes
    return LocalTransform(
        scaled_anomalies=(hx - mean) * (precision / (n_members - 1) ** 0.5),
        scaled_innovations=(values.to(device, torch.float64) - mean) * precision,
        channels=None if channels is None or cross_channel == 1 else channels.to(device),
        search=None if radius is None else sort_into_cells(positions, axes=axes, half_width=radius),
        grid=WeightGrid(axes, weight_stride),
        inflation=inflation,
        cross_channel=cross_channel,
        tile=tile or max(1, TRANSFORM_BYTES // (8 * n_members**2)),
        update=update or kalman_update,
    )


@dataclass(frozen=True)
class LocalTransform:
    """A linear map of the members at every grid point; computed tile by tile when it is applied."""

    scaled_anomalies: Float[Tensor, "member obs"]  # S without taper and inflation
    scaled_innovations: Float[Tensor, "obs"]  # b without the taper
    channels: Int[Tensor, "obs"] | None  # given when each variable has its own transform
    search: NeighbourSearch | None  # None: one transform for the whole grid
    grid: WeightGrid
    inflation: float | Float[Tensor, "field *space"]
    cross_channel: float
    tile: int
    update: LocalUpdate

    def apply(
        self, states: Float[Tensor, "member *batch channel *space"]
    ) -> Float[Tensor, "member *batch channel *space"]:
        """Transform members (several frames at once if one likes); dtype and shape stay.

        Grid points out of reach of every observation (with interpolated weights: all whose nodes are) keep
        their members bit for bit.
        """
        n_space = len(self.grid.axes)
        channels_and_space = states.shape[states.ndim - n_space - 1 :]
        result = states.clone(memory_format=torch.contiguous_format)
        fields = result.view(states.shape[0], -1, *channels_and_space)
        for selected, channel in self._groups(channels_and_space[0]):
            if self.search is None:
                fields[:, :, selected] = self._apply_everywhere(fields[:, :, selected], channel)
            else:
                for band in self.grid.bands(self.tile):
                    moved = self._apply_in_band(fields[:, :, selected], band, channel)
                    fields[:, :, selected, band.rows] = moved.to(states.dtype)
        return result

    def deviations(
        self, points: Float[Tensor, "point axis"], *, channel: int | None = None
    ) -> Float[Tensor, "point member member"]:
        """Deviation D of the local transform from the identity at given positions (axis units).

        `channel` is the state variable; it matters when each variable has its own transform.
        """
        near, inflation = self._neighbours(points), self._inflation_at(points, channel)
        n_members, n_near = len(self.scaled_anomalies), near.count
        result = self.scaled_anomalies.new_zeros((len(points), n_members, n_members))
        # Points with about as many observations go together, so that few padded places are computed.
        size = max(1, min(SOLVE_POINTS, SOLVE_BYTES // (8 * n_members * (near.index.shape[1] + n_members))))
        for some in torch.argsort(n_near, stable=True).split(size):
            width = int(n_near[some].max())
            if width:
                index = near.index[some, :width]
                taper = self._taper(index, near.taper[some, :width], channel)
                result[some] = self._solve(index, taper, inflation[some])
        return result

    def _groups(self, n_channels: int) -> list[tuple[slice, int | None]]:
        if self.channels is None:
            return [(slice(None), None)]
        return [(slice(channel, channel + 1), channel) for channel in range(n_channels)]

    def _neighbours(self, points: Tensor) -> Neighbours:
        if self.search is not None:
            return self.search.near(points)
        n_obs = len(self.scaled_innovations)
        index = torch.arange(n_obs, device=points.device).expand(len(points), n_obs)
        count = torch.full((len(points),), n_obs, device=points.device)
        return Neighbours(index, torch.ones_like(index, dtype=torch.float64), count)

    def _taper(self, index: Tensor, taper: Tensor, channel: int | None) -> Tensor:
        if channel is None or self.channels is None:
            return taper
        return torch.where(self.channels[index] == channel, taper, taper * self.cross_channel)

    def _inflation_at(self, points: Tensor, channel: int | None) -> Float[Tensor, "point"]:
        if not isinstance(self.inflation, torch.Tensor):
            return points.new_full((len(points),), self.inflation, dtype=torch.float64)
        field = self.inflation[0 if channel is None or len(self.inflation) == 1 else channel].to(points.device)
        cells = [
            ((points[:, i_axis] - axis.origin) / axis.spacing).round().to(torch.int64).clamp(0, axis.size - 1)
            for i_axis, axis in enumerate(self.grid.axes)
        ]
        return field[tuple(cells)].to(torch.float64)

    def _solve(self, index: Tensor, taper: Tensor, inflation: Tensor) -> Tensor:
        root = taper.sqrt()
        s = self.scaled_anomalies[:, index].transpose(0, 1) * (inflation[:, None] * root)[:, None, :]
        b = self.scaled_innovations[index] * root
        deviation = self.update(s, b).mul_(inflation[:, None, None])
        deviation.diagonal(dim1=1, dim2=2).add_(inflation[:, None] - 1)
        is_reached = (taper > 0).any(dim=1)  # a cross-channel factor of zero may leave nothing
        return deviation.mul_(is_reached[:, None, None])

    def _apply_in_band(self, fields: Tensor, band: Band, channel: int | None) -> Tensor:
        """Members moved in a band: x_i + sum over corners of share * sum_j D_ij (x_j - mean), float64."""
        deviation = self.deviations(band.points.to(fields.device), channel=channel)
        is_reached = (deviation != 0).flatten(1).any(dim=1)
        x = band.gather(fields).to(torch.float64)
        anomalies = x - x.mean(dim=1, keepdim=True)
        change, is_changed = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for corner in band.corners():
            node, share = corner.node.to(x.device), corner.share.to(x.device)
            part = (anomalies * share[:, None, None, :]).flatten(2)
            change += (deviation[node] @ part).view(x.shape)
            is_changed |= is_reached[node]
        moved = torch.where(is_changed[:, None, None, None], x + change, x)
        return band.scatter(moved, n_channels=fields.shape[2])

    def _apply_everywhere(self, fields: Tensor, channel: int | None) -> Tensor:
        """Members moved by one transform for the whole grid."""
        if len(self.scaled_innovations) == 0:
            return fields
        origin = torch.zeros((1, len(self.grid.axes)), dtype=torch.float64, device=fields.device)
        x = fields.to(torch.float64).flatten(1)
        change = self.deviations(origin, channel=channel)[0] @ (x - x.mean(dim=0))
        return (x + change).view(fields.shape).to(fields.dtype)


def kalman_update(
    s: Float[Tensor, "point member obs"], b: Float[Tensor, "point obs"]
) -> Float[Tensor, "point member member"]:
    """Weights of the Kalman analysis, from the smaller of the two decompositions."""
    n_members = s.shape[1]
    solve = solve_in_observation_space if s.shape[2] < n_members else solve_in_member_space
    shrinkage, w = solve(s, b)
    return shrinkage.add_(w[:, None, :] / (n_members - 1) ** 0.5)


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
