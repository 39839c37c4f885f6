"""The bars of two-layer QG: classical schemes with 5 % of the values observed, tuned in good faith, and what they cost.

64 x 64, daily cycles, observation error 0.1 climatological standard deviations, with the true model as forecast model
and with the learned one. The truths have a spin-up of their own each. On the first one the options of a method
(`qg_classical_cases`) are searched, for each forecast model by itself, and those with the smallest analysis RMSE are
taken to the others, which are reported: nothing is chosen on what is reported. B of 3D-Var and EnVar is isotropic, from
the errors of the background members of the LETKF where its search begins, on the tuning truth, for each forecast model.
For methods with a climatology alone (the start), that of the learned model is used in both.

Scores pool both variables in climatological standard deviations, over all cycles after the spin-up, with the jackknife
interval over cycles. Seconds are of the processor, one thread, of one analysis and of one forecast of all members.
About 45 minutes of processor time.
"""

from __future__ import annotations

import time as clock
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.bench.pattern_search import Found, Point, pattern_search
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.qg_classical_cases import CONTENDERS, SCALE, Contender
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.generative.background_error import estimate
from cycler_da.noise import Noise
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.networks import RandomFractionSpec
from cycler_da.obs.points import CellSpec
from cycler_da.registry import Spec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.consistency import score_interval
from cycler_da.verification.scores import score
from cycler_da.verification.sums import POOLED, ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

WEIGHTS = Path("data/weights/two_layer_qg/quadratic_spectral")
START = np.datetime64("2020-01-01T00:00:00", "s")
FRACTION, ERROR = 0.05, 0.1  # of all values; of the climatological standard deviations
START_SPREAD = 0.25  # of the climatology
MODELS = ("true model", "learned model")
METRICS = {"rmse": "RMSE", "fair_crps": "fair CRPS", "spread_skill": "spread/skill"}
WORKERS = 2


@dataclass(frozen=True)
class Size:
    """How much is done."""

    members: int = 24
    tuning_cycles: int = 30
    cycles: int = 40
    spin_up: int = 20
    truths: tuple[int, ...] = (1, 2, 3)  # 0 is the tuning truth
    years: float = 1.5  # spin-up of every truth
    is_tuned: bool = True


FULL, QUICK = Size(), Size(members=8, tuning_cycles=2, cycles=3, spin_up=1, truths=(1,), years=0.1, is_tuned=False)


@dataclass
class Trial:
    """What came of one method on one truth."""

    background: list[ScoreSums] = field(default_factory=list)
    analysis: list[ScoreSums] = field(default_factory=list)
    errors: list[Tensor] = field(default_factory=list)  # backgrounds - truth
    seconds: dict[str, float] = field(default_factory=dict)  # of one analysis, of one forecast
    reason: str = ""

    @property
    def rmse(self) -> float:
        """Analysis RMSE over the cycles, infinite when the method failed."""
        return float("inf") if self.reason else score(sum_of(self.analysis), POOLED, "rmse")


@dataclass(frozen=True)
class Judged:
    """What a search found on the tuning truth, and what came of it on the others."""

    found: Found
    trials: list[Trial]

    def words(self, one: Contender) -> str:
        """The options, and what is to be known of their search."""
        if not self.found.n_scored:
            return one.label(self.found.point)
        return f"{one.label(self.found.point)} (best of {self.found.n_scored}{self.found.ends})"


