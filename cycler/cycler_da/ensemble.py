"""Ensemble: the one container of states.

`values` has shape `(member, time, channel, *space)` in physical units. A filter holds a window of one
time; a model that reads history and a smoother hold more. Nothing here is changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.errors import LayoutMismatch
from cycler_da.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ensemble:
    """States of several members at one or more valid times.

    Raises LayoutMismatch when the shape of `values` does not follow members, times and layout, or when the
    valid times do not increase. Two ensembles are equal only when they are the same object.
    """

    values: Float[Tensor, "member time channel *space"]
    valid_times: np.ndarray  # datetime64[s], increasing
    members: tuple[int, ...]
    layout: Layout

    def __post_init__(self) -> None:
        expected = (len(self.members), len(self.valid_times), *self.layout.state_shape)
        if tuple(self.values.shape) != expected:
            raise LayoutMismatch(
                f"ensemble of {self.layout.system}: values have shape {tuple(self.values.shape)}, "
                f"expected {expected} (member, time, channel, *space)"
            )
        if not (np.diff(self.valid_times) > np.timedelta64(0)).all():
            raise LayoutMismatch(
                f"ensemble of {self.layout.system}: valid times must increase, got {self.valid_times.tolist()}"
            )

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(self.members)

    @property
    def valid_time(self) -> np.datetime64:
        """The last valid time."""
        return self.valid_times[-1]

    @property
    def latest(self) -> Float[Tensor, "member channel *space"]:
        """States at the last valid time."""
        return self.values[:, -1]

    def mean(self) -> Float[Tensor, "time channel *space"]:
        """Ensemble mean, accumulated in float64."""
        return self.values.to(torch.float64).mean(dim=0)

    def spread(self) -> Float[Tensor, "time channel *space"]:
        """Standard deviation over members with denominator n - 1, in float64.

        Raises LayoutMismatch for fewer than two members: the spread of one is undefined, not zero.
        """
        if self.n_members < 2:
            raise LayoutMismatch(f"spread of {self.layout.system}: got {self.n_members} members, expected 2 or more")
        return self.values.to(torch.float64).std(dim=0, correction=1)

    def at_latest(self) -> Ensemble:
        """The ensemble at its last valid time alone."""
        return replace(self, values=self.values[:, -1:], valid_times=self.valid_times[-1:])

    def with_values(self, values: Float[Tensor, "member time channel *space"]) -> Ensemble:
        """The same members, times and layout with other values."""
        return replace(self, values=values)

    def before_latest(self) -> Ensemble | None:
        """The frames before the last valid time, None where there are none."""
        if len(self.valid_times) == 1:
            return None
        return replace(self, values=self.values[:, :-1], valid_times=self.valid_times[:-1])

    def select(self, positions: list[int] | slice) -> Ensemble:
        """Members at the given positions (not ids)."""
        members = np.asarray(self.members)[positions]
        return replace(self, values=self.values[positions], members=tuple(int(m) for m in members))


def join_members(parts: list[Ensemble]) -> Ensemble:
    """Join batches of members, in the order given; layouts and times must agree."""
    first = parts[0]
    for part in parts[1:]:
        first.layout.require_same(part.layout, what="a batch of members")
        if not np.array_equal(first.valid_times, part.valid_times):
            raise LayoutMismatch("batches of members have different valid times")
    return replace(
        first,
        values=torch.cat([part.values for part in parts], dim=0),
        members=tuple(member for part in parts for member in part.members),
    )


def append_times(earlier: Ensemble, later: Ensemble) -> Ensemble:
    """Put `later` after `earlier` along time (history frames); members must be the same."""
    earlier.layout.require_same(later.layout, what="later frames")
    if earlier.members != later.members:
        raise LayoutMismatch("frames to be joined in time hold different members")
    return replace(
        earlier,
        values=torch.cat([earlier.values, later.values], dim=1),
        valid_times=np.concatenate([earlier.valid_times, later.valid_times]),
    )
