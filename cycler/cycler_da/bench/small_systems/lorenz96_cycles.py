"""Cycles of many truths of Lorenz-96 side by side, for benchmark `lorenz96_filters`.

A trial is lost when a member is far from the attractor (|X| > 100) or not finite: its ring starts afresh so that the
others may go on, and the trial has no scores. Inflation may differ from ring to ring where a scheme can carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.bench.small_systems.conditioned_rings import rings_of
from cycler_da.bench.small_systems.lorenz96_cases import FROZEN, WEIGHTS, Candidate, Case, Numbers
from cycler_da.bench.small_systems.rings import START, RingModel, RingTwin, make_ring_twin
from cycler_da.ensemble import Ensemble
from cycler_da.errors import WeightsMismatch
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.weights import load_transition
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.ensemble.adaptive_inflation import FACTOR
from cycler_da.schemes.ensemble.adaptive_inflation import STD as FACTOR_STD
from cycler_da.verification.scores import score
from cycler_da.verification.sums import ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

ERROR, START_STD = 1.0, 1.0
SPIN_UP_TRUTH = 400  # time steps, from a state drawn about the climatological mean
MEAN, STD = 2.34, 3.63
FAR = 100.0  # the attractor reaches 15


@dataclass(frozen=True)
class Size:
    """How much is run: trials, cycles before the scored ones, and scored ones."""

    trials: int
    before: int
    scored: int


@dataclass(frozen=True)
class Outcome:
    """One method on one case: scores of every trial, which trials were lost, and what it cost."""

    sums: list[ScoreSums]
    lost: list[bool]
    passes: float

    def scores(self, metric: str) -> np.ndarray:
        """A score of every trial; NaN for lost ones."""
        return self.of_trials(lambda sums: score(sums, variable="state", metric=metric))

    def of_trials(self, read: Callable[[ScoreSums], float]) -> np.ndarray:
        """A number of every trial; NaN for lost ones."""
        return np.array([np.nan if lost else read(sums) for sums, lost in zip(self.sums, self.lost, strict=True)])


def run(
    case: Case,
    candidate: Candidate,
    transition: DenseTransition | ConditionedTransition,
    size: Size,
    *,
    seed: int,
    numbers: Sequence[Numbers],
) -> Outcome:
    """Cycle one method on all trials: on each, in turn, with the numbers given.

    Numbers other than the inflation are those of the first; inflation too where it is one of the candidate's axes.
    """
    twin = twin_of(case, size, seed).select([i % size.trials for i in range(len(numbers))])
    parts = [range(len(numbers))] if candidate.is_local else [range(i, i + 1) for i in range(len(numbers))]
    outcomes = [
        cycle_rings(twin.select(part), case, candidate, transition, size, [numbers[i] for i in part]) for part in parts
    ]
    sums = [sums for outcome in outcomes for sums in outcome.sums]
    return Outcome(sums, [lost for outcome in outcomes for lost in outcome.lost], outcomes[0].passes)


def cycle_rings(
    twin: RingTwin,
    case: Case,
    candidate: Candidate,
    transition: DenseTransition | ConditionedTransition,
    size: Size,
    numbers: Sequence[Numbers],
) -> Outcome:
    """Cycle one method on the rings of a twin."""
    layout, counted = twin.layout, rings_of(transition)
    model = InterpolantForecast(layout, counted, (0.0,), "rings")
    scheme = candidate.make(numbers[0]).build(SchemeContext(layout, model))
    carry: Mapping[str, Tensor] = {} if candidate.adapts else _carried(numbers, layout)
    ids = tuple(range(case.n_members))
    sums: list[list[ScoreSums]] = [[] for _ in numbers]
    first = states = twin.first_members(case.n_members, START_STD)
    lost = torch.zeros(len(numbers), dtype=torch.bool)
    n_cycles = size.before + size.scored
    for cycle in range(1, n_cycles + 1):
        noise, time = Noise(twin.seed, cycle), START + cycle * layout.step
        if candidate.learned:
            start = Ensemble(states[:, None], np.array([time - layout.step]), ids, layout)
            ahead = model.forecast(start, np.array([time]), noise=noise).latest
        else:
            ahead = twin.model.advance(states, noise, stream="forecast")
        gone = diverged(ahead)
        lost |= gone
        before, background = (
            Ensemble(started_afresh(x, first, gone)[:, None], np.array([when]), ids, layout)
            for x, when in ((states, time - layout.step), (ahead, time))
        )
        prior = Prior(background, before, model)
        analysis = scheme.analyse(prior, twin.observations(cycle), noise=noise, carry=carry)
        states, carry = analysis.ensemble.latest, analysis.carry
        if cycle > size.before:
            for ring, of_ring in enumerate(sums):
                of_ring.append(_sums(states[:, 0, ring], twin.truth[cycle, ring]))
    passes = counted.n_passes / (n_cycles * case.n_members)
    return Outcome([reduce(add, of_ring) for of_ring in sums], lost.tolist(), passes)


def twin_of(case: Case, size: Size, seed: int) -> RingTwin:
    """Truths and observations of a case; the same for all methods."""
    dynamics = case.system.build()
    z = Noise(seed).shared_normal("first", (size.trials, case.system.size), dtype=torch.float64)
    first = RingModel(dynamics, SPIN_UP_TRUTH).advance((MEAN + STD * z)[None, None], Noise(seed), stream="spin up")
    n_cycles, model = size.before + size.scored, RingModel(dynamics, case.n_steps)
    return make_ring_twin(model, first[0, 0], n_cycles=n_cycles, stride=case.stride, error=ERROR, seed=seed)


def diverged(states: Float[Tensor, "member 1 ring x"]) -> Bool[Tensor, "ring"]:
    """Rings of which a member is far from the attractor, or not finite."""
    return ~(states.abs() <= FAR).all(dim=3).all(dim=0)[0]


def started_afresh(states: Tensor, first: Tensor, gone: Bool[Tensor, "ring"]) -> Float[Tensor, "member 1 ring x"]:
    """The states, with those of the first cycle in rings that are gone."""
    return torch.where(gone[:, None], first, states)


def load_ring_transition(name: str) -> DenseTransition:
    """Released weights of one ring."""
    transition = load_transition(WEIGHTS / name)
    if not isinstance(transition, DenseTransition):
        raise WeightsMismatch(f"weights {WEIGHTS / name}: expected a dense transition, got {type(transition).__name__}")
    return transition


def _carried(numbers: Sequence[Numbers], layout: Layout) -> dict[str, Tensor]:
    """One factor for each ring, for schemes that carry them."""
    column = torch.tensor([one.inflation or 1.0 for one in numbers], dtype=torch.float64)
    factor = column[None, :, None].expand(1, *layout.grid.shape).clone()
    return {FACTOR: factor, FACTOR_STD: torch.full_like(factor, FROZEN.std)}


def _sums(members: Tensor, truth: Tensor) -> ScoreSums:
    return ensemble_sums(members[:, None].numpy(), truth[None].numpy(), names=["state"])
