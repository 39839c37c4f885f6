"""Benchmark `guidance_cost`: what an assimilated member costs, few guided steps against FlowDAS, on one network.

One transition of the driven vorticity equation, 32 x 32, over 0.5 time units, is trained here on simulated pairs: a
mean network and a residual denoiser (`generative.denoiser`), both fixed from then on. From known states, members are
drawn given 5 % of the cells with error 0.05 deviations of the climate:

    conjugate      stochastic localisation with conjugate guidance, K tau points: 1 + K forward passes
    FlowDAS        Algorithm 2 as printed, N steps, second order, 25 endpoints: 1 + 2 N forward and 2 N backward passes

    no observations, the same network: K = 10

Passes are counted at the networks, for each member; seconds and memory are those of this machine, one thread, in this
process (memory: growth of the resident set to its peak during the draw, after freed memory was given back). Zeta of
FlowDAS is tuned on two other states for every N. CRPS (fair) and RMSE of the mean are against the true next states, in
deviations of the climate; intervals over states, `minus FlowDAS` paired with its dearest row.
Limit: the network is small and trained for minutes; the comparison is between ways to use it. About ten CPU minutes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from cycler_da.bench.independent import independent_row, spread_skill_row
from cycler_da.bench.memory import added_at_peak
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.field_training import SimulatedData, simulate
from cycler_da.generative.denoiser import train_denoiser
from cycler_da.generative.ensemble_evaluation import ensemble_scores
from cycler_da.generative.localisation import GaussianDraw, MemberNoise, localise, tau_grid
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import TrainSettings, train
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import wave_blocks, wave_covariance
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.registry import spec_of_block
from cycler_da.schemes.guidance import Guided
from cycler_da.tables.report import BenchResult, Row

SEED, SIZE, STD, ERROR, FRACTION = 20261126, 32, 2.28, 0.05, 0.05
SCALING = Scaling((0.0,), (STD,))
SYSTEM = {"kind": "stochastic_ns", "size": SIZE, "time_step": 0.025, "step": "30min"}
MEAN = NetworkSpec("quadratic_spectral", {"size": SIZE, "channels": 1, "products": 6, "stages": 4})
DENOISER = NetworkSpec("fno", {"extra": 1, "width": 8, "modes": 8, "layers": 2, "has_level": True})
#: Steps and the largest tau for a chain of so many points (`generative.localisation.tau_grid`).
POINTS = {1: 3.0, 2: 3.0, 5: 20.0, 10: 60.0, 20: 100.0, 50: 100.0, 100: 100.0, 500: 100.0}
MEMBERS = 4
TUNING, SCORED = 2, 14  # states on which zeta is chosen, and others
#: zeta N, of which the best is taken for every N.
PULLS = (0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass
class Passes:
    """Passes of a network, counted as it runs; a pass of a batch is one pass of each member."""

    forward: int = 0
    backward: int = 0

    def watch(self, module: nn.Module) -> None:
        """Count the passes of a module from now on."""
        module.register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        self.forward += 1
        if output.requires_grad:
            output.register_hook(self._note_backward)

    def _note_backward(self, gradient: torch.Tensor) -> None:
        self.backward += 1


@dataclass(frozen=True)
class Case:
    """A known state, the true next one, and its observations."""

    index: int
    start: torch.Tensor
    truth: torch.Tensor
    observations: Observations


@dataclass
class Draws:
    """What the draws of a method cost and how good they were, state by state."""

    passes: Passes = field(default_factory=Passes)
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    scores: list[Mapping[str, float]] = field(default_factory=list)


@benchmark("guidance_cost", summary="network passes, seconds and memory of guided draws, few steps against FlowDAS")
def guidance_cost(quick: bool, progress: Progress) -> BenchResult:
    """Train the network, tune zeta, draw with every method."""
    n_states, points = (2, (1, 2, 5, 20)) if quick else (SCORED, tuple(POINTS))
    progress(0, 1 + len(points), "training the transition")
    transition, passes, starts, truths = make_transition(quick=quick)
    cases = [make_case(i, starts[i], truths[i]) for i in range(TUNING + n_states)]
    pulls, best = PULLS[1::2] if quick else PULLS, dict[int, float]()
    drawn = {("no observations", "the same network"): draw_all(transition, passes, cases[TUNING:], None)}
    for done, n in enumerate(points):
        progress(1 + done, 1 + len(points), f"{n} steps")
        drawn[f"{n} steps", "conjugate"] = draw_all(transition, passes, cases[TUNING:], ({"kind": "conjugate"}, n))
        if n < 2:
            continue
        tried = {pull: _mean(draw_all(transition, passes, cases[:TUNING], _flowdas(n, pull)), "crps") for pull in pulls}
        best[n] = min(tried, key=lambda pull: (not tried[pull] < np.inf, tried[pull]))
        drawn[f"{n} steps", "FlowDAS"] = draw_all(transition, passes, cases[TUNING:], _flowdas(n, best[n]))
    dearest = drawn[f"{points[-1]} steps", "FlowDAS"]
    rows = [row for (case, method), draws in drawn.items() for row in _rows(case, method, draws, dearest)]
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
        rows=tuple(rows),
        notes=(
            f"zeta N of FlowDAS, the best of {', '.join(f'{pull:g}' for pull in pulls)} on two other states: "
            f"{', '.join(f'{pull:g} ({n} steps)' for n, pull in best.items())}.",
            "Passes, seconds and MB are for one member; a pass of the mean network counts as one of the denoiser.",
            "FlowDAS: order 2, 25 endpoints, misfit in deviations of the climate, beta = s^2; its path runs in the "
            "whitened residual, where this network was trained, not in the state itself.",
        ),
    )


def make_transition(*, quick: bool) -> tuple[Transition, Passes, torch.Tensor, torch.Tensor]:
    """Train on simulated pairs; returns held-out known states and their true next ones as well."""
    size = {"trajectories": 8, "steps": 40} if quick else {"trajectories": 10, "steps": 60}
    held_out = 2 * (TUNING + (2 if quick else SCORED))  # half of them for the covariance
    data = SimulatedData(
        system=SYSTEM, seed=SEED, held_out=held_out, perturbed_fraction=0.0, covariance="waves", **size
    )
    training, calibration, trajectories = simulate(data, SCALING)
    steps = (60, 60) if quick else (300, 300)
    fitted = train(training, calibration, SCALING, TrainSettings(MEAN, steps[0], seed=1))
    covariance = wave_covariance(wave_blocks(fitted.residuals))
    frames = SCALING.to_scaled(training.frames[:, 0])
    with torch.no_grad():
        increments = torch.cat([fitted.network(part) for part in frames.split(64)])
    residuals = SCALING.to_scaled(training.targets) - frames - increments
    settings = TrainSettings(DENOISER, steps[1], batch=16, learning_rate=3e-3, seed=2)
    denoiser = train_denoiser(frames, covariance.whiten(residuals), settings)
    passes = Passes()
    passes.watch(fitted.network)
    passes.watch(denoiser)
    for module in (fitted.network, denoiser):
        module.requires_grad_(False)
    climatology = wave_covariance(wave_blocks(frames))
    transition = Transition(fitted.network, SCALING, covariance, climatology=climatology, denoiser=denoiser)
    middle = trajectories.shape[1] // 2
    return transition, passes, trajectories[:, middle], trajectories[:, middle + 1]


def make_case(index: int, start: torch.Tensor, truth: torch.Tensor) -> Case:
    """Observe random cells of the true next state."""
    layout, noise = SimulatedData(system=SYSTEM, seed=SEED).system_spec().layout(), Noise(SEED, index)
    n_obs = round(FRACTION * SIZE**2)
    cells = torch.from_numpy(noise.generator("cells").permutation(SIZE**2)[:n_obs])
    index_yx = torch.stack([cells // SIZE, cells % SIZE], dim=1).to(torch.float64)
    where = Locations(index_yx * layout.grid.axes[0].spacing, torch.zeros(n_obs, dtype=torch.int64))
    error = ERROR * STD
    values = truth.flatten()[cells].to(torch.float64)
    batch = ObsBatch(
        stream="cells",
        operator=CellSpec().build(layout),
        where=where,
        values=values + error * noise.shared_normal("error", (n_obs,), dtype=torch.float64),
        error=torch.full((n_obs,), error, dtype=torch.float64),
        times=np.full(n_obs, np.datetime64("2020-01-01T00:30:00", "s")),
        ids=np.array([str(int(cell)) for cell in cells]),
        flags=torch.zeros(n_obs, dtype=torch.int32),
    )
    return Case(index, start, truth, Observations((batch,), layout))


def draw_all(
    transition: Transition, passes: Passes, cases: list[Case], how: tuple[Mapping[str, Any], int] | None
) -> Draws:
    """Draw members of every state by one guidance block and number of tau points; None: without observations."""
    result = Draws()
    for case in cases:
        states: list[torch.Tensor] = []

        def work(case: Case = case, states: list[torch.Tensor] = states) -> None:
            began = time.perf_counter()
            states.append(_draw(transition, case, how))
            result.seconds.append((time.perf_counter() - began) / MEMBERS)

        passes.forward = passes.backward = 0
        result.megabytes.append(added_at_peak(work) / MEMBERS)
        result.passes.forward, result.passes.backward = passes.forward, passes.backward
        scaled, truth = SCALING.to_scaled(states[0]), SCALING.to_scaled(case.truth)
        result.scores.append(ensemble_scores(scaled[:, None], truth[None]))
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


def _mean(draws: Draws, score: str) -> float:
    value = float(np.mean([one[score] for one in draws.scores]))
    return value if np.isfinite(value) else np.inf


def _rows(case: str, method: str, draws: Draws, dearest: Draws) -> list[Row]:
    rows = [
        Row(case, method, "forward", float(draws.passes.forward)),
        Row(case, method, "backward", float(draws.passes.backward)),
        Row(case, method, "seconds", float(np.median(draws.seconds))),
        Row(case, method, "MB", float(np.median(draws.megabytes))),
    ]
    found = {key: [one[key] for one in draws.scores] for key in ("rmse", "crps", "spread_skill")}
    return [
        *rows,
        independent_row(case, method, "RMSE", found["rmse"]),
        independent_row(case, method, "fair CRPS", found["crps"]),
        spread_skill_row(case, method, "spread/skill", found["rmse"], found["spread_skill"]),
        *_paired(case, method, draws, dearest),
    ]


def _paired(case: str, method: str, draws: Draws, dearest: Draws) -> list[Row]:
    """CRPS minus that of the dearest FlowDAS, state by state."""
    if draws is dearest:
        return []
    pairs = zip(draws.scores, dearest.scores, strict=True)
    return [independent_row(case, method, "CRPS minus FlowDAS", [a["crps"] - b["crps"] for a, b in pairs])]
