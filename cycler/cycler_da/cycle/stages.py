"""The stages of a cycle, in order. Each reads the store and the work folder, and writes the work folder.

    background       forecast the previous analysis (the start: nothing)
    observations     copy the window's files, quarantine what cannot be read
    quality_control  flag every observation
    assimilate       correct the background -> analysis (the start: the first ensemble)
    products         increment, feedback, statistics
    verify           scores against nature, where there is one
    plot             maps
    finish           summary, manifest, publication

A stage returns plain facts; `degraded` among them lists reasons, which end in the manifest, the files and the page.
"""

from __future__ import annotations

import logging
import math
import shutil
import time as clock
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from cycler_da.cycle.scoring import score_cycle
from cycler_da.cycle.work import CycleWork
from cycler_da.errors import (
    EXIT_COMPLETE,
    EXIT_DEGRADED,
    EXIT_NO_OBSERVATIONS,
    AnalysisFailed,
    MissingInput,
    ObsFileError,
)
from cycler_da.faultpoint import reach
from cycler_da.obs.base import Observations
from cycler_da.obs.files import find_obs_file, read_obs_file
from cycler_da.obs.qc import flag_counts
from cycler_da.plots.maps import plot_cycle
from cycler_da.products.atomic import refusals_explained
from cycler_da.products.dataset import write_ensemble, write_field
from cycler_da.products.feedback import write_feedback
from cycler_da.products.manifest import Inputs, build_manifest
from cycler_da.products.provenance import sha256_file
from cycler_da.products.stages import SUFFIX, stage_files
from cycler_da.schemes.base import Analysis, Prior
from cycler_da.schemes.checks import require_finite
from cycler_da.setting import Stream
from cycler_da.start import StartRequest
from cycler_da.times import iso_time, time_stamp

log = logging.getLogger(__name__)

Facts = dict[str, Any]


def background(work: CycleWork) -> Facts:
    """Forecast the previous analysis to the cycle's time."""
    if work.is_start or work.previous_time is None:
        return {}
    forecast = work.executor.forecast(
        work.chain.source,
        work.previous(),
        np.array([work.time]),
        noise=work.noise,
        batch=work.setting.config.ensemble.batch,
    )
    physical = work.setting.control.from_control(forecast)
    facts = work.facts("background", reference_time=work.previous_time)
    write_ensemble(work.folder / "background.nc", physical, facts=facts)
    return {"n_members": forecast.n_members}


def observations(work: CycleWork) -> Facts:
    """Copy the files of the window into the cycle; a file that cannot be read is set aside with its reason."""
    if work.is_start:
        return {}
    used, reasons = {}, []
    for stream in work.setting.streams:
        try:
            used[stream.name] = _take_file(work, stream)
        except (MissingInput, ObsFileError) as error:
            if stream.is_required:
                raise
            reasons.append(f"stream {stream.name} is missing: {error}")
            log.warning("cycle=%s stream=%s set aside: %s", time_stamp(work.time), stream.name, error)
    return {"files": used, "degraded": reasons}


def quality_control(work: CycleWork) -> Facts:
    """Flag every observation; the flags are a function of the copied files and the background."""
    if work.is_start:
        return {}
    return {"counts": _nonzero(flag_counts(work.checked()))}


