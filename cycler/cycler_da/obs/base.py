"""Observations as values: where, what, how good, and what became of each.

An `ObsBatch` holds the observations of one stream that share one operator; `Observations` holds all
batches of a window. Flags follow the UFO numbering (0 used, 1 passive, 10 and above rejected), so that
tools that read JEDI feedback read ours. Values are in physical units; errors are standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from cycler_da.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


class QC(IntEnum):
    """Quality-control flags, numbered as in UFO (ufo/filters/QCflags.h)."""

    USED = 0
    PASSIVE = 1  # H(x) computed, observation withheld from the analysis
    MISSING = 10
    PRE_QC = 11
    BOUNDS = 12
    DOMAIN = 13  # outside the grid or the time window
    BLACKLIST = 14
    H_FAILED = 15
    THINNED = 16  # thinned, or a duplicate of an observation that is kept
    FIRST_GUESS = 19
    BUDDY = 22  # at odds with its neighbours: clutter of a radar


@dataclass(frozen=True)
class Locations:
    """Where observations are: positions along the grid axes and the channel they see."""

    position: Float[Tensor, "obs axis"]  # float64, axis units (m), array order (y, x)
    channel: Int[Tensor, "obs"]  # index of the observed variable in the layout

    def select(self, mask: Bool[Tensor, "obs"]) -> Locations:
        """Locations where `mask` is true."""
        return Locations(self.position[mask], self.channel[mask])


@runtime_checkable
class ObservationOperator(Protocol):
    """Map states to observations; calling it is H(x).

    `is_linear` promises that `adjoint` exists and is the exact transpose (dot-product test).
    """

    @property
    def name(self) -> str:
        """Name of the operator, as in a config."""
        ...

    @property
    def is_linear(self) -> bool:
        """True when `adjoint` exists."""
        ...

    def __call__(
        self, x: Float[Tensor, "batch channel *space"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Model equivalents H(x)."""
        ...

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel *space"]:
        """Transpose H^T v; only linear operators have one."""
        ...


@dataclass(frozen=True)
class ObsBatch:
    """Observations of one stream and one operator, each with its flag."""

    stream: str
    operator: ObservationOperator
    where: Locations
    values: Float[Tensor, "obs"]  # float64, physical units; not finite where missing
    error: Float[Tensor, "obs"]  # float64, standard deviation used by the analysis, > 0
    times: np.ndarray  # datetime64[s]
    ids: np.ndarray  # str, stable identity of each observation
    flags: Int[Tensor, "obs"]  # int32, values of QC
    reasons: tuple[str, ...] = ()  # one short text for each observation, "" when used

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def is_used(self) -> Bool[Tensor, "obs"]:
        """True where the analysis may use the observation."""
        return self.flags == int(QC.USED)

    def select(self, mask: Bool[Tensor, "obs"]) -> ObsBatch:
        """The observations where `mask` is true."""
        keep = mask.cpu().numpy()
        reasons = tuple(r for r, k in zip(self.reasons, keep, strict=True) if k) if self.reasons else ()
        return replace(
            self,
            where=self.where.select(mask),
            values=self.values[mask],
            error=self.error[mask],
            times=self.times[keep],
            ids=self.ids[keep],
            flags=self.flags[mask],
            reasons=reasons,
        )

    def hx(self, x: Float[Tensor, "batch channel *space"], layout: Layout) -> Float[Tensor, "batch obs"]:
        """Model equivalents of all observations of the batch."""
        return self.operator(x, self.where, layout)


@dataclass(frozen=True)
class Observations:
    """All observations of one window. Concatenations run over batches in order."""

    batches: tuple[ObsBatch, ...]
    layout: Layout

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.batches)

    def used(self) -> Observations:
        """Only what the analysis may use."""
        return replace(self, batches=tuple(batch.select(batch.is_used) for batch in self.batches))

    @property
    def is_linear(self) -> bool:
        """True when every operator is linear."""
        return all(batch.operator.is_linear for batch in self.batches)

    @property
    def values(self) -> Float[Tensor, "obs"]:
        """Observed values, float64."""
        return self._joined([batch.values for batch in self.batches])

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """Diagonal of R, float64."""
        return self._joined([batch.error for batch in self.batches]) ** 2

    @property
    def positions(self) -> Float[Tensor, "obs axis"]:
        """Positions along the grid axes, float64, axis units."""
        if not self.batches:
            return torch.zeros((0, len(self.layout.grid.axes)), dtype=torch.float64)
        return torch.cat([batch.where.position for batch in self.batches])

    @property
    def channels(self) -> Int[Tensor, "obs"]:
        """Channel index of each observation."""
        if not self.batches:
            return torch.zeros(0, dtype=torch.int64)
        return torch.cat([batch.where.channel for batch in self.batches])

    @property
    def flags(self) -> Int[Tensor, "obs"]:
        """QC flags of all observations."""
        if not self.batches:
            return torch.zeros(0, dtype=torch.int32)
        return torch.cat([batch.flags for batch in self.batches])

    def hx(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch obs"]:
        """Model equivalents of all observations, float64."""
        if not self.batches:
            return torch.zeros((x.shape[0], 0), dtype=torch.float64, device=x.device)
        return torch.cat([batch.hx(x, self.layout).to(torch.float64) for batch in self.batches], dim=1)

    def adjoint(self, v: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch channel *space"]:
        """H^T v over all batches; every operator must be linear."""
        total = torch.zeros((v.shape[0], *self.layout.state_shape), dtype=v.dtype, device=v.device)
        start = 0
        for batch in self.batches:
            part = v[:, start : start + len(batch)]
            start += len(batch)
            if bool(part.any()):  # units of other batches have nothing for this one
                total = total + batch.operator.adjoint(part, batch.where, self.layout)
        return total

    @staticmethod
    def _joined(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
