"""The analysis of an archived cycle as a function of its observations: what `whatif` and `impact` vary.

Background, carry and noise keys are those of the archive, so two analyses differ by their observations alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cycler_da.cycle import CycleWork
from cycler_da.cycle.fallback import FULL
from cycler_da.cycle.work import FRAMES, Facts
from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import ConfigError, MissingProduct
from cycler_da.layout import Layout
from cycler_da.obs.base import Observations
from cycler_da.products.dataset import read_ensemble
from cycler_da.products.gridfile import open_file
from cycler_da.replay.shadow import ArchivedCycle, shadow_work
from cycler_da.schemes.base import Prior
from cycler_da.schemes.frame.checked import checked_analysis
from cycler_da.times import EPOCH, iso_time


@dataclass(frozen=True)
class OpenAnalysis:
    """An archived cycle whose analysis can be made again from other observations."""

    archived: ArchivedCycle
    work: CycleWork
    checked: Observations  # after quality control, as the cycle had them
    analysis: Ensemble  # as archived, physical units, the cycle's time last

    def again(self, observations: Observations) -> Ensemble:
        """The analysis ensemble (physical units) from observations with flags; only used ones count."""
        work = self.work
        usable = work.setting.control.observations(observations.used())
        prior = Prior(work.background(), work.previous(), work.chain.model, work.executor.map)
        scheme, kind = work.chain.scheme, work.chain.scheme_kind
        found = checked_analysis(scheme, prior, usable, kind=kind, noise=work.noise, carry=work.carry())
        return work.setting.control.from_control(work.frames_of_window(found.ensemble))

    def require_same(self) -> None:
        """Raise MissingProduct unless the unchanged observations give the archived analysis bit for bit."""
        if not torch.equal(self.again(self.checked).values, self.analysis.values):
            raise MissingProduct(
                f"{self.archived.name}: the unchanged observations do not give the archived analysis, so a difference "
                "would not be due to the observations; `cycler replay` says what is different (another version of "
                "the code, or an analysis for which the background stood in)"
            )


@contextmanager
def open_analysis(archived: ArchivedCycle, scratch: Path) -> Iterator[OpenAnalysis]:
    """Open the analysis of a cycle; raises ConfigError at the start of a chain, and what `shadow_work` raises."""
    if archived.manifest()["inputs"]["previous_manifest"] is None:
        raise ConfigError(f"{archived.name} is the start of its chain: it has no observations to change")
    with shadow_work(archived, scratch) as work:
        for name in ("background.nc", f"background{FRAMES}"):
            if name in archived.manifest()["files"]:
                _take(archived, name, work.folder)
        for stream in archived.manifest()["inputs"]["observations"]:
            _take(archived, f"obs/in.{stream}.nc", work.folder)
        _mark_background(work)
        analysis = work.frames_of_window(_archived_analysis(archived, work.setting.layout))
        yield OpenAnalysis(archived, work, work.checked(), analysis)


def _archived_analysis(archived: ArchivedCycle, layout: Layout) -> Ensemble:
    analysis = read_ensemble(archived.store.product(archived.time, "analysis.nc"), layout=layout)
    if f"analysis{FRAMES}" not in archived.manifest()["files"]:
        return analysis
    return append_times(
        read_ensemble(archived.store.product(archived.time, f"analysis{FRAMES}"), layout=layout), analysis
    )


def _mark_background(work: CycleWork) -> None:
    """Say that the background is made, and from which analysis: what later stages ask of that stage."""
    with open_file(work.folder / "background.nc") as dataset:
        start = EPOCH + np.timedelta64(int(dataset["forecast_reference_time"][...]), "s")
        rung = getattr(dataset, "cycler_fallback", FULL)
    facts: Facts = {"start": iso_time(start), "rung": rung, "degraded": []}
    files = sorted(path.name for path in work.folder.glob("background*.nc"))
    work.store.mark_stage(work.time, "background", files, facts=facts, key=work.key, lock=work.lock)


def _take(archived: ArchivedCycle, name: str, folder: Path) -> None:
    """Copy a product, verified, into the work folder."""
    copy = folder / name
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(archived.store.product(archived.time, name), copy)
