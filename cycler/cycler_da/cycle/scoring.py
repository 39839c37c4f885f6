"""Verification of one cycle against nature: background, analysis and persistence, in physical units.

Where the control variable is another one (radar: the code scale, on which errors are nearly Gaussian), it is
verified beside the physical variable, under its own name. Cells that nature does not know do not count.
`diag/scores.json` holds the mergeable sums, so that any set of cycles can be scored later without averaging a
score; the flat scores returned here are for the page and the log.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.control import Control, verified_variables
from cycler_da.cycle.work import CycleWork
from cycler_da.ensemble import Ensemble
from cycler_da.products.dataset import read_ensemble, write_observed_field
from cycler_da.verification.scores import final_scores
from cycler_da.verification.sums import ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from torch import Tensor

    from cycler_da.nature import Nature

#: Scores that the page and the log show.
SHOWN = ("rmse", "fair_crps", "spread", "spread_skill", "bias")


def score_cycle(work: CycleWork, nature: Nature) -> dict[str, Any]:
    """Write truth and sums; return flat scores by kind and variable."""
    layout = work.setting.layout
    times = np.array([work.time])
    truth = nature.states(times)
    (work.folder / "diag").mkdir(exist_ok=True)
    write_observed_field(work.folder / "diag" / "truth.nc", truth.float(), times, layout, facts=work.facts("truth"))
    sums: dict[str, ScoreSums] = {}
    for kind, ensemble in _ensembles(work).items():
        sums[kind] = member_sums(work, ensemble.latest, truth[0])
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
    persistence = read_ensemble(work.store.product(work.start_time(), "analysis.nc"), layout=layout)
    return {"background": control.from_control(work.background()), "analysis": analysis, "persistence": persistence}


def member_sums(work: CycleWork, members: Tensor, truth: Tensor) -> ScoreSums:
    """Score sums of members `(member, channel, *space)` in physical units, also in the control variable."""
    verification, control = work.setting.config.verification, work.setting.control
    names, known = verified_variables(control), truth
    if len(names) > len(control.physical.channels):
        members = torch.cat([members, _transformed(members, control)], dim=1)
        known = torch.cat([known, _transformed(known[None], control)[0]])
    scale = np.array([verification.scale[name] for name in names]) if verification.scale else None
    values = known.numpy().astype(np.float64)
    return ensemble_sums(
        members.numpy().astype(np.float64),
        values,
        scale=scale,
        names=names,
        thresholds=verification.thresholds or None,
        mask=np.isfinite(values) if not np.isfinite(values).all() else None,
    )


def _transformed(states: Tensor, control: Control) -> Tensor:
    time = np.array(["1970-01-01"], "datetime64[s]")
    return control.to_control(Ensemble(states[:, None], time, tuple(range(len(states))), control.physical)).latest
