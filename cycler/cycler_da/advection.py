"""Motion of echo by block matching, and advection along it.

Motion: the domain is cut into blocks; for each block and each trial displacement d (px per step)

    J(d) = sum over pairs (k-1, k) and pixels of the block of (f_k(x) - f_{k-1}(x - d))^2

over pixels where both are known; J is pooled over neighbouring blocks, a small penalty draws blocks without
echo to the domain's common motion, the least J wins, and a quadratic through J gives the fraction of a pixel.
Block vectors are pooled and interpolated to pixels. This is the correlation tracking of Rinehart and Garvey
(1978), Nature 273, 287, with squared differences.

Advection: semi-Lagrangian, backward in time along a steady motion field u (px per step),

    f(x, t + n) = f(x - n u(x*), t),   x* = x - n u(x*) / 2,

the mid-point found by fixed-point iteration (Germann and Zawadzki 2002, Mon. Wea. Rev. 130, 2859), with
bilinear interpolation. Edges are not periodic: what flows in is the replicated edge. Bilinear interpolation
smooths; in squared error that helps, bicubic interpolation scores worse.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor


#: Cost per pixel and px^2 of any motion at all: it decides only where there is no echo in the whole domain.
REST_WEIGHT = 1.0e-7
#: Least share of the pixels that a displacement must compare to be believed: less is chance.
LEAST_COMPARED = 0.3


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Settings of the block matching.

    Tuned on nine MRMS, FMI and KNMI sequences at 3 km and 10 min on 2026-11-21: one-step errors differ by
    less than 2 % for a pool of 3 to 7 and weights of 1e-5 to 1e-4.
    """

    block: int = 8  # px
    reach: int = 9  # largest displacement tried, px per step
    pool: int = 3  # blocks along an axis whose costs are pooled, odd
    common_weight: float = 1.0e-4  # cost per pixel and px^2 away from the common motion, squared field units

    def __post_init__(self) -> None:
        if self.block < 2 or self.reach < 1 or self.pool < 1 or self.pool % 2 == 0:
            raise ConfigError(f"block matching needs block >= 2, reach >= 1 and an odd pool, got {self}")


DEFAULT_FLOW = FlowSettings()


def block_flow(
    frames: Float[Tensor, "batch time y x"],
    *,
    missing: Bool[Tensor, "batch time y x"] | None = None,
    settings: FlowSettings = DEFAULT_FLOW,
) -> Float[Tensor, "batch 2 y x"]:
    """Estimate one steady motion field (y and x component, px per step) from two or more frames.

    Frames are equally spaced in time, oldest first, best on a scale with even errors (code / 255). Motion
    beyond `settings.reach` is not found. Where there is no echo the field is the common motion of the batch entry.
    """
    if missing is None:  # one mask for the whole batch
        missing = torch.zeros_like(frames[:1], dtype=torch.bool)
    known = torch.where(missing, torch.zeros_like(frames), frames)
    total, count = _matching_sums(known, (~missing).to(frames.dtype), settings)
    rest = torch.zeros((frames.shape[0], 2, 1, 1), dtype=frames.dtype, device=frames.device)
    whole = _mean_cost(total.sum(dim=(-2, -1), keepdim=True), count.sum(dim=(-2, -1), keepdim=True))
    common = _least(whole + REST_WEIGHT * _squared_distance(rest, settings), settings)
    local = _mean_cost(_pool(total, settings.pool), _pool(count, settings.pool))
    flow = _least(local + settings.common_weight * _squared_distance(common, settings), settings)
    return _to_pixels(_pool(flow, 3), n_y=frames.shape[-2], n_x=frames.shape[-1], block=settings.block)


def advect(
    fields: Float[Tensor, "batch channel y x"], flow: Float[Tensor, "batch 2 y x"], *, steps: float = 1.0
) -> Float[Tensor, "batch channel y x"]:
    """Carry fields `steps` steps forward along a steady motion; inflow repeats the edge.

    The result is a mean of four pixels each, so it keeps the bounds of the field. NaN spreads to every
    pixel that draws on it; `advect_masked` handles missing pixels.
    """
    return F.grid_sample(fields, _departure(flow, steps), mode="bilinear", padding_mode="border", align_corners=True)


