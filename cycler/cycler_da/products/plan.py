"""Where the states are inside a NetCDF file: ours by what it says, a user's own by its dimension names.

Our files carry the layout as JSON. A user's file has none; then the layout is read from the dimensions:

    realization (or member, number, ensemble)   the members
    time (or valid_time)                        valid times, optional
    channel (or variable)                       channels of one variable, optional
    everything else                             grid axes, in the order of the file

Every numeric variable with a realization dimension is a part of the state; all must share one grid. Axes
are evenly spaced: a 1-D coordinate gives origin, spacing and units, without one the axis counts cells.
Limits: an uneven grid is refused. A file without a time gets 1970-01-01T00:00:00Z, one with fewer than two
times a model step of 1 s, which stands for "not known".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from cycler_da.errors import DataError, LayoutMismatch
from cycler_da.layout import Axis, Grid, Layout, Variable, layout_from_description
from cycler_da.products.gridfile import dimension_names, read_part, times_of
from cycler_da.times import EPOCH

MEMBER_NAMES = ("realization", "member", "number", "ensemble")
TIME_NAMES = ("time", "valid_time")
CHANNEL_NAMES = ("channel", "variable")

_UNKNOWN_STEP = np.timedelta64(1, "s")

#: Relative departure from even spacing that a float32 coordinate may show.
_EVEN = 1e-4


@dataclass(frozen=True)
class Source:
    """Where one channel of the state is: a NetCDF variable, and an index along its channel dimension."""

    variable: str
    channel: int | None = None


@dataclass(frozen=True)
class FilePlan:
    """Layout, times and members of a file, and where each channel is found in it."""

    path: Path
    layout: Layout
    sources: tuple[Source, ...]
    space: tuple[str, ...]  # names of the grid dimensions in layout order
    valid_times: np.ndarray
    members: tuple[int, ...] | None  # None: the file holds single states

    def read(
        self,
        dataset: netCDF4.Dataset,
        *,
        member: int | None = None,
        times: Sequence[int] | None = None,
        gaps: bool = False,
    ) -> np.ndarray:
        """States `(time, channel, *space)` of the member at a position, at all or some time positions.

        With `gaps` cells that hold the fill value of a variable that names one were never seen, and are NaN. Raises
        DataError, naming variable and member, for any other damaged, missing, unwritten or non-finite value.
        """
        parts = [self._channel(dataset, source, member, times, gaps=gaps) for source in self.sources]
        return np.stack(parts, axis=1)

    def _channel(
        self,
        dataset: netCDF4.Dataset,
        source: Source,
        member: int | None,
        times: Sequence[int] | None,
        *,
        gaps: bool,
    ) -> np.ndarray:
        variable = dataset.variables[source.variable]
        index: list[Any] = []
        kept: list[str] = []
        for name in variable.dimensions:
            if name in MEMBER_NAMES:
                index.append(member)
            elif name in CHANNEL_NAMES and source.channel is not None:
                index.append(source.channel)
            else:
                is_chosen = name in TIME_NAMES and times is not None
                index.append(list(times) if is_chosen and times is not None else slice(None))
                kept.append("time" if name in TIME_NAMES else name)
        values = read_part(self.path, variable, tuple(index))
        if "time" not in kept:
            values, kept = values[None], ["time", *kept]
        values = np.transpose(values, [kept.index(name) for name in ("time", *self.space)])
        return self._require_whole(values, variable, member, gaps=gaps and "_FillValue" in variable.ncattrs())

    def _require_whole(
        self, values: np.ndarray, variable: netCDF4.Variable, member: int | None, *, gaps: bool
    ) -> np.ndarray:
        data = np.ma.getdata(values)
        bad = np.ma.getmaskarray(values) | ~np.isfinite(data)
        fill = getattr(variable, "_FillValue", netCDF4.default_fillvals.get(values.dtype.str[1:]))
        if fill is not None:
            filled = data == fill
            bad = bad & ~filled if gaps else bad | filled
        if bad.any():
            who = "" if member is None or self.members is None else f" of member {self.members[member]}"
            raise DataError(
                f"{self.path}: variable {variable.name}{who} has {int(bad.sum())} of {bad.size} values missing, not "
                "finite or never written; expected a finite value in every cell; the file was cut short, or fill "
                "the gaps before it is used"
            )
        return np.where(filled, np.array(np.nan, data.dtype), data) if gaps else data


def plan_of(dataset: netCDF4.Dataset, path: Path, *, layout: Layout | None = None) -> FilePlan:
    """Find the states in a file that is open for reading.

    `layout`, when given, must be the file's (LayoutMismatch names the difference). Raises DataError when
    the file holds no states that can be understood.
    """
    try:
        if "cycler_layout" in dataset.ncattrs():
            return _own_plan(dataset, path, layout)
        dataset.set_auto_maskandscale(True)
        plan = _foreign_plan(dataset, path)
    except (AttributeError, RuntimeError, OSError) as error:
        # What the NetCDF library raises on metadata whose bytes are damaged.
        raise DataError(
            f"{path}: its attributes or coordinates cannot be read ({error}); the file is damaged; restore it"
        ) from error
    return plan if layout is None else _fit(plan, layout)


def _own_plan(dataset: netCDF4.Dataset, path: Path, layout: Layout | None) -> FilePlan:
    try:
        own = layout_from_description(json.loads(dataset.getncattr("cycler_layout")))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: attribute cycler_layout cannot be read ({error}); make the file again") from error
    if layout is not None:
        layout.require_same(own, what=f"file {path}")
    absent = [name for name in (*own.channels, "time") if name not in dataset.variables]
    if absent:
        raise DataError(f"{path}: variables {', '.join(absent)} are absent; the file is not whole, make it again")
    has_members = "realization" in dataset.variables[own.channels[0]].dimensions
    return FilePlan(
        path=path,
        layout=own,
        sources=tuple(Source(name) for name in own.channels),
        space=dimension_names(own),
        valid_times=times_of(dataset, path),
        members=_member_ids(dataset, path, "realization") if has_members else None,
    )


def _foreign_plan(dataset: netCDF4.Dataset, path: Path) -> FilePlan:
    states = _state_variables(dataset)
    if not states:
        found = "; ".join(f"{name}({', '.join(v.dimensions)})" for name, v in dataset.variables.items())
        raise DataError(
            f"{path}: no variable holds states; found {found or 'nothing'}; expected dimensions realization, "
            "[channel], [time], y, x or realization, x"
        )
    space = _shared_space(states, path)
    members = next((name for name in states[0].dimensions if name in MEMBER_NAMES), None)
    valid_times = _foreign_times(dataset, states[0], path)
    step = valid_times[1] - valid_times[0] if len(valid_times) > 1 else _UNKNOWN_STEP
    sources, variables = _channels(dataset, states, path)
    return FilePlan(
        path=path,
        layout=Layout(
            system=str(getattr(dataset, "system", "user")),
            variables=variables,
            grid=Grid(tuple(_axis(dataset, name, path) for name in space), _grid_mapping(dataset, states[0])),
            step=step,
        ),
        sources=sources,
        space=space,
        valid_times=valid_times,
        members=_member_ids(dataset, path, members) if members else None,
    )


def _state_variables(dataset: netCDF4.Dataset) -> list[netCDF4.Variable]:
    numeric = [v for v in dataset.variables.values() if getattr(v.dtype, "kind", "") in "fiu" and v.ndim > 0]
    with_members = [v for v in numeric if set(v.dimensions) & set(MEMBER_NAMES) and v.name not in dataset.dimensions]
    if with_members:
        return with_members
    # Single states: whatever has a time and at least one grid axis.
    with_times = [v for v in numeric if set(v.dimensions) & set(TIME_NAMES)]
    return [v for v in with_times if _space_of(v) and v.name not in dataset.dimensions]


def _space_of(variable: netCDF4.Variable) -> tuple[str, ...]:
    known = (*MEMBER_NAMES, *TIME_NAMES, *CHANNEL_NAMES)
    return tuple(name for name in variable.dimensions if name not in known)


def _shared_space(states: list[netCDF4.Variable], path: Path) -> tuple[str, ...]:
    first = states[0]
    for other in states[1:]:
        if set(other.dimensions) - set(CHANNEL_NAMES) != set(first.dimensions) - set(CHANNEL_NAMES):
            raise DataError(
                f"{path}: variables {first.name}({', '.join(first.dimensions)}) and "
                f"{other.name}({', '.join(other.dimensions)}) do not share one grid; expected equal dimensions"
            )
    return _space_of(first)


def _channels(
    dataset: netCDF4.Dataset, states: list[netCDF4.Variable], path: Path
) -> tuple[tuple[Source, ...], tuple[Variable, ...]]:
    sources: list[Source] = []
    variables: list[Variable] = []
    for state in states:
        units, long_name = str(getattr(state, "units", "1")), str(getattr(state, "long_name", state.name))
        axis = next((name for name in state.dimensions if name in CHANNEL_NAMES), None)
        if axis is None:
            sources.append(Source(state.name))
            variables.append(Variable(state.name, units, long_name))
            continue
        for index, name in enumerate(_channel_names(dataset, state, axis, path)):
            sources.append(Source(state.name, index))
            variables.append(Variable(name, units, f"{long_name}, channel {index + 1}"))
    return tuple(sources), tuple(variables)


def _channel_names(dataset: netCDF4.Dataset, state: netCDF4.Variable, axis: str, path: Path) -> list[str]:
    size = len(dataset.dimensions[axis])
    if axis in dataset.variables and dataset.variables[axis].dtype is str:
        return [str(name) for name in read_part(path, dataset.variables[axis])]
    return [state.name] if size == 1 else [f"{state.name}_{index + 1}" for index in range(size)]


def _axis(dataset: netCDF4.Dataset, name: str, path: Path) -> Axis:
    size = len(dataset.dimensions[name])
    if name not in dataset.variables or dataset.variables[name].dimensions != (name,):
        return Axis(name, size, units="1")
    coordinate = dataset.variables[name]
    centres = np.asarray(read_part(path, coordinate), dtype=np.float64)
    spacing = float(centres[-1] - centres[0]) / max(size - 1, 1) or 1.0
    if size > 2 and np.abs(np.diff(centres) - spacing).max() > _EVEN * abs(spacing):
        raise DataError(f"{path}: axis {name} is not evenly spaced; put the fields on an even grid first")
    periodic = bool(getattr(coordinate, "cycler_periodic", getattr(coordinate, "periodic", 0)))
    return Axis(name, size, spacing, float(centres[0]), str(getattr(coordinate, "units", "1")), periodic)


def _grid_mapping(dataset: netCDF4.Dataset, state: netCDF4.Variable) -> dict[str, Any]:
    name = getattr(state, "grid_mapping", None)
    if name not in dataset.variables:
        return {}
    attributes = dataset.variables[name].__dict__
    dropped = ("crs_wkt", "long_name")
    return {k: getattr(v, "tolist", lambda v=v: v)() for k, v in attributes.items() if k not in dropped}


def _foreign_times(dataset: netCDF4.Dataset, state: netCDF4.Variable, path: Path) -> np.ndarray:
    dimension = next((name for name in state.dimensions if name in TIME_NAMES), None)
    if dimension and dimension not in dataset.variables:
        raise DataError(f"{path}: dimension {dimension} has no coordinate; write the valid times as {dimension}")
    name = dimension or next((n for n in TIME_NAMES if n in dataset.variables), None)
    return times_of(dataset, path, name=name) if name else np.asarray([EPOCH])


def _member_ids(dataset: netCDF4.Dataset, path: Path, name: str) -> tuple[int, ...]:
    size = len(dataset.dimensions[name])
    if name not in dataset.variables:
        return tuple(range(size))
    ids = tuple(int(i) for i in read_part(path, dataset.variables[name]))
    if len(set(ids)) != size:
        raise DataError(f"{path}: the {size} member ids in {name} are not all different; number the members")
    return ids


def _fit(plan: FilePlan, layout: Layout) -> FilePlan:
    """Put a user's file on a known layout: names, sizes, cell centres and units must be its own."""
    found = {variable.name: source for variable, source in zip(plan.layout.variables, plan.sources, strict=True)}
    absent = [name for name in layout.channels if name not in found]
    if absent:
        raise LayoutMismatch(
            f"file {plan.path} lacks variable {', '.join(absent)}; got {', '.join(found)}, "
            f"expected {', '.join(layout.channels)}"
        )
    if plan.layout.grid.shape != layout.grid.shape:
        raise LayoutMismatch(
            f"file {plan.path} has a grid of {plan.layout.grid.shape}, expected {layout.grid.shape} "
            f"({', '.join(layout.grid.names)})"
        )
    for got, expected in zip(plan.layout.grid.axes, layout.grid.axes, strict=True):
        has_coordinate = got.units != "1"
        if got.name != expected.name or (has_coordinate and not _same_axis(got, expected)):
            raise LayoutMismatch(f"file {plan.path}: grid axis differs: got {got}, expected {expected}")
    for variable in plan.layout.variables:
        wanted = next((v for v in layout.variables if v.name == variable.name), None)
        if wanted is not None and variable.units not in ("1", wanted.units):
            raise LayoutMismatch(
                f"file {plan.path}: {variable.name} is in {variable.units!r}, expected {wanted.units!r}; convert it"
            )
    return FilePlan(
        path=plan.path,
        layout=layout,
        sources=tuple(found[name] for name in layout.channels),
        space=plan.space,
        valid_times=plan.valid_times,
        members=plan.members,
    )


def _same_axis(got: Axis, expected: Axis) -> bool:
    apart = np.abs(got.centres() - expected.centres()).max()
    return got.units == expected.units and bool(apart <= _EVEN * abs(expected.spacing))
