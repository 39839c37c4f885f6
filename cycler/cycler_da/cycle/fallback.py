"""Fallback: what is done when a forecast or an analysis fails, rung by rung, and how it is said.

    0 full            the scheme as configured
    1 fewer_members   the scheme on the first k members; the others follow the mean of these,
                      x_i = x_i^b + mean_k(x^a) - mean_k(x^b),  k < i <= M
    2 letkf           the LETKF on all members
    3 unguided        the forecast without observations: the analysis is the background
    4 advection       the background is the analysis before, moved on as its echo has moved (advecting.py)
    5 persistence     the background is the analysis before, as if nothing had moved
    6 last_good       the analysis before is damaged: the newest older one that is whole, forecast as far as now

Rungs 1 to 3 follow a failed analysis, 4 to 6 a failed background (observations are then still used). A cycle
has the highest rung of both. The causes go into manifest, summary, files and page, and the cycle counts as degraded.
`on_failed_analysis: stop` knows no rung, `use_background` the third one for an analysis that is not finite,
`ladder` those of the block `fallback`; there any failure of a scheme or model leads down, a bug among them, with its
traceback in the log. What another try may cure (exit code 75) never does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from cycler_da.cycle.advecting import advected, is_carried
from cycler_da.cycle.work import CycleWork
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, CyclerError, LockedCycle, MissingProduct
from cycler_da.obs.base import Observations
from cycler_da.operations_blocks import RUNGS
from cycler_da.schemes.base import Analysis, AnalysisScheme, Prior
from cycler_da.schemes.frame.checked import checked_analysis
from cycler_da.schemes.frame.checks import require_finite
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)

FULL = "full"
NAMES = (FULL, *RUNGS)


@dataclass(frozen=True)
class Outcome:
    """An analysis, the rung it stands on, and why every rung above it failed."""

    analysis: Analysis
    rung: str
    causes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Background:
    """A background, its rung and causes, and the time of the analysis it started from."""

    ensemble: Ensemble
    rung: str
    causes: tuple[str, ...]
    start: str


def level(rung: str) -> int:
    """Number of a rung, 0 for the full scheme."""
    return NAMES.index(rung)


def rungs_of(work: CycleWork) -> tuple[str, ...]:
    """The rungs that the config allows."""
    config = work.setting.config
    if config.on_failed_analysis == "ladder":
        return tuple(config.fallback.rungs)
    return ("unguided",) if config.on_failed_analysis == "use_background" else ()


def analyse(work: CycleWork, prior: Prior, usable: Observations, *, accept: Callable[[Analysis], None]) -> Outcome:
    """Analyse on the highest rung that succeeds; raises the first failure when the last allowed rung fails, too.

    `accept` raises AnalysisFailed for an analysis that must not be published; the background is not asked.
    """
    allowed = rungs_of(work)
    causes: list[str] = []
    failures: list[Exception] = []
    for rung, attempt in _attempts(work, prior, usable):
        if rung != FULL and rung not in allowed:
            continue
        try:
            analysis = attempt()
            if rung != "unguided":
                accept(analysis)
            return Outcome(analysis, rung, tuple(causes))
        except Exception as failure:
            if not _leads_down(work, failure, allowed):
                raise
            failures.append(failure)
            causes.append(_cause(work, rung, failure))
    raise failures[0]


def forecast(work: CycleWork) -> Background:
    """Make the background on the highest rung that succeeds; raises the first failure."""
    allowed = rungs_of(work)
    previous = work.previous_time
    assert previous is not None
    try:
        start = work.frames_until(previous)
    except MissingProduct as damage:
        if "last_good" not in allowed:
            raise
        return _from_last_good(work, previous, damage)
    try:
        return Background(_forecast(work, start), FULL, (), time_stamp(previous))
    except Exception as failure:
        if not _stands_in(allowed) or not _leads_down(work, failure, allowed):
            raise
        rung, ensemble, causes = _without_model(work, start, failure)
        return Background(ensemble, rung, (_cause(work, FULL, failure), *causes), time_stamp(previous))


def _attempts(work: CycleWork, prior: Prior, usable: Observations) -> Iterator[tuple[str, Callable[[], Analysis]]]:
    scheme, letkf = work.chain.scheme, work.chain.fallback
    yield FULL, lambda: _analyse(work, scheme, prior, usable)
    yield "fewer_members", lambda: _with_fewer_members(work, prior, usable)
    if letkf is not None:
        # What the chain's own scheme remembers is kept for its next cycle.
        yield "letkf", lambda: replace(_analyse(work, letkf, prior, usable), carry=work.carry())
    yield "unguided", lambda: Analysis(prior.background, work.carry())


def _analyse(work: CycleWork, scheme: AnalysisScheme, prior: Prior, usable: Observations) -> Analysis:
    """Let a scheme analyse; raises AnalysisFailed when it cannot, or when what it returns is not finite."""
    carry = work.carry() if scheme is work.chain.scheme else {}
    return checked_analysis(scheme, prior, usable, kind=work.chain.scheme_kind, noise=work.noise, carry=carry)


def _with_fewer_members(work: CycleWork, prior: Prior, usable: Observations) -> Analysis:
    background, some = prior.background, work.setting.config.fallback.members or prior.background.n_members // 2
    count = max(min(some, background.n_members - 1), work.chain.scheme.needs.n_members)
    if count >= background.n_members:
        raise AnalysisFailed(f"the scheme needs {count} members, all there are")
    chosen = slice(0, count)
    previous = None if prior.previous is None else prior.previous.select(chosen)
    few = replace(prior, background=background.select(chosen), previous=previous)
    part = _analyse(work, work.chain.scheme, few, usable)
    increment = part.ensemble.latest.mean(dim=0) - background.latest[:count].mean(dim=0)
    values = background.values.clone()
    values[:count, -1] = part.ensemble.latest.to(values.dtype)
    values[count:, -1] += increment.to(values.dtype)
    report = {**part.diagnostics, "n_members_analysed": float(count)}
    return Analysis(background.with_values(values), work.carry(), report)


def _forecast(work: CycleWork, start: Ensemble) -> Ensemble:
    made = work.executor.forecast(
        work.chain.source, start, work.times(), noise=work.noise, batch=work.setting.config.ensemble.batch
    )
    if _stands_in(rungs_of(work)):
        require_finite(made.latest, layout=made.layout, scheme="forecast")
    return made


def _stands_in(allowed: tuple[str, ...]) -> bool:
    """True when something may take the place of the forecast model."""
    return "advection" in allowed or "persistence" in allowed


def _without_model(work: CycleWork, start: Ensemble, failure: Exception) -> tuple[str, Ensemble, list[str]]:
    """A background without the model, its rung, and why a rung above failed; raises the failure of the model."""
    allowed = rungs_of(work)
    causes: list[str] = []
    if "advection" in allowed and is_carried(start.layout):
        try:
            moved = advected(work, start)
            require_finite(moved.latest, layout=moved.layout, scheme="advection")
            return "advection", moved, causes
        except Exception as second:
            if not _leads_down(work, second, allowed):
                raise
            causes.append(_cause(work, "advection", second))
    if "persistence" not in allowed:
        raise failure
    return "persistence", _persist(work, start), causes


def _persist(work: CycleWork, start: Ensemble) -> Ensemble:
    latest, times = start.at_latest(), work.times()
    values = latest.values.expand(-1, len(times), *latest.layout.state_shape).clone()
    return Ensemble(values, times, latest.members, latest.layout)


def _from_last_good(work: CycleWork, previous: np.datetime64, damage: MissingProduct) -> Background:
    """Start from the newest older analysis that is whole; raises the damage when there is none.

    None is older than a cold start: there the chain left what was before.
    """
    for time in _older(work, previous):
        try:
            start = work.frames_until(time)
        except MissingProduct:
            continue
        causes = [_cause(work, FULL, damage)]
        try:
            ensemble = _forecast(work, start)
        except Exception as failure:
            if not _leads_down(work, failure, rungs_of(work)):
                raise
            causes.append(_cause(work, "forecast", failure))
            rung, ensemble, more = _without_model(work, start, failure)
            causes += [*more, f"{rung} stands in for the forecast"]
        return Background(ensemble, "last_good", tuple(causes), time_stamp(time))
    raise damage


def _older(work: CycleWork, previous: np.datetime64) -> Iterator[np.datetime64]:
    """Complete cycles before `previous`, newest first, down to one that began anew."""
    for time in reversed([time for time in work.store.complete_cycles() if time <= previous]):
        if time < previous:
            yield time
        try:
            if work.began_anew(time):
                return
        except MissingProduct:  # a damaged manifest; what began anew has no background
            if not (work.store.cycle_folder(time) / "background.nc").is_file():
                return


def _leads_down(work: CycleWork, failure: Exception, allowed: tuple[str, ...]) -> bool:
    if isinstance(failure, CyclerError) and failure.exit_code == LockedCycle.exit_code:
        return False
    if work.setting.config.on_failed_analysis == "ladder":
        return True
    return bool(allowed) and isinstance(failure, AnalysisFailed)


def _cause(work: CycleWork, rung: str, failure: Exception) -> str:
    """Log a failure and say it in one line; what is not expected keeps its traceback in the log."""
    is_bug = not isinstance(failure, CyclerError)
    text = f"{type(failure).__name__}: {failure}" if is_bug else str(failure)
    log.error(
        "event=fallback cycle=%s chain=%s failed=%s cause=%s",
        time_stamp(work.time), work.chain.name, rung, text, exc_info=failure if is_bug else None,
    )  # fmt: skip
    return f"{rung}: {text}" if rung != FULL else text