def assimilate(work: CycleWork) -> Facts:
    """Correct the background by the observations that passed, or make the first ensemble."""
    if work.is_start:
        return _start(work)
    checked = work.checked()
    usable = work.setting.control.observations(checked.used())
    prior = Prior(work.background(), work.previous(), work.chain.model)
    reasons, label = [], "analysis"
    try:
        analysis = _analyse(work, prior, usable)
    except AnalysisFailed as error:
        if work.setting.config.on_failed_analysis == "stop":
            raise
        reasons, label = [f"analysis failed, the background stands in: {error}"], "analysis FAILED (background)"
        analysis = Analysis(prior.background, work.carry())
    if len(usable) == 0:
        reasons.append("no usable observations: the analysis is the background")
        label = "analysis, NO OBSERVATIONS (background)"
    physical = work.setting.control.from_control(analysis.ensemble.at_latest())
    all_reasons = [*work.done_facts("observations").get("degraded", []), *reasons]
    facts = work.facts(
        "analysis",
        degraded=bool(all_reasons),
        title=_title(work, label),
        comment="; ".join(all_reasons) or None,
    )
    write_ensemble(work.folder / "analysis.nc", physical, facts=facts)
    if analysis.carry:
        carry = {name: value.contiguous() for name, value in analysis.carry.items()}
        (work.folder / "carry.safetensors").write_bytes(save(carry))
    return {
        "diagnostics": {k: v for k, v in analysis.diagnostics.items() if math.isfinite(v)},
        "n_used": len(usable),
        "degraded": reasons,
    }


def products(work: CycleWork) -> Facts:
    """Write increment, feedback and statistics."""
    if work.is_start:
        return {}
    control, layout = work.setting.control, work.setting.layout
    before, after = control.from_control(work.background()), control.from_control(work.analysis())
    increment = (after.mean() - before.mean()).to(torch.float32)
    write_field(
        work.folder / "increment.nc", increment[-1:], after.valid_times[-1:], layout, facts=work.facts("increment")
    )
    checked = work.checked()
    write_feedback(
        work.folder / "feedback",
        checked,
        background_hx=checked.hx(before.latest.to(torch.float64)),
        analysis_hx=checked.hx(after.latest.to(torch.float64)),
        facts=work.facts("feedback"),
    )
    done = work.done_facts("assimilate")
    work.write_json(
        "diag/stats.json", {"counts": _nonzero(flag_counts(checked)), "scheme": done.get("diagnostics", {})}
    )
    return {}


def verify(work: CycleWork) -> Facts:
    """Score background and analysis against nature, beside persistence."""
    if work.nature is None:
        return {}
    return {"scores": score_cycle(work, work.nature)}


def plot(work: CycleWork) -> Facts:
    """Draw the maps; a figure that fails degrades the cycle and never stops it."""
    if not work.setting.config.plots:
        return {}
    try:
        written = plot_cycle(work.folder, work.folder / "plots")
    except Exception as error:  # whatever a plotting library may raise, science products are published
        log.exception("cycle=%s stage=plot failed", time_stamp(work.time))
        shutil.rmtree(work.folder / "plots", ignore_errors=True)
        return {"degraded": [f"plots are missing: {type(error).__name__}: {error}"]}
    return {"images": [str(path.relative_to(work.folder)) for path in written if path.suffix == ".png"]}


def finish(work: CycleWork) -> Facts:
    """Write summary and manifest and publish; after this the cycle is complete."""
    done = {name: work.done_facts(name) for name in STAGES if name != LAST_STAGE}
    reasons = [reason for facts in done.values() for reason in facts.get("degraded", [])]
    summary = {
        "valid_time": iso_time(work.time),
        "scores": done["verify"].get("scores", {}),
        "counts": done["quality_control"].get("counts", {}),
        "diagnostics": done["assimilate"].get("diagnostics", {}),
        "seconds": {name: facts["seconds"] for name, facts in done.items()},
        "degraded": reasons,
        "exit_code": _exit_code(work, done, reasons),
        "images": done["plot"].get("images", []),
    }
    work.write_json("diag/summary.json", summary)
    inputs = Inputs(
        config=work.setting.config.digest,
        previous=None if work.previous_time is None else work.store.link_to(work.previous_time),
        observations=done["observations"].get("files", {}),
        weights={"model": work.chain.model.digest},
    )
    manifest = build_manifest(
        work.folder,
        experiment=work.setting.config.name,
        chain=work.chain.name,
        time=work.time,
        inputs=inputs,
        token=work.lock.token,
        facts={"seed": work.setting.config.seed, "degraded": reasons, "exit_code": summary["exit_code"]},
    )
    work.store.publish(work.time, manifest, lock=work.lock, replace=work.replaces)
    return summary