def advect_masked(
    fields: Float[Tensor, "batch channel y x"],
    missing: Bool[Tensor, "batch channel y x"],
    flow: Float[Tensor, "batch 2 y x"],
    *,
    steps: float = 1.0,
) -> tuple[Float[Tensor, "batch channel y x"], Bool[Tensor, "batch channel y x"]]:
    """Carry fields with missing pixels: the mask moves too, and missing is never mixed in as zero.

    A pixel stays known when at least half of its bilinear weight comes from known pixels, and is then
    their weighted mean; unknown pixels come back as zero with a true mask.
    """
    present = (~missing).to(fields.dtype)
    weight = advect(present, flow, steps=steps)
    total = advect(torch.where(missing, torch.zeros_like(fields), fields), flow, steps=steps)
    is_missing = weight < 0.5
    return torch.where(is_missing, torch.zeros_like(total), total / weight.clamp(min=0.5)), is_missing


def advect_history(
    frames: Float[Tensor, "batch time y x"], flow: Float[Tensor, "batch 2 y x"], *, lead: int = 1
) -> Float[Tensor, "batch time y x"]:
    """Bring every history frame to the valid time `lead` steps after the last one."""
    n_times = frames.shape[1]
    carried = [advect(frames[:, i : i + 1], flow, steps=n_times - 1 - i + lead) for i in range(n_times)]
    return torch.cat(carried, dim=1)


def advect_history_masked(
    frames: Float[Tensor, "batch time y x"],
    missing: Bool[Tensor, "batch time y x"],
    flow: Float[Tensor, "batch 2 y x"],
    *,
    lead: int = 1,
) -> tuple[Float[Tensor, "batch time y x"], Bool[Tensor, "batch time y x"]]:
    """Bring history frames and their masks to the valid time `lead` steps after the last one."""
    parts = [
        advect_masked(frames[:, i : i + 1], missing[:, i : i + 1], flow, steps=frames.shape[1] - 1 - i + lead)
        for i in range(frames.shape[1])
    ]
    return torch.cat([values for values, _ in parts], dim=1), torch.cat([mask for _, mask in parts], dim=1)


def has_source(flow: Float[Tensor, "batch 2 y x"], *, steps: float = 1.0) -> Bool[Tensor, "batch y x"]:
    """Tell which pixels come from inside the domain; the others are inflow, which nobody observed."""
    return (_departure(flow, steps).abs() <= 1.0).all(dim=-1)


def _departure(flow: Tensor, steps: float) -> Tensor:
    """Departure points in the coordinates of grid_sample: (batch, y, x, 2), x first, -1 to 1."""
    n_y, n_x = flow.shape[-2:]
    rows = torch.arange(n_y, dtype=flow.dtype, device=flow.device)[:, None].expand(n_y, n_x)
    columns = torch.arange(n_x, dtype=flow.dtype, device=flow.device)[None, :].expand(n_y, n_x)
    here = torch.stack([rows, columns])
    size = torch.tensor([n_y - 1, n_x - 1], dtype=flow.dtype, device=flow.device)[None, :, None, None]

    def grid(points: Tensor) -> Tensor:
        return (2.0 * points / size - 1.0).flip(1).permute(0, 2, 3, 1)

    motion = flow
    for _ in range(2):  # converges as the motion field is smooth: displacement changes little over itself
        middle = grid(here - 0.5 * steps * motion)
        motion = F.grid_sample(flow, middle, mode="bilinear", padding_mode="border", align_corners=True)
    return grid(here - steps * motion)


def _matching_sums(frames: Tensor, present: Tensor, settings: FlowSettings) -> tuple[Tensor, Tensor]:
    """Sums of squared differences and numbers of pixels compared, of every block and displacement.

    Both are (batch, displacement, block row, block column), displacements row by row. Pixels that are
    missing, or come from outside the domain, are not compared.
    """
    reach, pad = settings.reach, (settings.reach,) * 4
    earlier, later = F.pad(frames[:, :-1], pad), frames[:, 1:]
    known_earlier, known_later = F.pad(present[:, :-1], pad), present[:, 1:]
    n_y, n_x = frames.shape[-2:]
    totals, counts = [], []
    for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
        rows, columns = slice(reach - dy, reach - dy + n_y), slice(reach - dx, reach - dx + n_x)
        known = known_later * known_earlier[..., rows, columns]
        square = known * (later - earlier[..., rows, columns]) ** 2
        totals.append(_block_mean(square.sum(1, keepdim=True), settings))
        counts.append(_block_mean(known.sum(1, keepdim=True), settings))
    return torch.cat(totals, dim=1), torch.cat(counts, dim=1)


