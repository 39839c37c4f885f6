"""Benchmark `radar_next_frame`: the next frame of real radar from known frames and a few of its own pixels.

As in the FlowDAS paper's radar experiment the frames up to the start are known, and the next one, ten minutes later, is
seen at 10 % of the pixels (here also at 1 %, and not at all) with an error of a ten-thousandth of the code
scale. All methods get the same frames and pixels; all that are learned use the same released network.

    persistence, global shift, advection      without observations (`systems.radar_baselines`)
    advection + OI                            exponential covariance, one deviation for all pixels, or the learned one
    observations only                         OI from the climatology of the proxies
    learned + OI, one deviation               the network's mean, exponential covariance
    no observations                           the learned transition's ensemble
    LETKF                                     of that ensemble
    FlowDAS                                   Algorithm 2 on that transition, 50 to 500 steps
    interpolant filter                        and with few members beside FlowDAS, 1 to 20 points of tau

RMSE (of the mean, and of one member), CRPS (fair; mean absolute error of a single forecast) and spread/skill on
v = code / 255 against decoded frames, where codes below the first echo are no echo; `raw` against codes as stored; CSI
of the mean at v = .3 and .5. Seconds are CPU seconds of this process for one member, forecast included.

Lengths, deviations, LETKF's radius and FlowDAS' zeta are chosen on proxies of other radars. The scored frames are of
one SEVIR storm, which nothing was trained or tuned on; starts overlap: one case, no intervals, no significance. They
are not the SEVIR test set: FlowDAS' printed numbers (.050 to .056) are those of other frames. About fifteen
CPU minutes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from cycler_da.bench.radar.radar_case import (
    SEVIR_FILE,
    WEIGHTS,
    Case,
    Models,
    make_cases,
    make_models,
    pixels,
    proxy_storms,
    real_data,
    sevir_storm,
)
from cycler_da.bench.radar.radar_methods import (
    FEW,
    MEMBERS,
    SEED,
    Method,
    with_filter,
    with_flowdas,
    with_oi,
    with_scheme,
    without_observations,
)
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.observations_only import ObservationsOnlySpec
from cycler_da.systems.radar_pairs import RadarSequence
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.scores import event_scores, score
from cycler_da.verification.sums import ScoreSums, deterministic_sums, ensemble_sums
from cycler_da.verification.totals import merge

ERROR = 1.0e-4
FRACTIONS = (0.1, 0.01)
THRESHOLDS = (0.3, 0.5)
#: Sequences of other radars on which free numbers are chosen; the first is not trained on either.
PROXIES = ("mrms_20190610_OH_IN", "knmi_20100826")
#: Points of tau and steps of FlowDAS by share of pixels; zeta N, from which the best is chosen with the fewest steps.
POINTS = {0.1: (1, 5, 20), 0.01: (1,)}
STEPS = {0.1: (50, 100, 500), 0.01: (50, 100)}
PULLS = (0.3, 1.0, 3.0)
LENGTHS, RADII = (1.0, 1.5, 2.0, 3.0), (2.0, 3.0, 4.0)  # cells


@dataclass(frozen=True)
class Sums:
    """Score sums of one method."""

    mean: ScoreSums  # of the ensemble, against decoded frames
    raw: ScoreSums  # against codes as stored
    member: ScoreSums  # of the first member alone
    seconds: float  # CPU, for one member

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            merge([self.mean, other.mean]),
            merge([self.raw, other.raw]),
            merge([self.member, other.member]),
            self.seconds + other.seconds,
        )


@benchmark("radar_next_frame", summary="next frame of real radar, 10 % and 1 % of pixels: all methods on one network")
def radar_next_frame(quick: bool, progress: Progress) -> BenchResult:
    """Choose free numbers on proxies, then score every method on the SEVIR storm."""
    folder = real_data()
    models = make_models()
    proxies = _some(proxy_storms(folder, PROXIES), apart=30, most=1)
    cases = _some(sevir_storm(folder), apart=40, most=1 if quick else 3)
    fractions = FRACTIONS[:1] if quick else FRACTIONS
    rows: list[Row] = []
    notes: list[str] = []
    progress(0, 1 + 2 * len(fractions), "no observations")
    rows += _scored("no observations", without_observations(models), cases, models, 0.0)
    for done, fraction in enumerate(fractions):
        case = f"{100 * fraction:g} % of pixels"
        progress(1 + 2 * done, 1 + 2 * len(fractions), f"{case}: choose on proxies")
        chosen = _choose(models, proxies, fraction, quick=quick)
        notes.append(f"chosen on proxies, {case}: " + ", ".join(f"{k} {v:g}" for k, v in chosen.items()))
        progress(2 + 2 * done, 1 + 2 * len(fractions), case)
        rows += _scored(case, _with(models, chosen, fraction, quick=quick), cases, models, fraction)
    return BenchResult(
        name="radar_next_frame",
        config={
            "frames": f"{SEVIR_FILE}, 10 minutes, 128 x 128 at 3 km",
            "cases": [case.name for case in cases],
            "error": ERROR,
            "members": MEMBERS,
            "few members": FEW,
            "proxies": list(PROXIES),
            "weights": str(WEIGHTS),
            "quick": quick,
        },
        seeds=(SEED,),
        rows=tuple(rows),
        notes=(
            *notes,
            "With known frames all members start from the same frames, so the coupling of the interpolant filter has "
            "nothing to move, and one point of tau is exact for the transition, which is Gaussian: more cost more.",
            "RMSE of the mean falls with the number of members; RMSE of a member does not.",
        ),
    )


def _some(sequences: Sequence[RadarSequence], *, apart: int, most: int) -> list[Case]:
    """The first `most` cases of every sequence."""
    cases: list[Case] = []
    for sequence in sequences:
        cases += list(make_cases([sequence], apart=apart, first=len(cases)))[:most]
    return cases


def _with(models: Models, chosen: Mapping[str, float], fraction: float, *, quick: bool) -> dict[str, Method]:
    """Methods that use the observations, with the numbers chosen for them."""
    n_steps, points = ((10,), (1,)) if quick else (STEPS[fraction], POINTS[fraction])
    return {
        "observations only": with_scheme(models, ObservationsOnlySpec()),
        "advection + OI, one deviation": with_oi(models, chosen["length, advection"], mean="advected", deviation="one"),
        "advection + OI, learned deviation": with_oi(
            models, chosen["length, advection"], mean="advected", deviation="learned"
        ),
        "learned + OI, one deviation": with_oi(models, chosen["length, learned"], mean="learned", deviation="one"),
        "LETKF": with_scheme(models, LetkfSpec(localization_radius_cells=chosen["radius"], inflation=1.0)),
        "interpolant filter": with_filter(models, 1, n_members=MEMBERS),
        **{f"FlowDAS, {n} steps (few members)": with_flowdas(models, chosen["zeta N"], n) for n in n_steps},
        **{f"interpolant filter, {n} of tau (few members)": with_filter(models, n, n_members=FEW) for n in points},
    }


def _choose(models: Models, proxies: Sequence[Case], fraction: float, *, quick: bool) -> dict[str, float]:
    """The best of every free number on the proxies, by CRPS."""
    scored = proxies[:1] if quick else proxies

    def best(candidates: Mapping[float, Method]) -> float:
        found = {}
        for value, method in candidates.items():
            seen = [pixels(case, models.layout, fraction=fraction, error=ERROR, seed=SEED) for case in scored]
            sums = merge([_sums(method(case, y), case).mean for case, y in zip(scored, seen, strict=True)])
            found[value] = score(sums, "vil_code", "fair_crps")
        return min(found, key=lambda value: found[value])

    lengths = LENGTHS[1:3] if quick else LENGTHS
    pulls = PULLS[1:2] if quick else PULLS
    radii = RADII[:1] if quick else RADII
    n_steps = 10 if quick else STEPS[fraction][0]
    letkf = {r: with_scheme(models, LetkfSpec(localization_radius_cells=r, inflation=1.0)) for r in radii}
    return {
        "length, advection": best({n: with_oi(models, n, mean="advected", deviation="one") for n in lengths}),
        "length, learned": best({n: with_oi(models, n, mean="learned", deviation="one") for n in lengths}),
        "radius": best(letkf),
        "zeta N": best({pull: with_flowdas(models, pull, n_steps) for pull in pulls}),
    }


def _scored(
    case_name: str, methods: Mapping[str, Method], cases: Sequence[Case], models: Models, fraction: float
) -> list[Row]:
    rows = []
    for name, method in methods.items():
        total: Sums | None = None
        for case in cases:
            seen = pixels(case, models.layout, fraction=fraction, error=ERROR, seed=SEED)
            began = time.process_time()
            members = method(case, seen)
            sums = replace(_sums(members, case), seconds=(time.process_time() - began) / len(members))
            total = sums if total is None else total + sums
        assert total is not None
        rows += _rows(case_name, name, total, len(cases))
    return rows


def _sums(members: torch.Tensor, case: Case) -> Sums:
    mask, x = case.known.numpy(), members.to(torch.float64).numpy()
    common: dict[str, Any] = {"names": ["vil_code"], "mask": mask, "thresholds": {"vil_code": THRESHOLDS}}
    make = ensemble_sums if len(x) > 1 else lambda x, y, **options: deterministic_sums(x[0], y, **options)
    truth, raw = case.truth.to(torch.float64).numpy(), case.raw.to(torch.float64).numpy()
    return Sums(make(x, truth, **common), make(x, raw, **common), deterministic_sums(x[0], truth, **common), 0.0)


def _rows(case: str, method: str, sums: Sums, n: int) -> list[Row]:
    events = event_scores(sums.mean, "vil_code")
    values = {
        "RMSE": score(sums.mean, "vil_code", "rmse"),
        "RMSE of a member": score(sums.member, "vil_code", "rmse"),
        "CRPS": score(sums.mean, "vil_code", "fair_crps"),
        **{f"CSI {limit}": events[limit]["csi"] for limit in THRESHOLDS},
        "spread/skill": score(sums.mean, "vil_code", "spread_skill") if sums.mean.n_members > 1 else float("nan"),
        "RMSE, raw": score(sums.raw, "vil_code", "rmse"),
        "CRPS, raw": score(sums.raw, "vil_code", "fair_crps"),
        "s / member": sums.seconds / n,
    }
    return [Row(case, method, metric, value, n=n) for metric, value in values.items()]