STAGES: dict[str, Callable[[CycleWork], Facts]] = {
    "background": background,
    "observations": observations,
    "quality_control": quality_control,
    "assimilate": assimilate,
    "products": products,
    "verify": verify,
    "plot": plot,
    "finish": finish,
}

#: The stage that publishes; it leaves no marker.
LAST_STAGE = "finish"


def run_stage(work: CycleWork, name: str) -> Facts:
    """Run a stage unless its marker says that it is done, and leave its marker; `finish` publishes instead."""
    if work.store.stage_is_done(work.time, name, key=work.key):
        return work.store.stage_facts(work.time, name)
    work.lock.require_held()
    reach(f"{name}.start")
    before = _clear(work, name)
    began = clock.perf_counter()
    with refusals_explained(work.folder, within=work.folder):
        facts = STAGES[name](work)
    if name == LAST_STAGE:
        return facts
    facts["seconds"] = round(clock.perf_counter() - began, 4)
    reach(f"{name}.written")
    written = sorted(_files(work.folder) - before)
    work.store.mark_stage(work.time, name, written, facts=facts, key=work.key, lock=work.lock)
    reach(f"{name}.done")
    log.info("cycle=%s chain=%s stage=%s seconds=%.2f", time_stamp(work.time), work.chain.name, name, facts["seconds"])
    return facts


def _clear(work: CycleWork, name: str) -> set[str]:
    """Remove what an earlier attempt left of a stage and of the stages after it; return the files that stay.

    Without this a copy of observations from an attempt that was killed would be used although the file has
    gone since, and a stage would count as done that was made from what its predecessor is about to replace.
    """
    order = list(STAGES)
    earlier = order[: order.index(name)]
    kept = {file for stage in earlier for file in (*stage_files(work.folder, stage), f"{stage}{SUFFIX}")}
    for file in _files(work.folder) - kept:
        (work.folder / file).unlink()
    return kept


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
    facts = work.facts("analysis", title=f"{work.setting.config.name}: start ensemble")
    write_ensemble(work.folder / "analysis.nc", work.setting.control.from_control(ensemble), facts=facts)
    return {"n_members": ensemble.n_members}


def _analyse(work: CycleWork, prior: Prior, usable: Observations) -> Analysis:
    """Let the scheme analyse; raises AnalysisFailed when what it returns is not finite, whatever the scheme checks."""
    with torch.inference_mode():
        analysis = work.chain.scheme.analyse(prior, usable, noise=work.noise, carry=work.carry())
    require_finite(analysis.ensemble.latest, layout=analysis.ensemble.layout, scheme=work.chain.scheme_kind)
    return analysis


def _take_file(work: CycleWork, stream: Stream) -> str:
    """Copy a stream's file, read it fully, and return its sha256; raises MissingInput or ObsFileError."""
    stamp = time_stamp(work.time)
    found = find_obs_file(stream.folder, stream.name, stamp)
    if found is None:
        raise MissingInput(f"no file {stream.name}_{stamp}.nc in {stream.folder}")
    try:
        content = found.read_bytes()
    except OSError as error:
        raise ObsFileError(
            f"observation file {found} cannot be read: {error}; check its kind, mode and disk"
        ) from error
    copy = work.obs_file(stream)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(content)
    try:
        read_obs_file(copy, work.setting.layout, stream=stream.name, operators=stream.operators)
    except ObsFileError as error:
        copy.unlink()
        raise ObsFileError(str(error).replace(str(copy), str(found))) from error
    return sha256_file(copy)


def _exit_code(work: CycleWork, done: dict[str, Facts], reasons: list[str]) -> int:
    if not work.is_start and done["assimilate"].get("n_used") == 0:
        return EXIT_NO_OBSERVATIONS
    return EXIT_DEGRADED if reasons else EXIT_COMPLETE


def _title(work: CycleWork, label: str) -> str:
    return f"{work.setting.config.name} / {work.chain.name}: {label} of {iso_time(work.time)}"


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
