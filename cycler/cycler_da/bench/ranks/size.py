"""How much the benchmark `rank_histograms` runs, and what a system gives it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.verification.sums import ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

OURS = "interpolant filter, learned model"


@dataclass(frozen=True)
class Size:
    """How much is run."""

    trials: int  # truths of the small systems
    cycles: int  # of these, after SPIN_UP; whole blocks of `lorenz63_cycled`, or less than one
    states: int  # known states of driven turbulence
    truths: int  # of turbulence in cycles
    field_cycles: int  # of these; the second half counts
    has_fields: bool = True  # whether fields are run at all: their spin-up takes minutes


FULL = Size(trials=8, cycles=200, states=8, truths=3, field_cycles=30)
QUICK = Size(trials=2, cycles=10, states=0, truths=0, field_cycles=0, has_fields=False)
SPIN_UP = 50


@dataclass(frozen=True)
class Ranked:
    """A case of a system: method -> counts of ranks, `(M + 1)`, of every truth."""

    case: str
    counts: Mapping[str, list[np.ndarray]]


def ranks_of(parts: Iterable[ScoreSums]) -> np.ndarray:
    """Counts of ranks of all variables of one truth, from its score sums."""
    sums = reduce(add, parts)
    return np.sum([np.asarray(found["ranks"]) for found in sums.totals.values.values()], axis=0)


def sums_of_field(members: Float[Tensor, "member channel *space"], truth: Float[Tensor, "channel *space"]) -> ScoreSums:
    """Score sums of one analysis."""
    return ensemble_sums(members.numpy(), truth.numpy())