@benchmark(
    "qg_classical", summary="classical schemes on QG 64x64, 5 % observed, true and learned model, with their cost"
)
def qg_classical(quick: bool, progress: Progress) -> BenchResult:
    """Tune every method on one truth and cycle it on others."""
    size, rows, chosen = QUICK if quick else FULL, list[Row](), dict[str, str]()
    truths = make_truths(size)
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        jobs = [(model, one) for model in MODELS for one in CONTENDERS if model == MODELS[1] or not one.needs_learned]
        shared = {model: pool.submit(estimate_b, model, truths, size) for model in MODELS}
        futures = [pool.submit(judge, model, one, truths, shared[model].result(), size) for model, one in jobs]
        for done, ((model, one), future) in enumerate(zip(jobs, futures, strict=True)):
            progress(done, len(jobs), f"{model}: {one.name}")
            judged = future.result()
            chosen[f"{model}, {one.name}"] = judged.words(one)
            rows += rows_of(model, one.name, judged.trials, size)
    config = {"members": size.members, "cycles": size.cycles, "spin_up": size.spin_up, "chosen": chosen}
    tuned = (
        f"Options were searched over {size.tuning_cycles} cycles of another truth, the first half of them not scored; "
        "`chosen` says which were the best, of how many."
    )
    notes = (
        tuned if size.is_tuned else "Nothing was tuned: options are those where a search would begin.",
        "3D-Var and the EnSF do not use the spread of the forecast; nudging has no spread of its own to report well.",
    )
    return BenchResult("qg_classical", config, size.truths, tuple(rows), notes)


def judge(model: str, one: Contender, truths: Float[Tensor, "truth time channel y x"], b: Any, size: Size) -> Judged:
    """Search a method's options on the first truth, then cycle it on the others."""

    def rmse(point: Point) -> float:
        return cycle(model, one.spec(point), truths[0], 0, b, size, cycles=size.tuning_cycles).rmse

    is_tuned = bool(one.axes) and size.is_tuned
    found = pattern_search(one.axes, one.start, rmse) if is_tuned else Found(one.start, float("nan"), 0, ())
    spec = one.spec(found.point)
    return Judged(found, [cycle(model, spec, truths[i], i, b, size, cycles=size.cycles) for i in size.truths])


