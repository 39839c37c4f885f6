"""The withheld part: which observations the analysis never sees, so that something can judge it.

Stratified by stream, variable and region: of the n observations of a stream and variable

    m = min(floor(f n + u), n - 1),    u ~ U(0, 1)

are withheld, f n on average, and never the only one there is. They are drawn systematically, every (n / m)-th along a
curve through 4 blocks of each axis (bits of the block numbers interleaved), from a random start; within a
block the order is random. So every region gives its share within one observation, and within a region
everyone is as likely as the next (Cochran 1977, Sampling Techniques, ch. 8). All draws are keyed by cycle, stream
and observation: the part is the same whoever computes it, in whatever order the observations come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cycler_da.layout import Grid

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

#: Bits of the number of blocks along each axis: 2 bits, 4 blocks.
BITS = 2


def regions(index: Float[np.ndarray, "obs axis"], grid: Grid) -> Int[np.ndarray, "obs"]:
    """Number of the region of each observation, by its position in cells; neighbours in number are near in space."""
    region = np.zeros(len(index), dtype=np.int64)
    n_axes = len(grid.axes)
    for i_axis, axis in enumerate(grid.axes):
        block = np.clip(np.floor((index[:, i_axis] + 0.5) * 2**BITS / axis.size), 0, 2**BITS - 1).astype(np.int64)
        for bit in range(BITS):
            region |= ((block >> bit) & 1) << (bit * n_axes + i_axis)
    return region


def systematic_part(
    region: Int[np.ndarray, "obs"],
    *,
    draw: Float[np.ndarray, "obs"],
    fraction: float,
    rounding: float,
    start: float,
) -> Bool[np.ndarray, "obs"]:
    """Mark the withheld part of one stream and variable; `draw`, `rounding` and `start` are uniform in [0, 1)."""
    n_obs = len(region)
    count = min(int(np.floor(fraction * n_obs + rounding)), n_obs - 1)
    chosen = np.zeros(n_obs, dtype=bool)
    if count > 0:
        order = np.lexsort((draw, region))
        chosen[order[np.floor((np.arange(count) + start) * n_obs / count).astype(np.int64)]] = True
    return chosen
