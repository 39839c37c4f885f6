"""One tile of a local ensemble transform: its members, the observations in their reach, and the work itself.

A job holds all that its tile needs, so that any process may do it, and its memory is bounded whatever the number of
observations in reach: pairs of nodes and observations are looked at some nodes at a time, and weights are computed
in batches that fit the processor's cache. Batches follow from the job alone, so its bytes do too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Axis
from cycler_da.schemes.ensemble.local_weights import LocalUpdate
from cycler_da.schemes.ensemble.localization import Neighbours, Taper, sort_into_cells
from cycler_da.schemes.ensemble.weight_grid import Tile

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

#: Pairs of a node and an observation looked at at once; their arrays take about 0.1 GB.
PAIRS_AT_ONCE = 2**20
#: Bytes of gathered anomalies and matrices of one batch of local decompositions, and its most points.
#: Small enough for the processor's cache; tuned on QG 64x64 with 16-100 members.
SOLVE_BYTES = 16 * 2**20
SOLVE_POINTS = 128


@dataclass(frozen=True)
class LocalObservations:
    """Observations in the reach of a tile, scaled by their errors; float64."""

    anomalies: Float[Tensor, "obs member"]  # S^T without taper and inflation
    innovations: Float[Tensor, "obs"]  # b without the taper
    positions: Float[Tensor, "obs axis"]
    channels: Int[Tensor, "obs"]


@dataclass(frozen=True)
class TileJob:
    """All that is needed to move the members of one tile."""

    tile: Tile
    states: Float[Tensor, "member batch channel *space"]
    observations: LocalObservations
    axes: tuple[Axis, ...]
    half_width: float
    taper: Taper
    least_taper: float
    inflation: Float[Tensor, "field node"]
    cross_channel: float | None  # None: one transform for all variables
    update: LocalUpdate

    def groups(self) -> list[tuple[slice, int | None]]:
        """Channels that share a transform, with the channel that tapers are for."""
        return channel_groups(self.states.shape[2], self.cross_channel)


def channel_groups(n_channels: int, cross_channel: float | None) -> list[tuple[slice, int | None]]:
    """Channels that share a transform, with the channel that tapers are for: all, or each one for itself."""
    if cross_channel is None:
        return [(slice(None), None)]
    return [(slice(channel, channel + 1), channel) for channel in range(n_channels)]


def tapered(taper: Tensor, observed: Tensor, *, channel: int | None, cross_channel: float | None) -> Tensor:
    """Taper between observations of the channels `observed` and a state variable."""
    if channel is None or cross_channel is None:
        return taper
    return torch.where(observed == channel, taper, taper * cross_channel)


def move_tile(job: TileJob) -> Float[Tensor, "member batch channel *space"]:
    """Analysis members of a tile; cells out of reach of every observation keep their members bit for bit."""
    if len(job.observations.innovations) == 0:
        return job.states
    result = job.states.clone()
    moves = [_Move.start(job.states[:, :, selected], channel) for selected, channel in job.groups()]
    positions, half_width = job.observations.positions, job.half_width
    search = sort_into_cells(positions, axes=job.axes, half_width=half_width, taper=job.taper)
    for nodes in torch.arange(len(job.tile.points)).split(max(1, PAIRS_AT_ONCE // search.most_candidates)):
        near = search.near(job.tile.points[nodes].to(search.positions.device), least_taper=job.least_taper)
        for move in moves:
            _add_changes(job, move, nodes, near)
    for (selected, _), move in zip(job.groups(), moves, strict=True):
        result[:, :, selected] = move.result(job.states[:, :, selected])
    return result


@dataclass(frozen=True)
class _Move:
    """What is added up for the channels that share a transform."""

    channel: int | None
    anomalies: Float[Tensor, "cell member field"]  # float64
    change: Float[Tensor, "cell member field"]
    is_reached: Bool[Tensor, "cell"]

    @staticmethod
    def start(states: Tensor, channel: int | None) -> _Move:
        x = states.to(torch.float64).flatten(3).permute(3, 0, 1, 2).flatten(2)
        anomalies = x - x.mean(dim=1, keepdim=True)
        return _Move(channel, anomalies, torch.zeros_like(x), x.new_zeros(len(x), dtype=torch.bool))

    def result(self, states: Tensor) -> Tensor:
        shape = states.shape
        n_cells = len(self.change)
        change = self.change.view(n_cells, *shape[:3]).permute(1, 2, 3, 0).reshape(shape)
        moved = (states.to(torch.float64) + change).to(states.dtype)
        return torch.where(self.is_reached.view(shape[3:]), moved, states)


def _add_changes(job: TileJob, move: _Move, nodes: Tensor, near: Neighbours) -> None:
    """Add the changes by some nodes to the cells that they have a share in."""
    n_members = job.observations.anomalies.shape[1]
    field = 0 if len(job.inflation) == 1 or move.channel is None else move.channel
    # Nodes with about as many observations go together, so that few padded places are computed.
    order = torch.argsort(near.count, stable=True)
    size = max(1, min(SOLVE_POINTS, SOLVE_BYTES // (8 * n_members * (near.index.shape[1] + n_members))))
    for some in order.split(size):
        width = int(near.count[some].max())
        if not width:
            continue
        index = near.index[some, :width]
        observed = job.observations.channels[index]
        taper = tapered(near.taper[some, :width], observed, channel=move.channel, cross_channel=job.cross_channel)
        here = nodes[some.cpu()]
        _add_batch(job, move, here, index, taper, job.inflation[field, here].to(taper.device))


def _add_batch(job: TileJob, move: _Move, nodes: Tensor, index: Tensor, taper: Tensor, inflation: Tensor) -> None:
    root, device = taper.sqrt(), taper.device
    cells, share = job.tile.cells[nodes].to(device), job.tile.share[nodes].to(device)
    weights = job.update(
        job.observations.anomalies[index] * (inflation[:, None] * root)[:, :, None],
        job.observations.innovations[index] * root,
    )
    # (node, cell, member, field) -> (node, member, cell x field)
    part = move.anomalies[cells].transpose(1, 2)
    part = part * share[:, None, :, None]
    anomalies = part.flatten(2)
    change = inflation[:, None, None] * weights.change(anomalies) + (inflation - 1)[:, None, None] * anomalies
    is_reached = (taper > 0).any(dim=1)  # a cross-channel factor of zero may leave nothing
    change = (change * is_reached[:, None, None]).view(part.shape).transpose(1, 2)
    move.change.index_add_(0, cells.flatten(), change.flatten(0, 1))
    move.is_reached[cells[(share > 0) & is_reached[:, None]]] = True
