"""What a whole assimilated member-step costs, from members that do not know the state: part of `guidance_cost`.

Members start about a centre, each off by `OFF` times the difference of two other states of the climate, and the
centre is off the true state by another such difference: the truth is where a member might be. A member-step is the
forecast from there to the observations and the analysis, coupling included:

    forecast alone         one draw of the transition
    LETKF                  of that forecast
    interpolant filter     forecast, coupling (its transform), guided draw with K tau points
    FlowDAS                forecast, and N steps of each member alone; zeta is chosen anew on the tuning states

Radius and inflation of LETKF and interpolant filter are the same and not tuned. Passes of the networks are counted
member by member; seconds and memory are shares of a member, all members together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from cycler_da.bench.passes import Passes
from cycler_da.bench.turbulence.guidance_cost_case import SEED, Case
from cycler_da.bench.turbulence.guidance_cost_draws import Draws, rows_of
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.transition import Transition
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.flowdas import FlowdasSpec
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.tables.report import Row

MEMBERS = 16
OFF = 0.5
RADIUS_CELLS, INFLATION = 6.0, 1.0
#: What zeta N of the known start is multiplied with.
FACTORS = (0.0625, 0.25, 1.0, 4.0)
LABEL = "from an uncertain start"


def whole_steps(
    transition: Transition, passes: Passes, cases: Sequence[Case], n_tuning: int, pulls: Mapping[int, float]
) -> tuple[list[Row], str]:
    """Rows of all methods, the first `n_tuning` cases being for zeta; `pulls` is zeta N of known starts by N."""
    passes.of_members = True
    tuning, scored, starts = cases[:n_tuning], cases[n_tuning:], [case.start for case in cases]

    def tried(cases: Sequence[Case], spec: Any) -> Draws:
        draws = Draws()
        for case in cases:
            draws.add(partial(member_step, transition, case, starts, spec), case.truth, passes)
        return draws

    letkf = LetkfSpec(localization_radius_cells=RADIUS_CELLS, inflation=INFLATION)
    specs = {"forecast alone": FreeRunSpec(), "LETKF": letkf}
    for points in (1, 2):
        specs[f"interpolant filter, {points} tau point{'s' * (points > 1)}"] = InterpolantFilterSpec(
            localization_radius_cells=RADIUS_CELLS, inflation=INFLATION, tau_points=points
        )
    best = dict[int, float]()
    for n_steps, pull in pulls.items():
        crps = {factor * pull: tried(tuning, _flowdas(n_steps, factor * pull)).crps for factor in FACTORS}
        best[n_steps] = min(crps, key=lambda pull: crps[pull])
        specs[f"FlowDAS, {n_steps} steps"] = _flowdas(n_steps, best[n_steps])
    drawn = {name: tried(scored, spec) for name, spec in specs.items()}
    dearest = drawn[f"FlowDAS, {max(pulls)} steps"]
    rows = [row for name, draws in drawn.items() for row in rows_of(LABEL, name, draws, dearest)]
    zetas = ", ".join(f"{pull:g} ({n} steps)" for n, pull in best.items())
    factors = ", ".join(f"{factor:g}" for factor in FACTORS)
    return rows, (
        f"Uncertain start: {MEMBERS} members, forecast and analysis; radius {RADIUS_CELLS:g} cells and inflation "
        f"{INFLATION:g} of LETKF and interpolant filter not tuned; zeta N of FlowDAS {zetas}, the best of {factors} "
        "times that of known starts on the two other states. An analysis that is not finite has no scores (n)."
    )


def member_step(transition: Transition, case: Case, starts: Sequence[torch.Tensor], spec: Any) -> torch.Tensor:
    """Forecast and analysis of all members, physical units; NaN where the analysis failed."""
    layout, noise, ids = case.observations.layout, Noise(SEED, case.index), tuple(range(MEMBERS))
    model = InterpolantForecast(layout, transition, (0.0,), "cost")
    when = case.observations.batches[0].times[0]
    before = Ensemble(members_about(case, starts)[:, None], np.array([when - layout.step]), ids, layout)
    background = model.forecast(before, np.array([when]), noise=noise)
    scheme = spec.build(SchemeContext(layout, model))
    try:
        analysis = scheme.analyse(Prior(background, before, model), case.observations, noise=noise, carry={})
    except AnalysisFailed:
        return torch.full_like(background.latest, torch.nan)
    latest: torch.Tensor = analysis.ensemble.latest
    return latest


def members_about(case: Case, starts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Members that are off a centre as the true state of a case is, `(member, channel, y, x)`."""
    others = torch.stack([start for i, start in enumerate(starts) if i != case.index])
    generator = Noise(SEED, case.index).generator("members")
    pairs = [generator.permutation(len(others))[:2] for _ in range(MEMBERS + 1)]
    centre, *off = (OFF * (others[i] - others[j]) for i, j in pairs)
    return case.start + centre + torch.stack(off)


def _flowdas(n_steps: int, pull: float) -> FlowdasSpec:
    return FlowdasSpec(coordinates="residual", n_steps=n_steps, step_size=pull / n_steps)
