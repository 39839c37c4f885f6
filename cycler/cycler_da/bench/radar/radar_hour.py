"""Benchmark `radar_hour`: forecasts to an hour from frames of real radar that are known, and no observations.

    persistence, global shift, block-flow advection      one forecast each (`systems.radar_baselines`)
    learned transition                                   an ensemble of the released network
    STEPS (pysteps)                                      an ensemble of cascades, where it is installed (`steps_peer`)

From starts ten minutes apart in both windows of the SEVIR storm that nothing was trained or tuned on. Truth and
forecasts are on v = code / 255, codes below the first echo are no echo. RMSE and CSI (codes 16, 73, 133) of the mean,
fair CRPS (mean absolute error of a single forecast), spread/skill, and the fractions skill score of the probability of
code 73 within 8, 16 and 40 km. Starts overlap and are of one storm: no intervals, no significance. Four CPU minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cycler_da.advection import block_flow
from cycler_da.bench.radar import steps_peer
from cycler_da.bench.radar.radar_case import (
    SEVIR_FILE,
    START,
    STEP_MINUTES,
    WEIGHTS,
    Models,
    make_models,
    real_data,
    sevir_storm,
)
from cycler_da.bench.radar.radar_scores import CODES, fraction_rows, fractions_within
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.ensemble import Ensemble
from cycler_da.noise import Noise
from cycler_da.systems.radar_baselines import BASELINES
from cycler_da.systems.radar_pairs import N_HISTORY, SPACING, RadarSequence, scaled_frames
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.neighbourhood import FractionSums
from cycler_da.verification.scores import event_scores, score
from cycler_da.verification.sums import ScoreSums, deterministic_sums, ensemble_sums
from cycler_da.verification.totals import merge

SEED, MEMBERS = 20261202, 16
LEADS = (1, 2, 3, 6)  # steps
STEP = np.timedelta64(STEP_MINUTES, "m")


@dataclass(frozen=True)
class Start:
    """Known frames, what came by lead, and where radars saw it."""

    index: int
    history: torch.Tensor  # (time, y, x) on the code scale
    truth: Mapping[int, torch.Tensor]  # by lead, (y, x)
    known: Mapping[int, torch.Tensor]

    @property
    def leads(self) -> list[int]:
        """Leads whose truth there is."""
        return list(self.truth)


#: What a method makes of a start: by lead `(member, y, x)`, one member for a single forecast.
Method = Callable[[Start], Mapping[int, torch.Tensor]]


@benchmark("radar_hour", summary="real radar to an hour, no observations: advection, learned transition, STEPS")
def radar_hour(quick: bool, progress: Progress) -> BenchResult:
    """Score every method from the same starts."""
    models, n_members = make_models(), 2 if quick else MEMBERS
    starts = [start for storm in sevir_storm(real_data()) for start in starts_of(storm)]
    starts = starts[:2] if quick else starts
    rows: list[Row] = []
    methods = make_methods(models, n_members)
    for done, (name, method) in enumerate(methods.items()):
        progress(done, len(methods), name)
        rows += _rows(name, method, starts)
    missing = () if steps_peer.is_installed() else ("STEPS is left out: pip install 'cycler-da[peers]'.",)
    return BenchResult(
        name="radar_hour",
        config={
            "frames": f"{SEVIR_FILE}, {STEP_MINUTES} minutes, 128 x 128 at 3 km",
            "starts": len(starts),
            "members": n_members,
            "weights": str(WEIGHTS),
            "quick": quick,
        },
        seeds=(SEED,),
        rows=tuple(rows),
        notes=("One storm, starts overlap: the order of methods is shown, not its significance.", *missing),
    )


def starts_of(sequence: RadarSequence) -> Iterator[Start]:
    """Starts ten minutes apart that have full history and at least the first lead."""
    rows = [row for row, minute in enumerate(sequence.minutes) if minute % STEP_MINUTES == 0]
    values, missing = scaled_frames(torch.from_numpy(sequence.codes[rows]))
    for last in range(N_HISTORY - 1, len(values) - LEADS[0]):
        at = {lead: last + lead for lead in LEADS if last + lead < len(values)}
        known = {lead: ~(missing[row] | missing[last]) for lead, row in at.items()}
        truth = {lead: values[row] for lead, row in at.items()}
        yield Start(last, values[last + 1 - N_HISTORY : last + 1], truth, known)


def make_methods(models: Models, n_members: int) -> dict[str, Method]:
    """Methods by name; STEPS where it is installed."""
    methods: dict[str, Method] = {name: _baseline(name) for name in BASELINES}
    methods["learned transition"] = lambda start: _learned(models, start, n_members)
    if steps_peer.is_installed():
        methods["STEPS (pysteps)"] = lambda start: _steps(start, n_members)
    return methods


def _baseline(name: str) -> Method:
    def forecast(start: Start) -> Mapping[int, torch.Tensor]:
        history = start.history[None]
        flow = block_flow(history)
        return {lead: BASELINES[name](history[:, -1:], flow, lead)[0] for lead in start.leads}

    return forecast


def _learned(models: Models, start: Start, n_members: int) -> Mapping[int, torch.Tensor]:
    values = start.history[None, :, None].repeat(n_members, 1, 1, 1, 1)
    known = Ensemble(values, START + STEP * np.arange(1 - N_HISTORY, 1), tuple(range(n_members)), models.layout)
    times = START + STEP * np.array(start.leads)
    made = models.learned.forecast(known, times, noise=Noise(SEED, start.index))
    return {lead: made.values[:, i, 0] for i, lead in enumerate(start.leads)}


def _steps(start: Start, n_members: int) -> Mapping[int, torch.Tensor]:
    made = steps_peer.steps_members(
        start.history.numpy(),
        n_steps=max(start.leads),
        n_members=n_members,
        step_minutes=STEP_MINUTES,
        cell_km=SPACING,
        seed=SEED + start.index,
    )
    return {lead: torch.from_numpy(made[:, lead - 1]) for lead in start.leads}


def _rows(name: str, method: Method, starts: list[Start]) -> list[Row]:
    sums: dict[int, list[ScoreSums]] = {lead: [] for lead in LEADS}
    fractions: dict[int, list[list[FractionSums]]] = {lead: [] for lead in LEADS}
    for start in starts:
        for lead, members in method(start).items():
            sums[lead].append(_sums(members, start.truth[lead], start.known[lead]))
            fractions[lead].append(fractions_within(members, start.truth[lead], start.known[lead]))
    rows: list[Row] = []
    for lead in LEADS:
        case, total, n = f"+{lead * STEP_MINUTES} min", merge(sums[lead]), len(sums[lead])
        events = event_scores(total, "vil_code")
        values = {
            "RMSE": score(total, "vil_code", "rmse"),
            "CRPS": score(total, "vil_code", "fair_crps"),
            "spread/skill": score(total, "vil_code", "spread_skill") if total.n_members > 1 else float("nan"),
            **{f"CSI {code}": events[limit]["csi"] for code, limit in CODES.items()},
        }
        rows += [Row(case, name, metric, value, n=n) for metric, value in values.items()]
        rows += fraction_rows(case, name, fractions[lead])
    return rows


def _sums(members: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> ScoreSums:
    x, y = members[:, None].to(torch.float64).numpy(), truth[None].to(torch.float64).numpy()
    common: dict[str, Any] = {
        "names": ["vil_code"],
        "mask": known[None].numpy(),
        "thresholds": {"vil_code": tuple(CODES.values())},
    }
    return ensemble_sums(x, y, **common) if len(x) > 1 else deterministic_sums(x[0], y, **common)