def _mean_cost(total: Tensor, count: Tensor) -> Tensor:
    """Mean squared difference of a pixel; the worst of all where too few pixels were compared to tell."""
    is_known = count >= LEAST_COMPARED * count.amax(dim=1, keepdim=True).clamp(min=1e-6)
    cost = torch.where(is_known, total / count.clamp(min=1e-6), torch.zeros_like(total))
    return torch.where(is_known, cost, cost.amax(dim=1, keepdim=True))


def _block_mean(values: Tensor, settings: FlowSettings) -> Tensor:
    return F.avg_pool2d(values, settings.block, ceil_mode=True, count_include_pad=False)


def _pool(values: Tensor, width: int) -> Tensor:
    """Mean over neighbouring blocks, fewer at the edges."""
    return F.avg_pool2d(values, width, stride=1, padding=width // 2, count_include_pad=False)


def _squared_distance(centre: Tensor, settings: FlowSettings) -> Tensor:
    """Squared distance of every displacement from `centre` (batch, 2, 1, 1), in px^2: (batch, displacement, 1, 1)."""
    span = torch.arange(-settings.reach, settings.reach + 1, dtype=centre.dtype, device=centre.device)
    dy, dx = torch.meshgrid(span, span, indexing="ij")
    distance = (dy.reshape(1, -1) - centre[:, 0, 0]) ** 2 + (dx.reshape(1, -1) - centre[:, 1, 0]) ** 2
    return distance[:, :, None, None]


def _least(cost: Tensor, settings: FlowSettings) -> Tensor:
    """Displacement of least cost to a fraction of a pixel, (batch, 2, row, column)."""
    width = 2 * settings.reach + 1
    best = cost.argmin(dim=1, keepdim=True)
    # The fit needs all eight neighbours: at the edge of the search it is made one displacement inside.
    row, column = (best // width).clamp(1, width - 2), (best % width).clamp(1, width - 2)
    around = {(i, j): cost.gather(1, (row + i) * width + column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    dy, dx = _vertex(around)
    return torch.cat([row - settings.reach + dy, column - settings.reach + dx], dim=1)


def _vertex(j: dict[tuple[int, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Minimum of the quadratic through nine costs, cross term included, held to one pixel; zero if there is none."""
    slope_y, slope_x = 0.5 * (j[1, 0] - j[-1, 0]), 0.5 * (j[0, 1] - j[0, -1])
    curve_y, curve_x = j[1, 0] - 2.0 * j[0, 0] + j[-1, 0], j[0, 1] - 2.0 * j[0, 0] + j[0, -1]
    cross = 0.25 * (j[1, 1] - j[1, -1] - j[-1, 1] + j[-1, -1])
    determinant = curve_y * curve_x - cross**2
    is_bowl = (curve_y > 0) & (curve_x > 0) & (determinant > 0.1 * curve_y * curve_x)
    safe = torch.where(is_bowl, determinant, torch.ones_like(determinant))
    dy = (cross * slope_x - curve_x * slope_y) / safe
    dx = (cross * slope_y - curve_y * slope_x) / safe
    zero = torch.zeros_like(dy)
    return torch.where(is_bowl, dy.clamp(-1.0, 1.0), zero), torch.where(is_bowl, dx.clamp(-1.0, 1.0), zero)


def _to_pixels(flow: Tensor, *, n_y: int, n_x: int, block: int) -> Tensor:
    """Interpolate block vectors to pixels; block centres keep their values, edges repeat the outer blocks."""
    size = (flow.shape[-2] * block, flow.shape[-1] * block)
    return F.interpolate(flow, size=size, mode="bilinear", align_corners=False)[..., :n_y, :n_x]