def cycle(
    model_name: str,
    spec: Spec,
    truth: Float[Tensor, "time channel y x"],
    i_truth: int,
    b: Any,
    size: Size,
    *,
    cycles: int,
) -> Trial:
    """Cycle one scheme on one truth."""
    torch.set_num_threads(1)
    layout, trial = TwoLayerQGSpec().layout(), Trial()
    model, learned = forecast_model(model_name), forecast_model(MODELS[1])
    with_climate: Any = model if model is learned else _WithClimate(model, learned)
    context = SchemeContext(layout, with_climate, lambda *_: (b, ""))
    scheme = spec.build(context)  # type: ignore[attr-defined]
    ensemble = _start(truth[0], learned, i_truth, size)
    carry: dict[str, Tensor] = {}
    for k in range(1, cycles + 1):
        now, noise = START + k * layout.step, Noise(100 + i_truth, k)
        begun = clock.process_time()
        background = model.forecast(ensemble, np.array([now]), noise=noise)
        forecast_done = clock.process_time()
        try:
            observations = observe(truth[k], now, noise)
            analysis = scheme.analyse(Prior(background, ensemble, model), observations, noise=noise, carry=carry)
        except AnalysisFailed as error:
            trial.reason = str(error)
            return trial
        costs = {"s / analysis": clock.process_time() - forecast_done, "s / forecast": forecast_done - begun}
        trial.seconds = {name: trial.seconds.get(name, 0.0) + cost / cycles for name, cost in costs.items()}
        trial.errors.append(background.latest.to(torch.float64) - truth[k])
        ensemble, carry = analysis.ensemble, dict(analysis.carry)
        if k > min(size.spin_up, cycles // 2):
            trial.background.append(_sums(background.latest, truth[k]))
            trial.analysis.append(_sums(ensemble.latest, truth[k]))
    return trial


def estimate_b(model: str, truths: Float[Tensor, "truth time channel y x"], size: Size) -> Any:
    """B from the errors of the background members of the first LETKF candidate, later half of the tuning cycles."""
    first = CONTENDERS[0]
    trial = cycle(model, first.spec(first.start), truths[0], 0, None, size, cycles=size.tuning_cycles)
    errors = torch.cat(trial.errors[len(trial.errors) // 2 :])
    layout = TwoLayerQGSpec().layout()
    return estimate(errors, layout, shape="isotropic").covariance(layout)


def make_truths(size: Size) -> Float[Tensor, "truth time channel y x"]:
    """States of all truths at the start and at every cycle."""
    spec = TwoLayerQGSpec()
    n = 1 + max(size.truths)
    solver = spec.build(dtype=torch.float64)
    frames = [spec.spun_up(Noise(640), members=range(n), years=size.years).to(torch.float64)]
    for _ in range(max(size.cycles, size.tuning_cycles)):
        frames.append(solver.step(frames[-1]))
    return torch.stack(frames, dim=1)


@lru_cache(maxsize=2)
def forecast_model(name: str) -> ForecastModel:
    """One of `MODELS`."""
    layout = TwoLayerQGSpec().layout()
    if name == MODELS[0]:
        return NumericalSpec(system={"kind": "two_layer_qg", "size": 64}).build(layout)
    return InterpolantSpec(weights=str(WEIGHTS)).build(layout)


def observe(state: Float[Tensor, "channel y x"], now: np.datetime64, noise: Noise) -> Observations:
    """Observations of a random part of the values, with their errors."""
    layout = TwoLayerQGSpec().layout()
    sites = RandomFractionSpec(fraction=FRACTION).build(layout).sites(now, noise=noise, stream="insitu")
    error = ERROR * torch.tensor(SCALE, dtype=torch.float64)[sites.where.channel]
    operator = CellSpec().build(layout)
    z = noise.shared_normal("observation", (len(sites),), dtype=torch.float64)
    batch = ObsBatch(
        stream="insitu",
        operator=operator,
        where=sites.where,
        values=operator(state[None].to(torch.float64), sites.where, layout)[0] + error * z,
        error=error,
        times=np.repeat(now, len(sites)),
        ids=sites.names,
        flags=torch.zeros(len(sites), dtype=torch.int32),
    )
    return Observations((batch,), layout)


def sum_of(parts: list[ScoreSums]) -> ScoreSums:
    """All parts merged."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def rows_of(model: str, name: str, trials: list[Trial], size: Size) -> list[Row]:
    """Scores of a method over all truths, and its cost; one row with NaN when it failed on any of them."""
    failed = next((trial.reason for trial in trials if trial.reason), "")
    if failed:
        return [Row(model, f"{name} (failed: {failed})", "analysis RMSE", float("nan"))]
    rows = []
    for kind in ("background", "analysis"):
        cycles = [part for trial in trials for part in getattr(trial, kind)]
        for metric, label in METRICS.items():
            found = score_interval(cycles, lambda sums, metric=metric: score(sums, POOLED, metric))  # type: ignore[misc]
            rows.append(Row(model, name, f"{kind} {label}", found.value, found.low, found.high, len(cycles)))
    costs = {key: [trial.seconds[key] for trial in trials] for key in trials[0].seconds}
    return rows + [Row(model, name, key, sum(values) / len(values)) for key, values in costs.items()]


@dataclass(frozen=True)
class _WithClimate:
    """A numerical model with the climatology of the learned one, which schemes may read."""

    model: ForecastModel
    learned: Any

    @property
    def climatology(self) -> Any:
        return self.learned.climatology


def _start(state: Tensor, learned: Any, i_truth: int, size: Size) -> Ensemble:
    """Truth and members are draws around one centre, which is not known."""
    covariance, layout = learned.climatology.covariance, TwoLayerQGSpec().layout()
    shape = covariance.noise_shape(layout.state_shape)
    z = Noise(200 + i_truth).normal("start", shape, members=range(size.members + 1), dtype=torch.float64)
    anomalies = START_SPREAD * covariance.color(z)
    values = (state + anomalies[1:] - anomalies[:1]).to(torch.float32)
    return Ensemble(values[:, None], np.array([START]), tuple(range(size.members)), layout)


def _sums(members: Tensor, truth: Tensor) -> ScoreSums:
    names = TwoLayerQGSpec().layout().channels
    return ensemble_sums(members.double().numpy(), truth.double().numpy(), scale=np.array(SCALE), names=names)
