"""What was observed in a window of frames, as one measurement of the diffused window.

The window is `(batch, frame, channel, y, x)`: scaled states and, for schemes that diffuse them, scaled fields of
observations behind them. A measurement is a list of parts, each of one frame:

    states    H(x_f) of the observation operators, in physical units, divided by a unit (`state_part`)
    waves     a background, by its waves (`background`)
    cells     values of single cells, or curves of them (`cells`): a background, known frames, observations of a
              diffused field or at cells

Every observation belongs to the nearest frame. Observations of the same cell are averaged (weights 1 / variance), which
is the same likelihood; of several streams they are where a scheme asks for it (`merged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from cycler_da.generative.diffusion.information import CellInformation, Information, WaveInformation
from cycler_da.generative.diffusion.likelihood import Slope
from cycler_da.generative.scaling import Scaling
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.nonlinear import CurveOperator
from cycler_da.obs.points import Stencil
from cycler_da.schemes.window.background import WaveBackground
from cycler_da.schemes.window.cells import Cells, CurvePart, EntryPart, LinePart, frame_cells, joined
from cycler_da.schemes.window.state_part import StatePart, StateSlope, state_part

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Part(Protocol):
    """Observations of one frame."""

    @property
    def frame(self) -> int:
        """Its place in the window."""
        ...

    @property
    def values(self) -> Float[Tensor, "*batch obs"]:
        """Observed values."""
        ...

    @property
    def error_variance(self) -> Float[Tensor, "*batch obs"]:
        """Diagonal of R."""
        ...

    def hx(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """Model equivalents."""
        ...

    def slope(self, z: Float[Tensor, "batch frame channel y x"]) -> Slope:
        """H at z."""
        ...


@dataclass(frozen=True)
class WindowMeasurement:
    """All parts, one after the other."""

    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(part.values.shape[-1] for part in self.parts)

    @property
    def values(self) -> Float[Tensor, "*batch obs"]:
        """Observed values, float64."""
        return _in_a_row([part.values for part in self.parts])

    @property
    def error_variance(self) -> Float[Tensor, "*batch obs"]:
        """Diagonal of R, float64."""
        return _in_a_row([part.error_variance for part in self.parts])

    @property
    def is_of_whole_frames(self) -> bool:
        """True where every part is all cells of a channel in a frame, with one error variance, or a frame by waves."""
        return all(
            isinstance(part, WaveBackground)
            or (
                isinstance(part, EntryPart)
                and len(part.cells.places) == part.cells.shape[-1] * part.cells.shape[-2]
                and bool((part.error_variance == part.error_variance[0]).all())
            )
            for part in self.parts
        )

    def hx(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """Model equivalents."""
        return torch.cat([part.hx(z) for part in self.parts], dim=1)

    def information(self, like: Float[Tensor, "batch frame channel y x"]) -> Information:
        """About H^T R^-1 H at the climatological mean: of velocities for each wave, else the mean over cells.

        The latter is of the diagonal, from one probe of every channel.
        """
        zero, sizes = torch.zeros_like(like[:1]), like.shape[1:]
        signs = 1.0 - 2.0 * (torch.arange(like.shape[-1] * like.shape[-2]) * 2654435761 % 2**32 // 2**31)
        found = torch.zeros(sizes[:2], dtype=torch.float64)
        waves: dict[int, Tensor] = {}
        for part in self.parts:
            if isinstance(part, WaveBackground) or (isinstance(part, StatePart) and part.is_waves):
                waves[part.frame] = waves.get(part.frame, torch.zeros(())) + part.of_waves()
                continue
            if isinstance(part, LinePart):
                found[part.frame] += part.density
                continue
            slope = part.slope(zero)
            for channel in range(sizes[1]):
                probe = zero.clone()
                probe[:, part.frame, channel] = signs.view(sizes[-2:]).to(probe)
                seen = slope.forward(probe)[0].to(torch.float64)
                found[part.frame, channel] += (seen**2 / part.error_variance).sum() / len(signs)
        if not waves:
            return CellInformation(found)
        return WaveInformation(found, tuple(waves), torch.stack(tuple(waves.values())))

    def slope(self, z: Float[Tensor, "batch frame channel y x"]) -> WindowSlope:
        """H at z; what is of single cells, one after the other, is one slope."""
        slopes, sizes = list[Slope](), list[int]()
        for is_cells, some in groupby(self.parts, lambda part: isinstance(part, EntryPart | CurvePart | LinePart)):
            group = list(some)
            found = [part.slope(z) for part in group]
            counts = [part.values.shape[-1] for part in group]
            if is_cells:
                found, counts = [joined(found, len(z))], [sum(counts)]  # type: ignore[arg-type]
            slopes += found
            sizes += counts
        return WindowSlope(tuple(slopes), sizes)


@dataclass(frozen=True)
class WindowSlope:
    """The slopes of all parts."""

    slopes: tuple[Slope, ...]
    sizes: Sequence[int]

    def forward(self, v: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """H v."""
        return torch.cat([slope.forward(v) for slope in self.slopes], dim=1)

    def transpose(self, w: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch frame channel y x"]:
        """H^T w."""
        total = w.new_zeros(())
        pairs = list(zip(self.slopes, w.split(list(self.sizes), dim=1), strict=True))
        for slope, part in pairs:
            if not isinstance(slope, StateSlope):
                total = total + slope.transpose(part)
        for slope, part in pairs:
            if isinstance(slope, StateSlope):
                total = slope.added(total, part)
        return total


def _in_a_row(rows: Sequence[Tensor]) -> Float[Tensor, "*batch obs"]:
    lead = torch.broadcast_shapes(*(row.shape[:-1] for row in rows))
    return torch.cat([row.expand(*lead, -1) for row in rows], dim=-1)


def state_parts(frame: int, observations: Observations, scaling: Scaling, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """The parts of observations of states: point by point where they stand at cells, the others through H."""
    curved = [batch for batch in observations.batches if is_curve_at_cells(batch, observations)]
    rest = tuple(batch for batch in observations.batches if not any(batch is other for other in curved))
    parts: list[Part] = [curve_part(frame, batch, observations, scaling, shape) for batch in curved]
    if rest:
        parts.append(state_part(frame, replace(observations, batches=rest), scaling, shape))
    return tuple(parts)


def split_by_frame(observations: Observations, times: np.ndarray) -> list[Observations]:
    """Observations of each frame, by the nearest time; without a time they belong to the last frame."""
    found: list[list[ObsBatch]] = [[] for _ in times]
    frames = times.astype("datetime64[s]").astype(np.int64)
    for batch in observations.batches:
        stamps = batch.times.astype("datetime64[s]")
        seconds = np.where(np.isnat(stamps), times[-1], stamps).astype("datetime64[s]").astype(np.int64)
        nearest = np.abs(seconds[:, None] - frames[None, :]).argmin(axis=1)
        for frame in np.unique(nearest):
            found[frame].append(batch.select(torch.from_numpy(nearest == frame)))
    return [Observations(tuple(batches), observations.layout) for batches in found]


def together(windows: Sequence[Sequence[Part]]) -> tuple[Part, ...]:
    """The parts of several windows that are observed at the same places, as parts of one batch with a row for each."""
    found: list[Part] = []
    for parts in zip(*windows, strict=True):
        first, values = parts[0], torch.stack([part.values for part in parts])
        if isinstance(first, EntryPart | CurvePart):
            found.append(replace(first, values=values))
        elif isinstance(first, StatePart):
            found.append(replace(first, own=values * first.unit))
        else:
            raise TypeError(f"parts of type {type(first).__name__} have no rows")
    return tuple(found)


def entry_part(
    frame: int,
    channel: int,
    cells: Int[Tensor, "obs"],
    values: Float[Tensor, "*batch obs"],
    variance: Float[Tensor, "obs"],
    shape: tuple[int, ...],
) -> EntryPart:
    """The part of single cells; those that are seen more than once are averaged."""
    cells = frame_cells(frame, channel * shape[-2] * shape[-1] + cells, shape).places
    return _averaged(frame, cells, values, variance, shape)


def merged(parts: Sequence[EntryPart]) -> tuple[EntryPart, ...]:
    """The same with every cell once: what several parts say of it is averaged.

    Where all errors are independent this is the same likelihood; one that adds a variance to R would else take what is
    not known of the state as independent, too, and a cell can be replaced by one value alone. The parts of a frame
    whose cells are all different stay as they are.
    """
    found: list[EntryPart] = []
    for frame in dict.fromkeys(part.frame for part in parts):
        group = [part for part in parts if part.frame == frame]
        places = torch.cat([part.cells.places for part in group])
        if len(places.unique()) == len(places):
            found += group
            continue
        whole = WindowMeasurement(tuple(group))
        found.append(_averaged(frame, places, whole.values, whole.error_variance, group[0].cells.shape))
    return tuple(found)


def _averaged(
    frame: int,
    places: Int[Tensor, "obs"],
    values: Float[Tensor, "*batch obs"],
    variance: Float[Tensor, "obs"],
    shape: tuple[int, ...],
) -> EntryPart:
    unique, where = torch.unique(places, return_inverse=True)
    weight = 1.0 / variance
    total = torch.zeros(len(unique), dtype=torch.float64).index_add(0, where, weight)
    sums = values.new_zeros((*values.shape[:-1], len(unique))).index_add(-1, where, values * weight)
    return EntryPart(frame, Cells(unique, shape), sums / total, 1.0 / total)


def frame_part(
    frame: int, states: Float[Tensor, "*batch channel y x"], variance: Float[Tensor, "channel"], shape: tuple[int, ...]
) -> tuple[EntryPart, ...]:
    """Parts for a whole frame of scaled states with one error variance for each channel."""
    n = states.shape[-1] * states.shape[-2]
    cells, flat = torch.arange(n), states.to(torch.float64).flatten(-2)
    return tuple(
        EntryPart(
            frame, frame_cells(frame, c * n + cells, shape), flat[..., c, :], variance[c].to(torch.float64).expand(n)
        )
        for c in range(states.shape[-3])
    )


def is_curve_at_cells(batch: ObsBatch, observations: Observations) -> bool:
    """True where every observation is a curve of the value in one cell."""
    return isinstance(batch.operator, CurveOperator) and is_at_cells(batch, observations)


def curve_part(
    frame: int, batch: ObsBatch, observations: Observations, scaling: Scaling, shape: tuple[int, ...]
) -> CurvePart:
    """The part of a batch that is curves of values in cells."""
    operator = batch.operator
    assert isinstance(operator, CurveOperator)
    channel = batch.where.channel
    std, mean = (torch.tensor(values, dtype=torch.float64)[channel] for values in (scaling.std, scaling.mean))
    places = channel * shape[-1] * shape[-2] + cells_of(batch, observations) % (shape[-1] * shape[-2])
    return CurvePart(
        frame,
        frame_cells(frame, places, shape),
        batch.values,
        batch.error**2,
        operator.curve,
        std / operator.scale,
        mean / operator.scale,
    )


def is_at_cells(batch: ObsBatch, observations: Observations) -> bool:
    """True where no observation of a point operator lies between cells."""
    return bool((_stencil(batch, observations).weight[0] == 1.0).all())


def cells_of(batch: ObsBatch, observations: Observations) -> Int[Tensor, "obs"]:
    """Flat place of the cell of every observation, channels outside."""
    return _stencil(batch, observations).flat[0]


def _stencil(batch: ObsBatch, observations: Observations) -> Stencil:
    operator: Any = batch.operator
    stencil: Stencil = getattr(operator, "inner", operator).make_stencil(batch.where, observations.layout)
    return stencil
