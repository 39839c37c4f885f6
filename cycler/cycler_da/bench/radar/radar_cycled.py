"""Benchmark `radar_cycled`: a real storm cycled from an uncertain start, and forecasts to an hour from its analyses.

Cycles of ten minutes over the frames of one window of the SEVIR storm. The start is uncertain as that of a system that
comes up cold: three frames, each drawn by optimal interpolation of 1 % of its pixels from the climatology of proxies.
Then every ten minutes, with errors of four codes (a tenth of VIL in echo):

    5 % of pixels, 1 % of pixels      drawn anew every cycle
    outage                            5 % of pixels, but none in the western half for the third to fifth cycle (30 min)
    super-resolution 8x               the means of 8 x 8 cells (24 km), on the code scale

RMSE, fair CRPS and spread/skill on v = code / 255 over all cycles but the first two, background and analysis; CSI of
the analysis mean at codes 16, 73 and 133, and the fractions skill score of the probability of code 73 within 8, 16 and
40 km; forecasts from the fourth analysis by lead; in the outage the RMSE and spread of the half that nothing observes,
analysis by analysis. The free run looks at no observation and stands once. 3D-Var is an ensemble of 3D-Vars whose B has
the spectral correlation and the local standard deviation that the learned transition predicts.

Radii, inflations and the factor of B (1) are chosen on proxies (docs/radar.md); for blocks the radius is wider (6
cells). One storm: no intervals, no significance; nothing was trained or tuned on it. About twenty CPU minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cycler_da.bench.radar.radar_case import (
    SEVIR_FILE,
    START,
    STEP_MINUTES,
    WEIGHTS,
    Models,
    make_models,
    observed_at,
    real_data,
    sevir_storm,
)
from cycler_da.bench.radar.radar_scores import CODES, fraction_rows, fractions_within
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.ensemble import Ensemble, append_times
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.block_mean import BlockMeanSpec
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.envar import EnvarSpec
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.nudging import NudgingSpec
from cycler_da.schemes.observations_only import ObservationsOnlySpec
from cycler_da.schemes.var3d import Var3dSpec
from cycler_da.systems.radar_pairs import N_HISTORY, RadarSequence, scaled_frames
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.neighbourhood import FractionSums
from cycler_da.verification.scores import event_scores, score
from cycler_da.verification.sums import ScoreSums, ensemble_sums
from cycler_da.verification.totals import merge

SEED, MEMBERS, ERROR = 20261129, 16, 4.0 / 255.0
SETTINGS = ("5 % of pixels", "1 % of pixels", "outage", "super-resolution 8x")
BLOCK = 8
#: Cycles that are not scored, cycles (from 1) without the western half, analyses from which an hour is forecast.
SPIN_UP, BLIND, FORECAST_FROM = 2, (3, 4, 5), (4,)
LEADS = (1, 3, 6)  # steps
STEP = np.timedelta64(STEP_MINUTES, "m")


@dataclass(frozen=True)
class Storm:
    """Frames every ten minutes, on the code scale, and where a radar saw them."""

    frames: torch.Tensor  # (time, 1, y, x)
    known: torch.Tensor  # bool


@dataclass(frozen=True)
class CycleScores:
    """What one cycle of one chain gave."""

    cycle: int
    background: ScoreSums
    analysis: ScoreSums
    blind: ScoreSums  # the analysis, western half
    forecasts: Mapping[int, ScoreSums]  # by lead, where one was made
    fractions: Mapping[int, Sequence[FractionSums]]  # by lead and radius; lead 0 is the analysis


@benchmark("radar_cycled", summary="real radar cycled from an uncertain start: sparse pixels, outage, super-resolution")
def radar_cycled(quick: bool, progress: Progress) -> BenchResult:
    """Cycle every scheme in every setting; the quick version has one setting, two schemes and three cycles."""
    models, storm = make_models(), storm_of(sevir_storm(real_data())[0])
    settings = SETTINGS[:1] if quick else SETTINGS
    n_cycles = 3 if quick else len(storm.frames) - N_HISTORY
    rows: list[Row] = []
    jobs = [(setting, name, spec) for setting in settings for name, spec in schemes(setting, quick=quick).items()]
    if not quick:
        jobs.append(("no observations", "free run", FreeRunSpec()))
    for done, (setting, name, spec) in enumerate(jobs):
        progress(done, len(jobs), f"{setting}: {name}")
        rows += _rows(setting, name, list(cycle(models, storm, spec, setting, n_cycles=n_cycles)))
    return BenchResult(
        name="radar_cycled",
        config={
            "frames": f"{SEVIR_FILE}, window 0, 10 minutes",
            "members": MEMBERS,
            "cycles": n_cycles,
            "cycles not scored": SPIN_UP,
            "error": "4 codes of 255",
            "weights": str(WEIGHTS),
            "quick": quick,
        },
        seeds=(SEED,),
        rows=tuple(rows),
        notes=("One storm, cycles follow each other: the order of methods is shown, not its significance.",),
    )


def storm_of(sequence: RadarSequence) -> Storm:
    """Every frame that lies on a whole step after the first."""
    rows = [row for row, minute in enumerate(sequence.minutes) if minute % STEP_MINUTES == 0]
    values, missing = scaled_frames(torch.from_numpy(sequence.codes[rows]))
    return Storm(values[:, None], ~missing[:, None])


def schemes(setting: str, *, quick: bool) -> dict[str, Any]:
    """Schemes of a setting by name."""
    is_block = setting.startswith("super")
    of_filter, of_letkf = (6.0, 6.0) if is_block else (4.0, 2.0)
    every: dict[str, Any] = {
        "interpolant filter": InterpolantFilterSpec(
            localization_radius_cells=of_filter, weight_stride=4, inflation=1.0
        ),
        "LETKF": LetkfSpec(localization_radius_cells=of_letkf, inflation=1.02),
        "EnVar": EnvarSpec(localization_radius_cells=of_letkf, inflation=1.02),
        "3D-Var": Var3dSpec(std="predicted"),
        "nudging": NudgingSpec(gain=0.8),
        "observations only": ObservationsOnlySpec(),
    }
    return dict(list(every.items())[:2]) if quick else every


def cycle(models: Models, storm: Storm, spec: Any, setting: str, *, n_cycles: int) -> Iterator[CycleScores]:
    """Cycle one scheme; noise and observations are the same for all of them."""
    scheme, carry = spec.build(SchemeContext(models.layout, models.learned)), dict[str, torch.Tensor]()
    states = cold_start(models, storm)
    for k in range(1, n_cycles + 1):
        row, noise = N_HISTORY - 1 + k, Noise(SEED, k)
        background = models.learned.forecast(states, states.valid_times[-1:] + STEP, noise=noise)
        seen = observe(models, storm, setting, row=row, cycle=k)
        analysis = scheme.analyse(Prior(background, states, models.learned), seen, noise=noise, carry=carry)
        carry = dict(analysis.carry)
        states = _recent(append_times(states, held(models, analysis.ensemble)))
        # Not the noise of the background of this cycle, which most analyses still carry.
        forecasts = _forecasts(models, states, Noise(SEED, -1000 - k), storm, row) if k in FORECAST_FROM else {}
        yield CycleScores(
            cycle=k,
            background=_sums(background.latest, storm, row),
            analysis=_sums(states.latest, storm, row),
            blind=_sums(states.latest, storm, row, half=True),
            forecasts={lead: _sums(made, storm, row + lead) for lead, made in forecasts.items()},
            fractions={
                lead: fractions_within(made[:, 0], storm.frames[row + lead, 0], storm.known[row + lead, 0])
                for lead, made in {0: states.latest, **forecasts}.items()
            },
        )


def _recent(states: Ensemble) -> Ensemble:
    return replace(states, values=states.values[:, -N_HISTORY:], valid_times=states.valid_times[-N_HISTORY:])


def held(models: Models, ensemble: Ensemble) -> Ensemble:
    """Analyses held to the range of the code scale, as they are before they are written to files."""
    return ensemble.with_values(models.transition.limits.hold(ensemble.values))


def cold_start(models: Models, storm: Storm) -> Ensemble:
    """Three frames, each drawn from climatology and 1 % of its pixels."""
    scheme = ObservationsOnlySpec().build(SchemeContext(models.layout, models.learned))
    times = START + STEP * np.arange(N_HISTORY)
    frames = []
    for row in range(N_HISTORY):
        blank = torch.zeros((MEMBERS, 1, *models.layout.state_shape))
        empty = Ensemble(blank, times[row : row + 1], tuple(range(MEMBERS)), models.layout)
        seen = observe(models, storm, "1 % of pixels", row=row, cycle=-1 - row)
        drawn = scheme.analyse(Prior(empty), seen, noise=Noise(SEED, -1 - row), carry={}).ensemble
        frames.append(held(models, drawn).latest)
    return Ensemble(torch.stack(frames, dim=1), times, tuple(range(MEMBERS)), models.layout)


def observe(models: Models, storm: Storm, setting: str, *, row: int, cycle: int) -> Observations:
    """Observations of one frame in a setting."""
    shape = models.layout.grid.shape
    if setting.startswith("super"):
        first = BLOCK // 2 + BLOCK * torch.arange(shape[0] // BLOCK)
        cells, seen_by = torch.cartesian_prod(first, first), BlockMeanSpec(factor=BLOCK).build(models.layout)
    else:
        part = 0.01 if setting.startswith("1 %") else 0.05
        chosen = Noise(SEED, cycle).generator("pixels").permutation(shape[0] * shape[1])
        index = torch.from_numpy(np.sort(chosen[: round(part * len(chosen))]))
        cells, seen_by = torch.stack([index // shape[1], index % shape[1]], dim=1), CellSpec().build(models.layout)
        is_seen = storm.known[row, 0][cells[:, 0], cells[:, 1]]
        if setting == "outage" and cycle in BLIND:
            is_seen = is_seen & (cells[:, 1] >= shape[1] // 2)
        cells = cells[is_seen]
    time = START + row * STEP
    return observed_at(
        cells, storm.frames[row], seen_by, models.layout, time=time, error=ERROR, noise=Noise(SEED, cycle)
    )


def _forecasts(models: Models, states: Ensemble, noise: Noise, storm: Storm, row: int) -> dict[int, torch.Tensor]:
    """Members by lead, as far as there are frames."""
    leads = [lead for lead in LEADS if row + lead < len(storm.frames)]
    times = states.valid_times[-1] + STEP * np.array(leads)
    made = models.learned.forecast(states, times, noise=noise)
    return {lead: made.values[:, i] for i, lead in enumerate(leads)}


def _sums(members: torch.Tensor, storm: Storm, row: int, *, half: bool = False) -> ScoreSums:
    known = storm.known[row].clone()
    if half:
        known[..., known.shape[-1] // 2 :] = False
    return ensemble_sums(
        members.to(torch.float64).numpy(),
        storm.frames[row].to(torch.float64).numpy(),
        names=["vil_code"],
        mask=known.numpy(),
        thresholds={"vil_code": tuple(CODES.values())},
    )


def _rows(setting: str, name: str, cycles: Sequence[CycleScores]) -> list[Row]:
    scored = [one for one in cycles if one.cycle > SPIN_UP]
    background, analysis = merge([one.background for one in scored]), merge([one.analysis for one in scored])
    rows = [
        *_metrics(f"{setting}, background", name, background, n=len(scored), with_events=False),
        *_metrics(f"{setting}, analysis", name, analysis, n=len(scored)),
        *fraction_rows(f"{setting}, analysis", name, [one.fractions[0] for one in scored]),
    ]
    for lead in LEADS:
        made = [one for one in scored if lead in one.forecasts]
        if made:
            case = f"{setting}, +{lead * STEP_MINUTES} min"
            rows += _metrics(case, name, merge([one.forecasts[lead] for one in made]), n=len(made))
            rows += fraction_rows(case, name, [one.fractions[lead] for one in made])
    if setting == "outage":
        for one in (one for one in cycles if BLIND[0] - 1 <= one.cycle <= BLIND[-1] + 2):
            minutes = STEP_MINUTES * (one.cycle - BLIND[0] + 1)
            when = f"{minutes} min" if one.cycle <= BLIND[-1] else f"{STEP_MINUTES * (one.cycle - BLIND[-1])} min after"
            case = f"outage, blind half, {when if minutes > 0 else 'before'}"
            rows += _metrics(case, name, one.blind, n=1, with_events=False, with_spread=True)
    return rows


def _metrics(
    case: str, method: str, sums: ScoreSums, *, n: int, with_events: bool = True, with_spread: bool = False
) -> list[Row]:
    values = {
        "RMSE": score(sums, "vil_code", "rmse"),
        "CRPS": score(sums, "vil_code", "fair_crps"),
        "spread/skill": score(sums, "vil_code", "spread_skill"),
    }
    if with_spread:
        values["spread"] = score(sums, "vil_code", "spread")
    if with_events:
        found = event_scores(sums, "vil_code")
        values |= {f"CSI {code}": found[limit]["csi"] for code, limit in CODES.items()}
    return [Row(case, method, metric, value, n=n) for metric, value in values.items()]
