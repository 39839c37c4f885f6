"""Verification of one cycle against nature: background, analysis and persistence, in physical units.

`diag/scores.json` holds the mergeable sums, so that any set of cycles can be scored later without averaging a
score; the flat scores returned here are for the page and the log.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.cycle.work import CycleWork
from cycler_da.products.dataset import read_ensemble, write_field
from cycler_da.verification.scores import final_scores
from cycler_da.verification.sums import ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from cycler_da.ensemble import Ensemble
    from cycler_da.nature import Nature

#: Scores that the page and the log show.
SHOWN = ("rmse", "fair_crps", "spread", "spread_skill", "bias")


def score_cycle(work: CycleWork, nature: Nature) -> dict[str, Any]:
    """Write truth and sums; return flat scores by kind and variable."""
    layout = work.setting.layout
    times = np.array([work.time])
    truth = nature.states(times)
    (work.folder / "diag").mkdir(exist_ok=True)
    write_field(work.folder / "diag" / "truth.nc", truth.float(), times, layout, facts=work.facts("truth"))
    sums: dict[str, ScoreSums] = {}
    for kind, ensemble in _ensembles(work).items():
        sums[kind] = _sums(work, ensemble, truth[0].numpy())
    work.write_json("diag/scores.json", {kind: part.to_json() for kind, part in sums.items()})
    return {kind: flat_scores(part) for kind, part in sums.items()}


def flat_scores(sums: ScoreSums) -> dict[str, dict[str, float]]:
    """The shown scores of each variable, without those that are not defined."""
    return {
        variable: {name: float(scores[name]) for name in SHOWN if name in scores and math.isfinite(float(scores[name]))}
        for variable, scores in final_scores(sums).items()
    }


def _ensembles(work: CycleWork) -> dict[str, Ensemble]:
    control, layout = work.setting.control, work.setting.layout
    analysis = control.from_control(work.analysis())
    if work.previous_time is None:
        return {"analysis": analysis}
    persistence = read_ensemble(work.store.product(work.previous_time, "analysis.nc"), layout=layout)
    return {"background": control.from_control(work.background()), "analysis": analysis, "persistence": persistence}


def _sums(work: CycleWork, ensemble: Ensemble, truth: np.ndarray) -> ScoreSums:
    verification, names = work.setting.config.verification, work.setting.layout.channels
    scale = [verification.scale[name] for name in names] if verification.scale else None
    return ensemble_sums(
        ensemble.latest.numpy().astype(np.float64),
        truth.astype(np.float64),
        scale=None if scale is None else np.array(scale),
        names=names,
        thresholds=verification.thresholds or None,
        mask=np.isfinite(truth) if not np.isfinite(truth).all() else None,
    )
