"""What the draws of a method of the benchmark `guidance_cost` cost, how good they were, and their rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from cycler_da.bench.independent import independent_row, spread_skill_row
from cycler_da.bench.memory import added_at_peak
from cycler_da.bench.passes import Passes
from cycler_da.bench.turbulence.guidance_cost_case import SCALING
from cycler_da.generative.ensemble_evaluation import ensemble_scores
from cycler_da.tables.report import Row


@dataclass
class Draws:
    """What the draws of a method cost and how good they were, state by state."""

    forward: float = 0.0  # passes of a network, for each member
    backward: float = 0.0
    seconds: list[float] = field(default_factory=list)  # for each member
    megabytes: list[float] = field(default_factory=list)
    scores: list[Mapping[str, float]] = field(default_factory=list)

    def add(self, draw: Callable[[], torch.Tensor], truth: torch.Tensor, passes: Passes) -> None:
        """Draw the members of a state, `(member, channel, y, x)` in physical units, and note what it took."""
        states: list[torch.Tensor] = []

        def work() -> None:
            began = time.perf_counter()
            states.append(draw())
            self.seconds.append((time.perf_counter() - began) / len(states[0]))

        passes.reset()
        megabytes = added_at_peak(work)
        n_members = len(states[0])
        self.megabytes.append(megabytes / n_members)
        shared = n_members if passes.of_members else 1
        self.forward, self.backward = passes.forward / shared, passes.backward / shared
        scaled = SCALING.to_scaled(states[0])
        self.scores.append(ensemble_scores(scaled[:, None], SCALING.to_scaled(truth)[None]))

    @property
    def crps(self) -> float:
        """Mean CRPS; infinite where it is not a number."""
        value = float(np.mean([one["crps"] for one in self.scores]))
        return value if np.isfinite(value) else np.inf


def rows_of(case: str, method: str, draws: Draws, dearest: Draws) -> Iterator[Row]:
    """Cost and scores; CRPS also minus that of the dearest FlowDAS of these cases, state by state."""
    yield Row(case, method, "forward", draws.forward)
    yield Row(case, method, "backward", draws.backward)
    yield Row(case, method, "seconds", float(np.median(draws.seconds)))
    yield Row(case, method, "MB", float(np.median(draws.megabytes)))
    found = {key: [one[key] for one in draws.scores] for key in ("rmse", "crps", "spread_skill")}
    yield independent_row(case, method, "RMSE", found["rmse"])
    yield independent_row(case, method, "fair CRPS", found["crps"])
    yield spread_skill_row(case, method, "spread/skill", found["rmse"], found["spread_skill"])
    if draws is not dearest:
        pairs = zip(draws.scores, dearest.scores, strict=True)
        yield independent_row(case, method, "CRPS minus FlowDAS", [a["crps"] - b["crps"] for a, b in pairs])
