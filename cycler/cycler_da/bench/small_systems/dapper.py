"""Published errors of classical filters on Lorenz-63 and Lorenz-96, ours beside them.

Every method of a case sees the same truths and observations. A score is the mean over cycles, after a burn-in, of
the spatial RMS error of the analysis mean; the interval is over truths (seeds), Student's t. Particles are averaged
with their weights, before members are drawn again. Settings and published errors: `dapper_cases`.

The members of all methods and seeds of a case are forecast in one batch, for they share the dynamics; the analyses
are those of the schemes, one by one. Each case has a process. About 10 minutes of processor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.bench.independent import independent_row
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.dapper_cases import CASES, Case, Method
from cycler_da.ensemble import Ensemble
from cycler_da.generative.covariance import FullCovariance
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import AnalysisScheme, Prior, SchemeContext
from cycler_da.schemes.particle import ParticleFilter, weighted_mean
from cycler_da.systems.runge_kutta import OrdinaryDynamics
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

TIME = np.array(["2020-01-01T00:00:00"], dtype="datetime64[s]")
SEEDS = (1, 2, 3, 4)
METRIC = "rmse.a"
#: The free runs that the climatology is measured from, and the steps kept of each after the burn-in.
CLIMATE_RUNS = (1000, 50)

NOTES = (
    "(published): as listed with DAPPER 1.7, two digits, one run each; runs of 1000 cycles on Lorenz-63 and in the "
    "Spantini case scatter by 5 to 10 %. The interval here is that of the mean over seeds and leaves this out.",
    "Differences of the set-up: the climatology here is that of free runs, there of the truth; the tapers of the "
    "LETKF are those of single points, there those of pairs of points.",
)


@benchmark("dapper", summary="classical filters on Lorenz-63 and Lorenz-96 beside the errors published with DAPPER")
def dapper(quick: bool, progress: Progress) -> BenchResult:
    """Cycle every case and compare."""
    cases = [case.shortened(cycles=100) for case in CASES] if quick else list(CASES)
    seeds = SEEDS[:2] if quick else SEEDS
    rows: list[Row] = []
    context = get_context("spawn")  # a forked process would share torch's threads
    with ProcessPoolExecutor(len(cases), mp_context=context) as pool:
        found = [pool.submit(cycle_case, case, seeds) for case in cases]
        for i_case, (case, scores) in enumerate(zip(cases, found, strict=True)):
            progress(i_case, len(cases), case.name)
            rows.extend(independent_row(case.name, name, METRIC, errors) for name, errors in scores.result().items())
            published = {method.name: method.published for method in case.methods}
            if case.climatology is not None:
                published["climatology"] = case.climatology
            rows.extend(Row(case.name, f"{name} (published)", METRIC, value) for name, value in published.items())
    order = {(case.name, method): i for i, (case, method) in enumerate(_names(cases))}
    rows.sort(key=lambda row: order[row.case, row.method.removesuffix(" (published)")])
    config = {"cycles": {case.name: case.cycles for case in cases}}
    notes = (*NOTES, *(["Quick: too few cycles to compare with what is published."] if quick else []))
    return BenchResult("dapper", config, seeds, tuple(rows), notes)


@dataclass
class Run:
    """One method on one truth: its members, what it carries, and its errors after the burn-in."""

    method: Method
    seed: int
    scheme: AnalysisScheme
    members: Float[Tensor, "member channel x"]
    carry: Mapping[str, Tensor] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)

    def analyse(self, observations: Observations, noise: Noise) -> Float[Tensor, "channel x"]:
        """Replace the members by their analysis, and return its mean."""
        weighted = None
        if isinstance(self.scheme, ParticleFilter):
            weighted = weighted_mean(self.members, observations, carry=self.carry)
        background = Ensemble(self.members[:, None], TIME, tuple(range(len(self.members))), observations.layout)
        analysis = self.scheme.analyse(Prior(background), observations, noise=noise, carry=self.carry)
        self.members, self.carry = analysis.ensemble.latest, analysis.carry
        return self.members.mean(dim=0) if weighted is None else weighted


@dataclass(frozen=True)
class MeasuredClimatology:
    """Mean of each variable and covariance, of a free run or as given."""

    mean: Float[Tensor, "channel"]
    covariance: StateCovariance


@dataclass(frozen=True)
class StateCovariance:
    """A dense covariance that schemes can apply and draw from."""

    dense: FullCovariance

    def apply(self, x: Tensor) -> Tensor:
        """B x."""
        return self.dense.apply(x)

    def color(self, z: Tensor) -> Tensor:
        """A draw from N(0, B)."""
        return self.dense.color(z)

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """That of a state."""
        return tuple(state_shape)


@dataclass(frozen=True)
class ClimateModel:
    """What a scheme reads of a forecast model: its climatology."""

    layout: Layout
    climatology: MeasuredClimatology


def cycle_case(case: Case, seeds: tuple[int, ...]) -> dict[str, list[float]]:
    """Cycle all methods of a case on all seeds: the mean error of each seed, for each method.

    "climatology" is the error of the climatological mean.
    """
    dynamics, layout = case.system.build(), case.system.layout()
    climate = measure_climatology(case, dynamics)
    state_mean = climate.mean.reshape(-1, *[1] * len(layout.grid.axes))
    truths = torch.cat([draw_start(case, seed, "truth", range(1)) for seed in seeds])
    for _ in range(case.spin_up):
        truths = dynamics.step(truths)
    known = dict(zip(seeds, truths, strict=True))
    runs = [_start(case, method, seed, climate, known[seed]) for method in case.methods for seed in seeds]
    network, of_climate = make_network(case, layout), []
    for i_cycle in range(case.burn_in + case.cycles):
        truths = _forecast(dynamics, truths, runs)
        for truth, seed in zip(truths, seeds, strict=True):
            noise = Noise(seed, i_cycle)
            observations = _observe(network, truth, noise)
            for run in (run for run in runs if run.seed == seed):
                analysed = run.analyse(observations, noise)
                if i_cycle >= case.burn_in:
                    run.errors.append(_rms(analysed - truth))
        if i_cycle >= case.burn_in:
            of_climate.append([_rms(truth - state_mean) for truth in truths])
    scores = {"climatology": [mean(column) for column in zip(*of_climate, strict=True)]}
    for run in runs:
        scores.setdefault(run.method.name, []).append(mean(run.errors))
    return scores


def measure_climatology(case: Case, dynamics: OrdinaryDynamics) -> MeasuredClimatology:
    """Mean and covariance of free runs."""
    n_runs, n_kept = CLIMATE_RUNS
    x, kept = draw_start(case, 0, "climate", range(n_runs)), []
    for i_step in range(case.spin_up + n_kept):
        x = dynamics.step(x)
        kept.extend([x] if i_step >= case.spin_up else [])
    states = torch.stack(kept).flatten(0, 1)
    covariance = torch.cov(states.flatten(1).T)
    return MeasuredClimatology(states.mean(dim=(0, 2)), StateCovariance(FullCovariance(covariance)))


def draw_start(
    case: Case, seed: int, stream: str, members: range, *, around: Float[Tensor, "channel x"] | None = None
) -> Float[Tensor, "member channel x"]:
    """Draw states with the variance of the start around a state, that of the case unless given."""
    state = case.start_state() if around is None else around
    z = Noise(seed).normal(f"start.{stream}", state.shape, members=members, dtype=torch.float64)
    return state + case.start_variance**0.5 * z


def make_network(case: Case, layout: Layout) -> Observations:
    """Observations of every n-th value; their values are to be filled in."""
    flat = torch.arange(0, case.start_state().numel(), case.stride)
    n_x, n_obs = layout.grid.shape[0], len(flat)
    batch = ObsBatch(
        stream="dapper",
        operator=CellSpec().build(layout),
        where=Locations((flat % n_x).to(torch.float64)[:, None], flat // n_x),
        values=torch.zeros(n_obs, dtype=torch.float64),
        error=torch.full((n_obs,), case.error_variance**0.5, dtype=torch.float64),
        times=np.repeat(TIME, n_obs),
        ids=np.arange(n_obs).astype(str),
        flags=torch.zeros(n_obs, dtype=torch.int32),
    )
    return Observations((batch,), layout)


def _start(case: Case, method: Method, seed: int, climate: MeasuredClimatology, truth: Tensor) -> Run:
    layout = case.system.layout()
    if method.covariance == "identity":
        identity = torch.eye(case.start_state().numel(), dtype=torch.float64)
        climate = replace(climate, covariance=StateCovariance(FullCovariance(identity)))
    model: Any = ClimateModel(layout, climate)
    spec: Any = method.spec
    scheme = spec.build(SchemeContext(layout, model))
    return Run(method, seed, scheme, draw_start(case, seed, "members", range(method.members), around=truth))


def _forecast(dynamics: OrdinaryDynamics, truths: Tensor, runs: Sequence[Run]) -> Tensor:
    """Step the truths, which are returned, and all members in one batch."""
    sizes = [len(truths), *(len(run.members) for run in runs)]
    parts = dynamics.step(torch.cat([truths, *(run.members for run in runs)])).split(sizes)
    for run, members in zip(runs, parts[1:], strict=True):
        run.members = members
    return parts[0]


def _observe(network: Observations, truth: Tensor, noise: Noise) -> Observations:
    batch = network.batches[0]
    z = noise.shared_normal("observation", (len(batch),), dtype=torch.float64)
    values = network.hx(truth[None])[0] + batch.error * z
    return replace(network, batches=(replace(batch, values=values),))


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _names(cases: Sequence[Case]) -> list[tuple[Case, str]]:
    return [(case, name) for case in cases for name in ("climatology", *(method.name for method in case.methods))]
