"""Local ensemble transform: Kalman weights in the space of the members, one set for each grid point.

Notation: N members, Y the anomalies of H(x) (rows are members), r the error variances, rho the taper,
d = y - mean(H(x)), f the inflation of the background anomalies, A the anomalies of the state. With
    S = f Y sqrt(rho / r) / sqrt(N - 1),   b = sqrt(rho / r) d
    w = f S (I + S^T S)^-1 b / sqrt(N - 1),   T = (I + S S^T)^-1/2  (symmetric)
    x_a,i = mean(x) + sum_j (f T_ij + w_j) A_j = x_i + change by the deviation of the transform from the identity
The change is exactly zero where no observation is in reach. How T and w are kept: `local_weights`. R is
localized: rho divides the error variance.
Source: Hunt, Kostelich and Szunyogh (2007), Physica D 230, eqs. 20-25; inflation inside the transform.
Departure from it: where no observation is in reach the members are not inflated either.

The grid is moved tile by tile, each a job of its own (`transform_tile`) that a mapper may give to a worker.
Without localization it is the global ETKF, exact for the sample mean and covariance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Layout
from cycler_da.schemes.ensemble.local_weights import DenseUpdate, LocalUpdate, Weights, dense_weights, kalman_weights
from cycler_da.schemes.ensemble.localization import Taper, gaspari_cohn
from cycler_da.schemes.ensemble.mapper import Mapper, one_by_one
from cycler_da.schemes.ensemble.transform_tile import LocalObservations, TileJob, channel_groups, move_tile, tapered
from cycler_da.schemes.ensemble.weight_grid import Tile, WeightGrid

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: Grid points (nodes) of a tile: a sixteenth of the grid, within these bounds. They weigh the overlap of tiles against
#: memory; the number of workers has no say, or the bytes would follow it.
LEAST_NODES, MOST_NODES, TILES = 512, 4096, 16
#: Columns that the global transform moves at once.
COLUMNS = 2**16


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
    taper: Taper = gaspari_cohn,
    least_taper: float = 0.0,
    tile: int | None = None,
    update: DenseUpdate | None = None,
) -> LocalTransform:
    """Prepare the transform that takes members to members given the observations.

    `hx` are the members' equivalents of the observations, at the observation's own time if one likes: the
    transform then acts on states of another time (a smoother). `radius` is the Gaspari-Cohn half-width in
    axis units, None for no localization; `taper` may be another function of it. `inflation` multiplies the
    anomalies before the transform: a number, or a value for every grid point (one field for all variables or
    one for each), read at the nearest one. `cross_channel` in [0, 1] multiplies the taper between an observation
    and the other variables; unless it is 1 every variable has its own transform, and `channels` (of the
    observations) is needed. Observations whose taper is not above `least_taper` are left out. `tile` is about the
    number of grid points (nodes) that are moved together. `update` replaces the Kalman weights. All arithmetic is
    in float64.
    """
    if cross_channel != 1 and channels is None:
        raise ValueError(f"cross_channel is {cross_channel}: the channels of the observations are needed")
    n_members, device = hx.shape[0], hx.device
    hx, precision = hx.to(torch.float64), error_variance.to(device, torch.float64).rsqrt()
    mean, grid = hx.mean(dim=0), WeightGrid(layout.grid.axes, weight_stride)
    return LocalTransform(
        observations=LocalObservations(
            anomalies=((hx - mean) * (precision / (n_members - 1) ** 0.5)).mT.contiguous(),
            innovations=(values.to(device, torch.float64) - mean) * precision,
            positions=positions.to(device, torch.float64),
            channels=torch.zeros(hx.shape[1], dtype=torch.int64) if channels is None else channels.to(device),
        ),
        half_width=radius,
        grid=grid,
        inflation=inflation,
        cross_channel=None if cross_channel == 1 else cross_channel,
        taper=taper,
        least_taper=least_taper,
        tile=tile or max(LEAST_NODES, min(MOST_NODES, grid.n_nodes // TILES)),
        update=kalman_weights if update is None else partial(dense_weights, update),
    )


@dataclass(frozen=True)
class LocalTransform:
    """A linear map of the members at every grid point; computed tile by tile when it is applied."""

    observations: LocalObservations  # all of them
    half_width: float | None  # None: one transform for the whole grid
    grid: WeightGrid
    inflation: float | Float[Tensor, "field *space"]
    cross_channel: float | None
    taper: Taper
    least_taper: float
    tile: int
    update: LocalUpdate

    def apply(
        self, states: Float[Tensor, "member *batch channel *space"], *, mapper: Mapper = one_by_one
    ) -> Float[Tensor, "member *batch channel *space"]:
        """Transform members (several frames at once if one likes); dtype and shape stay.

        Grid points out of reach of every observation (with interpolated weights: all whose nodes are) keep
        their members bit for bit. The mapper says who moves the tiles; the bytes do not depend on it.
        """
        n_space = len(self.grid.axes)
        fields = states.reshape(states.shape[0], -1, *states.shape[states.ndim - n_space - 1 :])
        if self.half_width is None:
            return self._apply_everywhere(fields).view(states.shape)
        result = torch.empty_like(fields, memory_format=torch.contiguous_format)
        tiles = list(self.grid.tiles(self.tile))
        for tile, moved in zip(tiles, mapper(move_tile, self._jobs(fields, tiles)), strict=True):
            result[:, :, :, tile.rows] = moved
        return result.view(states.shape)

    def _jobs(self, fields: Tensor, tiles: list[Tile]) -> Iterator[TileJob]:
        assert self.half_width is not None
        for tile in tiles:
            yield TileJob(
                tile=tile,
                states=fields[:, :, :, tile.rows].clone(memory_format=torch.contiguous_format),
                observations=self._in_reach(tile),
                axes=self.grid.axes,
                half_width=self.half_width,
                taper=self.taper,
                least_taper=self.least_taper,
                inflation=self._inflation_at(tile.points),
                cross_channel=self.cross_channel,
                update=self.update,
            )

    def _in_reach(self, tile: Tile) -> LocalObservations:
        """Observations that may reach a node of the tile: those near its rows."""
        assert self.half_width is not None
        axis, found = self.grid.axes[0], self.observations
        margin = 2 * self.half_width + (self.grid.stride + 1) * axis.spacing  # nodes lie within a stride of the rows
        along = found.positions[:, 0] - axis.origin - tile.rows.start * axis.spacing + margin
        reach = (tile.rows.stop - tile.rows.start) * axis.spacing + 2 * margin
        is_near = (along % axis.length if axis.periodic else along) <= reach
        if not axis.periodic:
            is_near &= along >= 0
        if bool(is_near.all()):
            return found
        return LocalObservations(*(getattr(found, name)[is_near] for name in found.__dataclass_fields__))

    def _inflation_at(self, points: Tensor) -> Float[Tensor, "field point"]:
        if not isinstance(self.inflation, torch.Tensor):
            return torch.full((1, len(points)), self.inflation, dtype=torch.float64)
        cells = [
            ((points[:, i_axis] - axis.origin) / axis.spacing).round().to(torch.int64).clamp(0, axis.size - 1)
            for i_axis, axis in enumerate(self.grid.axes)
        ]
        flat = torch.zeros_like(cells[0])
        for cell, axis in zip(cells, self.grid.axes, strict=True):
            flat = flat * axis.size + cell
        return self.inflation.to("cpu", torch.float64).flatten(1)[:, flat]

    def _apply_everywhere(self, fields: Float[Tensor, "member batch channel *space"]) -> Tensor:
        """Members moved by one transform for the whole grid."""
        result = fields.clone(memory_format=torch.contiguous_format)
        origin = torch.tensor([[axis.origin for axis in self.grid.axes]], dtype=torch.float64)
        inflation = self._inflation_at(origin)[:, 0].tolist()
        for selected, channel in channel_groups(fields.shape[2], self.cross_channel):
            f = inflation[0 if channel is None or len(inflation) == 1 else channel]
            weights = self._global_weights(f, channel)
            if weights is not None:
                part = result[:, :, selected]
                result[:, :, selected] = _move_columns(part.flatten(1), weights, f).view(part.shape)
        return result

    def _global_weights(self, inflation: float, channel: int | None) -> Weights | None:
        """Weights from all observations; None when there are none, or none is for this channel."""
        found = self.observations
        whole = torch.ones_like(found.innovations)
        taper = tapered(whole, found.channels, channel=channel, cross_channel=self.cross_channel)
        if not bool((taper > 0).any()):
            return None
        root = taper.sqrt()
        return self.update((found.anomalies * (inflation * root)[:, None])[None], (found.innovations * root)[None])


def _move_columns(states: Float[Tensor, "member column"], weights: Weights, inflation: float) -> Tensor:
    """Members moved by one set of weights, some columns at a time."""
    moved = torch.empty_like(states)
    for columns in torch.arange(states.shape[1], device=states.device).split(COLUMNS):
        x = states[:, columns].to(torch.float64)
        anomalies = x - x.mean(dim=0)
        change = inflation * weights.change(anomalies[None])[0] + (inflation - 1) * anomalies
        moved[:, columns] = (x + change).to(moved.dtype)
    return moved
