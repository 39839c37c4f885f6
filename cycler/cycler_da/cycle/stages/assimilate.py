"""Assimilate: background and observations -> analysis; at the start, the first ensemble."""

from __future__ import annotations

import logging
import math

from safetensors.torch import save

from cycler_da.cycle.calibrating import put_passport
from cycler_da.cycle.error_factors import in_words
from cycler_da.cycle.fallback import Outcome, analyse, level
from cycler_da.cycle.unseen import require_plausible, withheld_fit
from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.obs.base import Observations
from cycler_da.products.dataset import write_ensemble
from cycler_da.schemes.base import Analysis, Prior
from cycler_da.start import StartRequest
from cycler_da.times import iso_time, time_stamp
from cycler_da.verification.window import usual

log = logging.getLogger(__name__)


def assimilate(work: CycleWork) -> Facts:
    """Correct the background by the observations that passed, or make the first ensemble."""
    if work.is_start:
        return _start(work)
    checked = work.checked()
    usable = work.setting.control.observations(checked.used())
    prior = Prior(work.background(), work.previous(), work.chain.model, work.executor.map)
    outcome = analyse(work, prior, usable, accept=lambda analysis: _require_plausible(work, checked, analysis))
    analysis, rung = outcome.analysis, max(outcome.rung, work.done_facts("background")["rung"], key=level)
    reasons, label = _said(outcome), _LABELS.get(rung, "analysis")
    if len(usable) == 0:
        reasons.append("no usable observations: the analysis is the background")
        label = "analysis, NO OBSERVATIONS (background)"
    physical = work.setting.control.from_control(work.frames_of_window(analysis.ensemble))
    stages = ("background", "observations", "quality_control")
    earlier = [reason for stage in stages for reason in work.done_facts(stage).get("degraded", [])]
    all_reasons = [*earlier, *reasons]
    facts = work.facts(
        "analysis",
        degraded=bool(all_reasons),
        delivery=work.done_facts("observations").get("delivery"),
        fallback=rung if level(rung) else None,
        observation_error_factors=in_words(work.error_factors),
        title=_title(work, label),
        comment="; ".join(all_reasons) or None,
    )
    work.write_frames("analysis", physical, facts)
    put_passport(work, work.folder / "analysis.nc", "analysis")
    if analysis.carry:
        carry = {name: value.contiguous() for name, value in analysis.carry.items()}
        (work.folder / "carry.safetensors").write_bytes(save(carry))
    alerts = collapse_alerts(analysis)
    for alert in alerts:
        log.warning("cycle=%s chain=%s %s", time_stamp(work.time), work.chain.name, alert)
    factors = {f"error_factor.{group}": factor for group, factor in work.error_factors.items()}
    return {
        "diagnostics": {k: v for k, v in {**analysis.diagnostics, **factors}.items() if math.isfinite(v)},
        "n_used": len(usable),
        "rung": rung,
        "degraded": reasons,
        "alerts": alerts,
    }


def collapse_alerts(analysis: Analysis) -> list[str]:
    """What to know, in words, of an analysis whose weights left one member of several."""
    n_members = analysis.ensemble.n_members
    if n_members == 1 or analysis.diagnostics.get("ancestors") != 1:
        return []
    return [
        f"all {n_members} members of the analysis stem from one: its weights have collapsed, and the spread says what "
        "one model step does, not what is uncertain. Take more members, or leave less to weights (interpolant_filter: "
        "gamma nearer to 1, or least_share)"
    ]


#: How an analysis of a lower rung is called in its title.
_LABELS = {
    "fewer_members": "analysis, FALLBACK (fewer members)",
    "letkf": "analysis, FALLBACK (LETKF)",
    "unguided": "analysis FAILED (background)",
    "advection": "analysis, FALLBACK (background by advection)",
    "persistence": "analysis, FALLBACK (background by persistence)",
    "last_good": "analysis, FALLBACK (background from an older analysis)",
}


def _said(outcome: Outcome) -> list[str]:
    """Why the analysis is not the full scheme's."""
    means = "the background stands in" if outcome.rung == "unguided" else f"fallback {outcome.rung} stands in"
    return [f"analysis failed, {means}: {cause}" for cause in outcome.causes]


def _start(work: CycleWork) -> Facts:
    ensemble = work.setting.start.ensemble(
        StartRequest(
            time=work.time,
            members=work.chain.members,
            history=work.chain.model.history,
            control=work.setting.control,
            noise=work.noise,
            nature=work.nature,
            climatology=work.setting.climatology,
            model=work.chain.model,
        )
    )
    reasons = ["cold start: the ensemble begins anew, without the cycles before it"] if work.is_cold_start else []
    facts = work.facts(
        "analysis",
        degraded=bool(reasons),
        title=f"{work.setting.config.name}: {'COLD START' if reasons else 'start ensemble'}",
        comment="; ".join(reasons) or None,
    )
    write_ensemble(work.folder / "analysis.nc", work.setting.control.from_control(ensemble), facts=facts)
    put_passport(work, work.folder / "analysis.nc", "analysis")
    return {"n_members": ensemble.n_members, "degraded": reasons}


def _require_plausible(work: CycleWork, checked: Observations, analysis: Analysis) -> None:
    """Raise AnalysisFailed when the withheld observations cannot be of this analysis."""
    require_plausible(
        withheld_fit(work, checked, analysis.ensemble, background=work.background()),
        usual=usual([cycle.analysis_deviation for cycle in work.window]),
        limits={stream.name: stream.qc.stream_check for stream in work.setting.streams},
        scheme=work.chain.scheme_kind,
    )


def _title(work: CycleWork, label: str) -> str:
    return f"{work.setting.config.name} / {work.chain.name}: {label} of {iso_time(work.time)}"
