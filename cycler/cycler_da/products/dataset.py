"""Fields in NetCDF files: the frontier between torch and the world.

An ensemble file has one variable `(realization, time, *space)` for each layout variable, with its mean and
spread; a field file (increment, truth, nature run) has `(time, *space)`. Members are written and read one
by one. float32 stays float32 and float64 stays float64, bit for bit. A file appears whole or not at all.
Mean and spread are accumulated in float64 (products/statistics.py) and rounded to the members' type.
docs/products.md lists every variable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import netCDF4
import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import DataError, LayoutMismatch
from cycler_da.layout import Layout
from cycler_da.products import conventions
from cycler_da.products.atomic import write_atomically
from cycler_da.products.conventions import FileFacts
from cycler_da.products.gridfile import (
    create_file,
    define_field,
    define_grid,
    define_members,
    define_times,
    open_file,
    require_frames,
)
from cycler_da.products.plan import FilePlan, plan_of
from cycler_da.products.statistics import Moments

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = [
    "FileFacts",
    "NatureFile",
    "open_nature",
    "read_ensemble",
    "read_field",
    "write_ensemble",
    "write_field",
    "write_frames",
    "write_member_stream",
    "write_observed_field",
]


def write_ensemble(path: Path, ensemble: Ensemble, *, facts: FileFacts) -> None:
    """Write all members of an ensemble with their mean and spread; see `write_member_stream`."""
    members = zip(ensemble.members, ensemble.values, strict=True)
    write_member_stream(path, ensemble.layout, ensemble.valid_times, members, facts=facts, n_members=ensemble.n_members)


def write_member_stream(
    path: Path,
    layout: Layout,
    valid_times: np.ndarray,
    members: Iterable[tuple[int, Float[Tensor, "time channel *space"]]],
    *,
    facts: FileFacts,
    n_members: int,
) -> None:
    """Write members as they arrive, `(id, states)` each; memory does not grow with their number.

    The spread is absent when there is one member. Raises DataError, naming member and variable, for a
    value that is not finite and for a wrong number of members; LayoutMismatch for a wrong shape;
    CannotWrite when the file system refuses. In all cases `path` stays as it was.
    """
    path = Path(path)
    expected = (len(valid_times), *layout.state_shape)

    def write(private: Path) -> None:
        with create_file(private) as dataset:
            _define(dataset, layout, valid_times, facts)
            ids = define_members(dataset, n_members)
            writer = _FieldWriter(dataset, layout, ("realization", "time"), facts.kind)
            moments = Moments.empty(expected)
            for member, states in _counted(members, n_members, path):
                values = _checked(states, expected, layout, what=f"{path}, member {member}")
                ids[moments.count] = member
                writer.put(moments.count, values)
                moments = moments.add(values)
            writer.finish()
            dataset.setncattr("cycler_n_members", np.int32(n_members))
            _write_moments(dataset, layout, facts.kind, moments)

    write_atomically(path, write)


def write_field(
    path: Path,
    values: Float[Tensor, "time channel *space"],
    valid_times: np.ndarray,
    layout: Layout,
    *,
    facts: FileFacts,
) -> None:
    """Write single states (increment, truth, a short nature run); errors as in `write_member_stream`."""
    write_frames(path, layout, valid_times, values, facts=facts)


def write_frames(
    path: Path,
    layout: Layout,
    valid_times: np.ndarray,
    frames: Iterable[Float[Tensor, "channel *space"]],
    *,
    facts: FileFacts,
) -> None:
    """Write states as they are made, one for each valid time; memory does not grow with their number."""
    _write_single(path, layout, valid_times, frames, facts, _checked)


def write_observed_field(
    path: Path,
    values: Float[Tensor, "time channel *space"],
    valid_times: np.ndarray,
    layout: Layout,
    *,
    facts: FileFacts,
) -> None:
    """Write single states of which some cells were never seen (NaN): these hold the fill value.

    Without such cells the file is the one that `write_field` makes. Raises DataError for infinite values.
    """
    _write_single(path, layout, valid_times, values, facts, _checked_where_seen if values.isnan().any() else _checked)


def _write_single(
    path: Path,
    layout: Layout,
    valid_times: np.ndarray,
    frames: Iterable[Tensor],
    facts: FileFacts,
    checked: Callable[..., np.ndarray],
) -> None:
    path = Path(path)

    def write(private: Path) -> None:
        with create_file(private) as dataset:
            _define(dataset, layout, valid_times, facts)
            writer = _FieldWriter(dataset, layout, ("time",), facts.kind)
            count = 0
            for count, frame in enumerate(frames, start=1):
                if count > len(valid_times):
                    break
                what = f"{path}, {conventions.iso_time(valid_times[count - 1])}"
                writer.put(count - 1, checked(frame[None], (1, *layout.state_shape), layout, what=what)[0])
            if count != len(valid_times):
                raise DataError(f"{path}: got {count} frames or more, expected {len(valid_times)}, one each time")
            writer.finish()

    write_atomically(path, write)


def read_ensemble(path: Path, *, layout: Layout | None = None) -> Ensemble:
    """Read an ensemble of ours or of a user (dimensions: see products/plan.py), every value checked.

    Values keep the file's type (packed and integer data become float64). Raises MissingInput when the file
    is absent, DataError when it is damaged, holds no members or a value that is missing or not finite,
    LayoutMismatch when it is not on `layout`.
    """
    path = Path(path)
    with open_file(path, what="ensemble file") as dataset:
        plan = plan_of(dataset, path, layout=layout)
        if plan.members is None:
            kind = getattr(dataset, "cycler_kind", "single states")
            raise DataError(f"{path} holds no members ({kind}); expected a dimension realization")
        shape = (len(plan.members), len(plan.valid_times), *plan.layout.state_shape)
        values: np.ndarray | None = None
        for position in range(len(plan.members)):
            states = _as_float(plan.read(dataset, member=position))
            values = np.empty(shape, states.dtype) if values is None else values
            values[position] = states
    if values is None:
        raise DataError(f"{path} holds no members: dimension realization has size 0")
    return Ensemble(torch.from_numpy(values), plan.valid_times, plan.members, plan.layout)


def read_field(
    path: Path, *, layout: Layout | None = None
) -> tuple[Float[Tensor, "time channel *space"], np.ndarray, Layout]:
    """Read single states with their valid times and layout; errors as in `read_ensemble`."""
    nature = open_nature(path, layout=layout)
    return nature.states(nature.valid_times), nature.valid_times, nature.layout


@dataclass(frozen=True)
class NatureFile:
    """A file of single states (nature run, truth, increment), read frame by frame; safe to send to a worker."""

    plan: FilePlan = field(repr=False)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.plan.path

    @property
    def layout(self) -> Layout:
        """Layout of the states."""
        return self.plan.layout

    @property
    def valid_times(self) -> np.ndarray:
        """Valid times of all frames, datetime64[s]."""
        return self.plan.valid_times

    def states(self, times: np.ndarray) -> Float[Tensor, "time channel *space"]:
        """States at the given times, NaN in cells that were never seen; only these frames are read.

        Raises MissingInput naming the first time that the file does not hold.
        """
        positions = require_frames(self.path, self.valid_times, np.atleast_1d(times), what="nature file")
        with open_file(self.path, what="nature file") as dataset:
            is_own = "cycler_layout" in dataset.ncattrs()
            if not is_own:
                dataset.set_auto_maskandscale(True)
            frames = [_as_float(self.plan.read(dataset, times=[int(k)], gaps=is_own)) for k in positions]
        if not frames:
            return torch.zeros((0, *self.layout.state_shape))
        return torch.from_numpy(np.concatenate(frames))


def open_nature(path: Path, *, layout: Layout | None = None) -> NatureFile:
    """Open a file of single states; reads coordinates only.

    Raises MissingInput when it is absent, DataError when it is damaged or holds an ensemble.
    """
    path = Path(path)
    with open_file(path, what="nature file") as dataset:
        plan = plan_of(dataset, path, layout=layout)
    if plan.members is not None:
        raise DataError(f"{path} holds an ensemble, expected single states without a dimension realization")
    return NatureFile(plan)


class _FieldWriter:
    """Fills the variables of a file record by record and keeps their range."""

    def __init__(self, dataset: netCDF4.Dataset, layout: Layout, leading: tuple[str, ...], kind: str) -> None:
        self.dataset = dataset
        self.layout = layout
        self.leading = leading
        self.kind = kind
        self.low = np.full(len(layout.channels), np.inf)
        self.high = np.full(len(layout.channels), -np.inf)

    def put(self, position: int, values: np.ndarray) -> None:
        """Write `(time, channel, *space)` of a member or `(channel, *space)` of a frame."""
        channel_axis = len(self.leading) - 1
        for index, variable in enumerate(self.layout.variables):
            if variable.name not in self.dataset.variables:
                gaps = isinstance(values, np.ma.MaskedArray)
                stored = define_field(
                    self.dataset, variable.name, self.leading, dtype=values.dtype, layout=self.layout, has_gaps=gaps
                )
                stored.setncatts(conventions.variable_attributes(variable, self.kind))
            part = np.take(values, index, axis=channel_axis)
            self.dataset.variables[variable.name][position] = part
            seen = np.ma.compressed(part) if isinstance(part, np.ma.MaskedArray) else part
            if seen.size:
                self.low[index] = min(self.low[index], seen.min())
                self.high[index] = max(self.high[index], seen.max())

    def finish(self) -> None:
        """Write what is known only at the end."""
        for index, name in enumerate(self.layout.channels):
            if name in self.dataset.variables and self.low[index] <= self.high[index]:
                stored = self.dataset.variables[name]
                stored.actual_range = np.asarray([self.low[index], self.high[index]], dtype=stored.dtype)


def _define(dataset: netCDF4.Dataset, layout: Layout, valid_times: np.ndarray, facts: FileFacts) -> None:
    dataset.setncatts(conventions.global_attributes(facts, layout, valid_times))
    define_times(dataset, valid_times, facts.reference_time)
    define_grid(dataset, layout)


def _write_moments(dataset: netCDF4.Dataset, layout: Layout, kind: str, moments: Moments) -> None:
    parts = [("mean", moments.mean, conventions.mean_attributes)]
    if moments.count > 1:
        parts.append(("spread", moments.spread(), conventions.spread_attributes))
    for suffix, values, attributes in parts:
        for index, variable in enumerate(layout.variables):
            dtype = dataset.variables[variable.name].dtype
            stored = define_field(dataset, f"{variable.name}_{suffix}", ("time",), dtype=dtype, layout=layout)
            stored.setncatts(attributes(variable, kind))
            stored[...] = values[:, index].astype(dtype)


def _counted(members: Iterable[tuple[int, Tensor]], n_members: int, path: Path) -> Iterator[tuple[int, Tensor]]:
    count = 0
    for count, member in enumerate(members, start=1):
        if count > n_members:
            raise DataError(f"{path}: more members arrived than the {n_members} announced")
        yield member
    if count != n_members or count == 0:
        raise DataError(f"{path}: {count} members arrived, expected {n_members} and at least 1")


def _checked(states: Tensor, expected: tuple[int, ...], layout: Layout, *, what: str) -> np.ndarray:
    values = states.detach().cpu().numpy()
    if values.shape != expected:
        raise LayoutMismatch(f"{what}: states have shape {values.shape}, expected {expected} (time, channel, *space)")
    if not np.isfinite(values).all():
        bad = [(name, ~np.isfinite(values[:, index])) for index, name in enumerate(layout.channels)]
        counts = ", ".join(f"{name} in {int(mask.sum())} of {mask.size} cells" for name, mask in bad if mask.any())
        raise DataError(f"{what}: not finite: {counts}; nothing was written; look at what made this state")
    return values


def _checked_where_seen(states: Tensor, expected: tuple[int, ...], layout: Layout, *, what: str) -> np.ma.MaskedArray:
    unseen = states.isnan()
    values = _checked(torch.where(unseen, torch.zeros_like(states), states), expected, layout, what=what)
    return np.ma.MaskedArray(values, unseen.cpu().numpy())


def _as_float(values: np.ndarray) -> np.ndarray:
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
