"""Benchmark `radar_ablation`: what do more history, advection and a shorter step give a learned radar forecast?

Small networks of one kind (U-Net, 16 to 32 channels), each trained for the same 500 steps (about a minute and a half)
on two sequences of other radars with frames every five minutes (FMI, and the first 300 minutes of KNMI):

    history 1, 3 or 6 frames      as they were, or brought to the time of the target by block motion (`advected`)
    step 5 or 10 minutes          one step is forecast

One frame has no motion, so there is no advected history of one. Scored on the rest of KNMI and on the SEVIR storm,
which nothing is trained or tuned on: RMSE of the mean (v = code / 255), CSI at codes 16, 73 and 133, and z2, the mean
of ((truth - mean) / std)^2. All rows of a case score the same starts: those with six frames of history (in KNMI, which
sees a part only, what is carried out of the blind part counts as unknown in the advected rows).

Budgets are small and the same for all: a network that has to learn motion would gain most from more. One storm each,
starts overlap: the order of rows is shown, not its significance. About fifteen CPU minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cycler_da.advection import block_flow
from cycler_da.bench.radar.radar_case import SEVIR_FILE, real_data, sevir_storm
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.generative.advected import MeanAndSpread, SpreadHead, StateRange
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.spread_training import fit_mean_and_spread
from cycler_da.generative.training import TrainSettings
from cycler_da.systems.radar_baselines import BASELINES, score_frames
from cycler_da.systems.radar_pairs import PHASES, RadarPairs, RadarSequence, Sampling, make_pairs, read_sequence
from cycler_da.tables.report import BenchResult, Row

SEED, STEPS, CROP = 20261201, 500, 96
MOST_HISTORY, HISTORIES, MINUTES = 6, (1, 3, 6), (10, 5)
TRAINED_UNTIL = 300  # minutes of the KNMI sequence
SCALING, CHANNELS = Scaling((0.0,), (0.1,)), (16, 32, 32)


@dataclass(frozen=True)
class Form:
    """What a network sees."""

    n_history: int
    is_advected: bool

    @property
    def name(self) -> str:
        """Name of the row."""
        frames = "1 frame" if self.n_history == 1 else f"{self.n_history} frames"
        return f"learned, {frames}{', advected' if self.is_advected else ''}"


FORMS = tuple(Form(n, moved) for n in HISTORIES for moved in (False, True) if n > 1 or not moved)


@benchmark(
    "radar_ablation", summary="radar: history of 1, 3, 6 frames, steps of 5 and 10 minutes, with and without advection"
)
def radar_ablation(quick: bool, progress: Progress) -> BenchResult:
    """Train a network of every form, score it beside the baselines."""
    training, cases = sequences()
    steps = 5 if quick else STEPS
    forms, minutes = (FORMS[:1], MINUTES[:1]) if quick else (FORMS, MINUTES)
    rows: list[Row] = []
    jobs = [(step, form) for step in minutes for form in forms]
    for step in minutes:
        for name, parts in cases.items():
            rows += _rows(f"{name}, {step} min", baselines(parts, step))
    for done, (step, form) in enumerate(jobs):
        progress(done, len(jobs), f"{step} min: {form.name}")
        model = trained(training, form, step, steps=steps)
        for name, parts in cases.items():
            rows += _rows(f"{name}, {step} min", {form.name: scored(model, parts, form, step)})
    return BenchResult(
        name="radar_ablation",
        config={
            "trained on": "fmi_20160928, knmi_20100826 (300 minutes), four pixels of each 3 km cell",
            "scored on": f"the rest of knmi_20100826, {SEVIR_FILE}",
            "steps of training": steps,
            "network": {"kind": "unet", "channels": list(CHANNELS)},
            "quick": quick,
        },
        seeds=(SEED,),
        rows=tuple(rows),
        notes=(
            f"Every network was trained for {steps} steps of batch 8: small budgets, the same for all.",
            "The proxies are VIL-like transforms of other radars; the SEVIR storm was never trained on.",
        ),
    )


def sequences() -> tuple[list[RadarSequence], Mapping[str, list[RadarSequence]]]:
    """What is trained on, and what is scored, by name of the case; scored sequences have cells of 3 km."""
    folder = real_data()
    fmi, knmi = (read_sequence(folder / f"{name}.nc") for name in ("fmi_20160928", "knmi_20100826"))
    early = knmi.minutes <= TRAINED_UNTIL
    rest = RadarSequence(knmi.name, np.ascontiguousarray(knmi.codes[~early, 1::3, 1::3]), knmi.minutes[~early])
    training = [fmi, RadarSequence(knmi.name, knmi.codes[early], knmi.minutes[early])]
    return training, {"KNMI proxy": [rest], "SEVIR storm": sevir_storm(folder)}


def trained(
    training: Sequence[RadarSequence], form: Form, minutes: int, *, steps: int, crop: int = CROP
) -> MeanAndSpread:
    """A network of a form after its few steps."""
    sampling = Sampling(minutes=minutes, n_history=form.n_history, is_advected=form.is_advected)
    pairs = make_pairs(training, sampling=sampling, phases=PHASES)
    arguments: dict[str, Any] = {"history": form.n_history, "n_outputs": 2, "channels": list(CHANNELS)}
    settings = TrainSettings(
        network=NetworkSpec("unet", arguments),
        steps=steps,
        batch=8,
        learning_rate=2e-3,
        average_decay=0.995,
        checkpoint_every=steps,
        seed=SEED,
    )
    return fit_mean_and_spread(
        lambda step: pairs.batch(step, settings.batch, seed=settings.seed, crop=crop),
        pairs.whole(range(1)),
        SCALING,
        settings,
        spread=SpreadHead(),
    ).model


def same_starts(parts: Sequence[RadarSequence], form: Form, minutes: int) -> RadarPairs:
    """Samples of a form at the starts that have the longest history."""
    sampling = Sampling(spacing=1, minutes=minutes, n_history=MOST_HISTORY, is_advected=form.is_advected)
    pairs = make_pairs(parts, sampling=sampling, phases=[(0, 0)])
    return RadarPairs(pairs.history[:, -form.n_history :], pairs.target, pairs.known, pairs.sequence)


@torch.no_grad()
def scored(model: MeanAndSpread, parts: Sequence[RadarSequence], form: Form, minutes: int) -> dict[str, float]:
    """Scores of the mean, and z2 of the spread."""
    pairs, limits = same_starts(parts, form, minutes), StateRange()
    moments = [model(part) for part in pairs.history.float().split(8)]
    mean, std = (torch.cat(column) for column in zip(*moments, strict=True))
    mean, target = mean.clamp(limits.low, limits.high), pairs.target.float()
    scores = score_frames(mean[:, 0], target[:, 0], pairs.known[:, 0])
    return {**scores, "z2": float((((target - mean) / std)[pairs.known] ** 2).mean()), "n": float(len(pairs))}


def baselines(parts: Sequence[RadarSequence], minutes: int) -> dict[str, dict[str, float]]:
    """Scores of the forecasts without a network, at the same starts."""
    pairs = same_starts(parts, Form(3, False), minutes)
    frames, target = pairs.history.float(), pairs.target.float()
    flow = torch.cat([block_flow(part) for part in frames.split(8)])
    return {
        name: {
            **score_frames(method(frames[:, -1:], flow, 1)[:, 0], target[:, 0], pairs.known[:, 0]),
            "n": float(len(pairs)),
        }
        for name, method in BASELINES.items()
    }


def _rows(case: str, found: Mapping[str, Mapping[str, float]]) -> list[Row]:
    return [
        Row(case, method, metric, value, n=int(scores["n"]))
        for method, scores in found.items()
        for metric, value in scores.items()
        if metric != "n"
    ]
