"""Truths, observations and cycles of the benchmarks `kolmogorov_masf` and `kolmogorov_masf_128`.

A truth and members start as independent states of the climate. Both velocities are observed on a regular grid of every
n-th point, as they are or through sigmoid(2 x), every GAP steps from the first on; in between the members are carried
by the forecast model of the method. Every step is scored, analyses and forecasts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.bench.independent import pooled_spread_skill
from cycler_da.ensemble import Ensemble
from cycler_da.forecast.base import ForecastModel
from cycler_da.generative.ensemble_evaluation import ensemble_scores
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import ObsBatch, ObservationOperator, Observations
from cycler_da.obs.networks import StrideSpec
from cycler_da.obs.nonlinear import SigmoidSpec
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.systems.kolmogorov import KolmogorovSpec

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SYSTEM, ERROR, MEMBERS, GAP = KolmogorovSpec(), 0.1, 10, 10
LAYOUT, START = SYSTEM.layout(), np.datetime64("2020-01-01T00:00:00", "s")


@dataclass(frozen=True)
class Setting:
    """What is observed."""

    stride: int  # grid points between observations, each way
    is_curved: bool = False  # through sigmoid(2 x)
    size: int = SYSTEM.size  # grid points each way

    @property
    def share(self) -> float:
        """Part of the points that is observed, per cent."""
        return 100.0 * (-(-self.size // self.stride) / self.size) ** 2

    @property
    def label(self) -> str:
        """Name in the table."""
        return f"every {_ordinal(self.stride)} point ({self.share:.2f} %){', sigmoid(2 x)' if self.is_curved else ''}"

    def operator(self, layout: Layout) -> ObservationOperator:
        """H of every observation."""
        built: ObservationOperator = (SigmoidSpec(scale=0.5) if self.is_curved else CellSpec()).build(layout)
        return built


@dataclass(frozen=True)
class Case:
    """A truth at every step, and members that know nothing of it."""

    truth: Float[Tensor, "step 2 y x"]
    members: Float[Tensor, "member 2 y x"]
    seed: int
    system: KolmogorovSpec = SYSTEM

    @property
    def layout(self) -> Layout:
        """Layout of the states."""
        return self.system.layout()


@dataclass(frozen=True)
class Run:
    """Scores of all steps, all analyses, and processor seconds of one of all members."""

    scores: list[Mapping[str, float]]
    analyses: list[Float[Tensor, "member 2 y x"]]
    seconds: float

    def mean(self, name: str) -> float:
        """Mean of a score over all steps."""
        return float(np.mean([one[name] for one in self.scores]))

    def pooled(self) -> tuple[float, float]:
        """Root mean square error of the mean over all steps, and the spread/skill of all steps together."""
        rmse = [one["rmse"] for one in self.scores]
        spread_skill = pooled_spread_skill(rmse, [one["spread_skill"] for one in self.scores])
        return float(np.sqrt(np.mean(np.square(rmse)))), spread_skill


def make_case(seed: int, n_analyses: int, system: KolmogorovSpec = SYSTEM) -> Case:
    """A truth from the climate, with members from other noise."""
    truth = [system.spun_up(Noise(seed, 1), members=[0])]
    dynamics = system.build()
    for _ in range((n_analyses - 1) * GAP):
        truth.append(dynamics.step(truth[-1]))
    return Case(torch.cat(truth), system.spun_up(Noise(seed, 2), members=range(MEMBERS)), seed, system)


@lru_cache(maxsize=8)
def known_case(seed: int, n_analyses: int, system: KolmogorovSpec = SYSTEM) -> Case:
    """The same, made once in a process."""
    return make_case(seed, n_analyses, system)


def observe(case: Case, step: int, setting: Setting) -> Observations:
    """Both velocities at every n-th point each way, the same errors for all methods."""
    layout = case.layout
    when = START + step * layout.step
    sites = StrideSpec(stride=setting.stride).build(layout).sites(when, noise=Noise(0), stream="winds")
    operator = setting.operator(layout)
    exact = operator(case.truth[step][None].to(torch.float64), sites.where, layout)[0]
    z = Noise(case.seed, 100 + step).shared_normal(f"error.{setting.stride}", tuple(exact.shape), dtype=torch.float64)
    batch = ObsBatch(
        stream="winds",
        operator=operator,
        where=sites.where,
        values=exact + ERROR * z,
        error=torch.full_like(exact, ERROR),
        times=np.full(len(exact), when),
        ids=np.array([f"winds/{i}" for i in range(len(exact))]),
        flags=torch.zeros(len(exact), dtype=torch.int32),
    )
    return Observations((batch,), layout)


def cycle(case: Case, spec: Any, model: ForecastModel, setting: Setting, *, first: Any = None) -> Run:
    """Analyse every GAP steps, score every step; `first` makes the first analysis of a scheme that needs two times."""
    context, carry = SchemeContext(case.layout, model), dict[str, torch.Tensor]()
    scheme = spec.build(context)
    opening = scheme if first is None else first.build(context)
    ensemble, seconds = ensemble_at(case.members[:, None], 0, case.layout), list[float]()
    scores: list[Mapping[str, float]] = []
    analyses: list[Tensor] = []
    for done in range(0, len(case.truth), GAP):
        previous = ensemble
        if done:
            keyed = Noise(case.seed, 2000 + done)
            times = START + case.layout.step * np.arange(done - GAP + 1, done + 1)
            ahead = model.forecast(ensemble, times, noise=keyed)
            scores += [_scored(ahead.values[:, k], case, done - GAP + 1 + k) for k in range(GAP - 1)]
            previous = ensemble_at(ahead.values[:, -2:-1], done - 1, case.layout)
            ensemble = ensemble_at(ahead.values[:, -1:], done, case.layout)
        seen, began = observe(case, done, setting), time.process_time()
        used = scheme if done else opening
        analysis = used.analyse(
            Prior(ensemble, previous, model), seen, noise=Noise(case.seed, 1000 + done), carry=carry
        )
        seconds.append(time.process_time() - began)
        ensemble, carry = ensemble_at(analysis.ensemble.values[:, -1:], done, case.layout), dict(analysis.carry)
        scores.append(_scored(ensemble.latest, case, done))
        analyses.append(ensemble.latest)
    return Run(scores, analyses, float(np.mean(seconds[1:])))


def _scored(states: Tensor, case: Case, step: int) -> Mapping[str, float]:
    return ensemble_scores(states[:, None], case.truth[step][None])


def ensemble_at(values: Float[Tensor, "member time 2 y x"], step: int, layout: Layout) -> Ensemble:
    """Members at one step."""
    return Ensemble(values, np.array([START + step * layout.step]), tuple(range(MEMBERS)), layout)


def _ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th; 11th to 13th."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
