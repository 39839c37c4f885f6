"""Benchmark `guidance_cost`: what an assimilated member costs, few guided steps against FlowDAS, on one network.

One transition of the driven vorticity equation, 32 x 32, over 0.5 time units, is trained here on simulated pairs: a
mean network and a residual denoiser (`generative.denoiser`), both fixed from then on. From known states, members are
drawn given 5 % of the cells with error 0.05 deviations of the climate:

    conjugate      stochastic localisation with conjugate guidance, K tau points: 1 + K forward passes
    FlowDAS        Algorithm 2 as printed, N steps, second order, 25 endpoints: 1 + 2 N forward and 2 N backward passes

    no observations, the same network: K = 10

and from members that do not know the state, with forecast and coupling (`guidance_cost_whole`).

Passes are counted at the networks, for each member; seconds and memory are those of this machine, one thread, in this
process (memory: growth of the resident set to its peak during the draw, after freed memory was given back). Zeta of
FlowDAS is tuned on two other states for every N. CRPS (fair) and RMSE of the mean are against the true next states, in
deviations of the climate; intervals over states, `minus FlowDAS` paired with its dearest row.
Limit: the network is small and trained for minutes; the comparison is between ways to use it. About ten CPU minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from cycler_da.bench.passes import Passes
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.turbulence.guidance_cost_case import (
    DENOISER,
    ERROR,
    FRACTION,
    MEAN,
    SEED,
    SIZE,
    Case,
    make_case,
    make_transition,
)
from cycler_da.bench.turbulence.guidance_cost_draws import Draws, rows_of
from cycler_da.bench.turbulence.guidance_cost_whole import whole_steps
from cycler_da.generative.localisation import GaussianDraw, MemberNoise, localise, tau_grid
from cycler_da.generative.transition import Transition
from cycler_da.noise import Noise
from cycler_da.registry import spec_of_block
from cycler_da.schemes.guidance import Guided
from cycler_da.tables.report import BenchResult

#: Steps and the largest tau for a chain of so many points (`generative.localisation.tau_grid`).
POINTS = {1: 3.0, 2: 3.0, 5: 20.0, 10: 60.0, 20: 100.0, 50: 100.0, 100: 100.0, 500: 100.0}
MEMBERS = 4
TUNING, SCORED = 2, 14  # states on which zeta is chosen, and others
#: zeta N, of which the best is taken for every N.
PULLS = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@benchmark("guidance_cost", summary="network passes, seconds and memory of guided draws, few steps against FlowDAS")
def guidance_cost(quick: bool, progress: Progress) -> BenchResult:
    """Train the network, tune zeta, draw with every method."""
    n_states, points = (2, (1, 2, 5, 20)) if quick else (SCORED, tuple(POINTS))
    progress(0, 2 + len(points), "training the transition")
    transition, passes, starts, truths = make_transition(TUNING + n_states, quick=quick)
    cases = [make_case(i, starts[i], truths[i]) for i in range(TUNING + n_states)]
    pulls, best = PULLS[1::2] if quick else PULLS, dict[int, float]()
    drawn = {("no observations", "the same network"): draw_all(transition, passes, cases[TUNING:], None)}
    for done, n in enumerate(points):
        progress(1 + done, 2 + len(points), f"{n} steps")
        drawn[f"{n} steps", "conjugate"] = draw_all(transition, passes, cases[TUNING:], ({"kind": "conjugate"}, n))
        if n < 2:
            continue
        tried = {pull: draw_all(transition, passes, cases[:TUNING], _flowdas(n, pull)).crps for pull in pulls}
        best[n] = min(tried, key=lambda pull: tried[pull])
        drawn[f"{n} steps", "FlowDAS"] = draw_all(transition, passes, cases[TUNING:], _flowdas(n, best[n]))
    dearest = drawn[f"{points[-1]} steps", "FlowDAS"]
    rows = [row for (case, method), draws in drawn.items() for row in rows_of(case, method, draws, dearest)]
    progress(1 + len(points), 2 + len(points), "whole steps")
    steps = (points[-1],) if quick else (50, 500)
    of_whole, whole_note = whole_steps(transition, passes, cases, TUNING, {n: best[n] for n in steps})
    return BenchResult(
        name="guidance_cost",
        config={
            "grid": f"{SIZE} x {SIZE}",
            "members": MEMBERS,
            "states": n_states,
            "observed": f"{FRACTION:.0%} of the cells, error {ERROR} deviations",
            "mean network": dict(MEAN.arguments),
            "denoiser": dict(DENOISER.arguments),
        },
        seeds=(SEED,),
        rows=(*rows, *of_whole),
        notes=(
            f"zeta N of FlowDAS, the best of {', '.join(f'{pull:g}' for pull in pulls)} on two other states: "
            f"{', '.join(f'{pull:g} ({n} steps)' for n, pull in best.items())}.",
            "Passes, seconds and MB are for one member; a pass of the mean network counts as one of the denoiser.",
            "FlowDAS: order 2, 25 endpoints, misfit in deviations of the climate, beta = s^2; its path runs in the "
            "whitened residual, where this network was trained, not in the state itself.",
            whole_note,
        ),
    )


def draw_all(
    transition: Transition, passes: Passes, cases: Sequence[Case], how: tuple[Mapping[str, Any], int] | None
) -> Draws:
    """Draw members of every state by one guidance block and number of tau points; None: without observations."""
    result = Draws()
    for case in cases:
        result.add(partial(_draw, transition, case, how), case.truth, passes)
    return result


def _draw(transition: Transition, case: Case, how: tuple[Mapping[str, Any], int] | None) -> torch.Tensor:
    """Members of a state, physical units."""
    frames = case.start[None, None].expand(MEMBERS, 1, *case.start.shape).contiguous()
    noise = MemberNoise(Noise(SEED, case.index), range(MEMBERS), "cost")
    prediction = transition.predict(frames)
    if how is None:
        draw = GaussianDraw(prediction.endpoint, noise)
        residual = localise(draw, tau_grid(10, POINTS[10]), like=prediction.blank(torch.float64), noise=noise)
    else:
        block, n_points = how
        taus = tau_grid(n_points, POINTS.get(n_points, 100.0))
        guided = Guided(prediction, case.observations, noise, taus, climatology=transition.state_climatology)
        residual = spec_of_block("guidance", block, where="benchmark").build().residual(guided)
    return prediction.to_state(residual.detach())


def _flowdas(n_steps: int, pull: float) -> tuple[Mapping[str, Any], int]:
    return {"kind": "monte_carlo", "n_steps": n_steps, "step_size": pull / n_steps}, 1
