"""Localization: the Gaspari-Cohn taper and the search for observations near a point.

With q = distance / c, c the half-width:
    rho = 1 - 5/3 q^2 + 5/8 q^3 + 1/2 q^4 - 1/4 q^5      for 0 <= q <= 1
    rho = (2 - q)^4 (2 q^2 + 4 q - 1) / (24 q)           for 1 <= q <= 2,  0 beyond 2 c
The second line is the published polynomial in factored form, free of cancellation near q = 2.
Source: Gaspari and Cohn (1999), Q. J. R. Meteorol. Soc. 125, eq. 4.10.

Domain localization gives all observations within a radius their full weight instead (Ott et al. 2004, Tellus 56A).
Distances are Euclidean in axis units (m), the short way round along periodic axes. On a map projection they are
those of the map (SEVIR's equal-area map: within 2 % of those on the earth over the contiguous United States).
Observations are sorted into cells at least 2 c wide, so a point looks at 3 cells along each axis and no dense
distance matrix is formed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cycler_da.layout import Axis

if TYPE_CHECKING:
    from jaxtyping import Float, Int

#: From distances, all below twice the half-width, and the half-width to tapers.
Taper = Callable[[Tensor, float], Tensor]


def gaspari_cohn(distance: Float[Tensor, "*n"], half_width: float) -> Float[Tensor, "*n"]:
    """Taper in [0, 1]: 1 at distance 0, 5/24 at the half-width, 0 from twice the half-width on."""
    q = distance / half_width
    inner = 1 - q**2 * (5 / 3 - q * (5 / 8 + q * (1 / 2 - q / 4)))
    far = q.clamp(1, 2)
    outer = (2 - far) ** 4 * (2 * far**2 + 4 * far - 1) / (24 * far)
    return torch.where(q <= 1, inner, outer)


def full_weight(distance: Float[Tensor, "*n"], half_width: float) -> Float[Tensor, "*n"]:
    """Taper of domain localization: 1 for every observation of the domain, whose radius is twice the half-width."""
    return torch.ones_like(distance)


def grid_distance(
    first: Float[Tensor, "*n axis"], second: Float[Tensor, "*n axis"], *, axes: tuple[Axis, ...]
) -> Float[Tensor, "*n"]:
    """Euclidean distance in axis units, the short way round along periodic axes."""
    difference = (first - second).abs()
    square = torch.zeros_like(difference[..., 0])
    for i_axis, axis in enumerate(axes):
        along = difference[..., i_axis]
        if axis.periodic:
            along = (along - axis.length * (along / axis.length).round()).abs()
        square = square + along**2
    return square.sqrt()


def taper_between(
    first: Float[Tensor, "first axis"],
    second: Float[Tensor, "second axis"],
    *,
    axes: tuple[Axis, ...],
    half_width: float,
) -> Float[Tensor, "first second"]:
    """Gaspari-Cohn taper between every two places, dense."""
    return gaspari_cohn(grid_distance(first[:, None], second[None], axes=axes), half_width)


def grid_points(axes: tuple[Axis, ...]) -> Float[Tensor, "point axis"]:
    """Positions of all grid points, first axis slowest; float64, axis units."""
    centres = torch.meshgrid(*[torch.from_numpy(axis.centres()) for axis in axes], indexing="ij")
    return torch.stack(centres, dim=-1).flatten(0, -2)


@dataclass(frozen=True)
class Neighbours:
    """Observations near each point; rows are padded at their end with taper 0 (and index 0)."""

    index: Int[Tensor, "point near"]
    taper: Float[Tensor, "point near"]
    count: Int[Tensor, "point"]


@dataclass(frozen=True)
class NeighbourSearch:
    """Observations sorted into cells; made by `sort_into_cells`, asked with `near`."""

    axes: tuple[Axis, ...]
    half_width: float
    n_cells: tuple[int, ...]
    positions: Float[Tensor, "obs axis"]
    order: Int[Tensor, "obs"]  # observations sorted by cell
    start: Int[Tensor, "cell"]  # first place of each cell in `order`
    count: Int[Tensor, "cell"]
    taper: Taper = gaspari_cohn

    @property
    def most_candidates(self) -> int:
        """A bound on the observations that are looked at for one point."""
        n_cells = math.prod(1 if n == 1 else 3 for n in self.n_cells)
        return min(len(self.positions), n_cells * int(self.count.max()))

    def near(self, points: Float[Tensor, "point axis"], *, least_taper: float = 0.0) -> Neighbours:
        """Find the observations closer than twice the half-width to each point, with their taper.

        Those with a taper of `least_taper` or less are left out.
        """
        owner, candidate, taper = self._pairs(points)
        keep = taper > least_taper
        owner, candidate, taper = owner[keep], candidate[keep], taper[keep]
        found = torch.bincount(owner, minlength=len(points))
        first = found.cumsum(0) - found
        place = torch.arange(len(owner), device=owner.device) - first[owner]
        width = int(found.max()) if len(found) else 0
        index = torch.zeros((len(points), width), dtype=torch.int64, device=points.device)
        padded = torch.zeros((len(points), width), dtype=points.dtype, device=points.device)
        index[owner, place] = candidate
        padded[owner, place] = taper
        return Neighbours(index, padded, found)

    def _pairs(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs (point, observation) in reach of each other, ordered by point, with their taper."""
        if self.most_candidates == len(self.positions):  # cells would spare nothing
            distance = grid_distance(points[:, None], self.positions[None], axes=self.axes)
            owner, candidate = (distance < 2 * self.half_width).nonzero().unbind(1)
            return owner, candidate, self.taper(distance[owner, candidate], self.half_width)
        owner, candidate = self._candidates(points)
        distance = grid_distance(points[owner], self.positions[candidate], axes=self.axes)
        keep = distance < 2 * self.half_width
        return owner[keep], candidate[keep], self.taper(distance[keep], self.half_width)

    def _candidates(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs (point, observation) of all cells that touch the cell of each point, ordered by point."""
        home = _cell_of(points, axes=self.axes, n_cells=self.n_cells)
        starts, counts = [], []
        for offset in itertools.product(*[(0,) if n == 1 else (-1, 0, 1) for n in self.n_cells]):
            cell, exists = self._shift(home, offset)
            starts.append(self.start[cell])
            counts.append(self.count[cell] * exists)
        start, count = torch.stack(starts, 1).flatten(), torch.stack(counts, 1).flatten()
        visit = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
        within = torch.arange(len(visit), device=count.device) - (count.cumsum(0) - count)[visit]
        return visit // len(starts), self.order[start[visit] + within]

    def _shift(self, home: Tensor, offset: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        exists = torch.ones(len(home), dtype=torch.int64, device=home.device)
        cells = []
        for i_axis, (axis, n) in enumerate(zip(self.axes, self.n_cells, strict=True)):
            cell = home[:, i_axis] + offset[i_axis]
            if not axis.periodic:
                exists = exists * ((cell >= 0) & (cell < n))
            cells.append(cell % n)
        return _flat_cell(torch.stack(cells, 1), self.n_cells), exists


def sort_into_cells(
    positions: Float[Tensor, "obs axis"], *, axes: tuple[Axis, ...], half_width: float, taper: Taper = gaspari_cohn
) -> NeighbourSearch:
    """Sort observations into cells at least twice the half-width (axis units) wide."""
    n_cells = tuple(_count_cells(axis, support=2 * half_width) for axis in axes)
    cell = _flat_cell(_cell_of(positions, axes=axes, n_cells=n_cells), n_cells)
    count = torch.bincount(cell, minlength=math.prod(n_cells))
    return NeighbourSearch(
        axes=axes,
        half_width=half_width,
        n_cells=n_cells,
        positions=positions,
        order=torch.argsort(cell, stable=True),
        start=count.cumsum(0) - count,
        count=count,
        taper=taper,
    )


def _count_cells(axis: Axis, *, support: float) -> int:
    # With fewer than three cells the neighbours of a cell on a periodic axis would coincide.
    n_cells = min(int(axis.length // support), axis.size)
    return n_cells if n_cells >= 3 else 1


def _cell_of(positions: Tensor, *, axes: tuple[Axis, ...], n_cells: tuple[int, ...]) -> Tensor:
    cells = []
    for i_axis, (axis, n) in enumerate(zip(axes, n_cells, strict=True)):
        along = (positions[:, i_axis] - axis.origin + axis.spacing / 2) / axis.length
        if axis.periodic:
            along = along % 1.0
        # Positions off a plain axis go to its border cell; that keeps every pair within reach.
        cells.append((along * n).floor().to(torch.int64).clamp(0, n - 1))
    return torch.stack(cells, dim=1)


def _flat_cell(cells: Tensor, n_cells: tuple[int, ...]) -> Tensor:
    flat = torch.zeros_like(cells[:, 0])
    for i_axis, n in enumerate(n_cells):
        flat = flat * n + cells[:, i_axis]
    return flat
