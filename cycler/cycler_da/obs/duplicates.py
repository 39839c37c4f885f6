"""Which of several observations stays: duplicates and thinning.

These checks compare observations with each other, so they come after every check of a single observation
and see only its survivors: a bad observation never costs a good one. All of them depend on what the
observations are, never on their order.

Duplicates: two observations of one variable are copies of each other when they have the same id, or when
they come from the same stream or the same station and lie within a distance along every axis and within a
time of each other. Everything linked by such pairs is one group, of which one stays. Neighbours are found
with two staggered rasters for each coordinate, of cells twice the tolerance wide: pairs within the tolerance
are always found, pairs beyond twice the tolerance never.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.layout import Axis, Grid

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Tolerance:
    """How near two copies of one observation may be."""

    cells: float  # along every axis, in grid cells
    seconds: float


def groups_of_copies(
    kind: Int[np.ndarray, "obs"],
    *,
    ids: np.ndarray,
    sources: Sequence[np.ndarray],
    index: Float[np.ndarray, "obs axis"],
    seconds: Float[np.ndarray, "obs"],
    grid: Grid,
    tolerance: Tolerance,
) -> Int[np.ndarray, "obs"]:
    """Number the groups of duplicates: equal numbers are copies of one observation.

    `kind` separates what can never be copies (operator and variable); `sources` are labels (stream,
    station) of which one must agree; `index` are positions in cells.
    """
    labels_of_sources = [_codes(source) for source in sources]
    places = [numbered([kind, *cells]) for cells in _rasters(index, seconds, grid=grid, tolerance=tolerance)]
    keys = [numbered([kind, _codes(ids)])]
    keys += [numbered([place, source]) for place in places for source in labels_of_sources]
    labels = np.arange(len(kind))
    while True:
        spread = labels
        for key in keys:
            spread = _least_in_group(key, spread)
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def thinning_boxes(index: Float[np.ndarray, "obs axis"], *, edge: float, grid: Grid) -> Int[np.ndarray, "obs"]:
    """Number the boxes of a regular raster of the given edge (axis units) that hold the positions.

    The raster starts at the lower edge of the first cell; the last box along an axis may be smaller.
    """
    columns = []
    for i_axis, axis in enumerate(grid.axes):
        along = index[:, i_axis] + 0.5
        along = np.mod(along, axis.size) if axis.periodic else along
        columns.append(np.floor(along * axis.spacing / edge).astype(np.int64))
    return numbered(columns)


def first_of_each(
    group: Int[np.ndarray, "obs"], *, rank: Sequence[np.ndarray]
) -> tuple[Bool[np.ndarray, "obs"], Int[np.ndarray, "obs"]]:
    """Mark the lowest-ranked observation of every group, and give for each observation the one that stays.

    `rank` holds sort keys, most important first.
    """
    order = np.lexsort((*reversed(rank), group))
    is_first = np.ones(len(group), dtype=bool)
    is_first[1:] = group[order][1:] != group[order][:-1]
    stays = np.zeros(len(group), dtype=bool)
    stays[order[is_first]] = True
    keeper = np.zeros(len(group), dtype=np.int64)
    keeper[order] = order[is_first][np.cumsum(is_first) - 1]
    return stays, keeper


def _rasters(
    index: np.ndarray, seconds: np.ndarray, *, grid: Grid, tolerance: Tolerance
) -> Iterator[tuple[np.ndarray, ...]]:
    """Cell numbers along every axis and in time, for every combination of the two staggered rasters."""
    axes = [_staggered(index[:, i_axis], 2 * tolerance.cells, axis) for i_axis, axis in enumerate(grid.axes)]
    yield from product(*axes, _staggered(seconds, 2 * tolerance.seconds, None))


def _staggered(values: np.ndarray, width: float, axis: Axis | None) -> tuple[np.ndarray, ...]:
    if width == 0.0:
        return (_codes(values),)
    if axis is None or not axis.periodic:
        return tuple(np.floor(values / width + shift).astype(np.int64) for shift in (0.0, 0.5))
    # A whole number of raster cells around the ring, so that the seam is no edge.
    n_cells = max(1, int(axis.size / width))
    turns = np.mod(values, axis.size) / axis.size * n_cells
    return tuple(np.mod(np.floor(turns + shift), n_cells).astype(np.int64) for shift in (0.0, 0.5))


def _least_in_group(key: np.ndarray, labels: np.ndarray) -> np.ndarray:
    least = np.full(int(key.max(initial=-1)) + 1, len(labels), dtype=np.int64)
    np.minimum.at(least, key, labels)
    return least[key]


def numbered(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Number the distinct combinations of columns from 0 upwards; one number for each row."""
    joined = _codes(columns[0])
    for column in columns[1:]:
        codes = _codes(column)
        joined = _codes(joined * (int(codes.max(initial=0)) + 1) + codes)
    return joined


def _codes(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)
