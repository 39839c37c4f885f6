"""Ranks in fields: driven turbulence, Kolmogorov flow and two-layer quasi-geostrophic flow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator

import numpy as np

from cycler_da.bench.ranks.size import OURS, Ranked, Size, ranks_of, sums_of_field
from cycler_da.bench.turbulence import (
    kolmogorov_masf,
    kolmogorov_masf_case,
    kolmogorov_masf_methods,
    navier_stokes,
    navier_stokes_cycled,
    qg_default,
)
from cycler_da.bench.turbulence.navier_stokes_case import known_states, make_models
from cycler_da.config import load_config
from cycler_da.cycle_plan import run_plan
from cycler_da.experiment import SCORES, Experiment
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.forecast.numerical import NumericalSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.setting import build_setting
from cycler_da.verification.sums import ScoreSums

TRUE = "LETKF, true model"
NS_SETTINGS = ("SR 4x", "SO 1.5625 %")
#: Radius and inflation of the filter and of the LETKF, as `navier_stokes_cycled` has found them.
NS_CHOSEN = {navier_stokes_cycled.OURS: (5.0, 1.05), TRUE: (3.0, 1.05)}
#: The densest grid of `kolmogorov_masf`, with options that an earlier search there has found.
KOLMOGOROV_FILTER = InterpolantFilterSpec(localization_radius_cells=6.0, inflation=1.0, weight_stride=2)
KOLMOGOROV_LETKF = LetkfSpec(localization_radius_cells=8.0, inflation=1.0, rtps=0.25, weight_stride=2)
#: Truths of `qg_default`.
QG_SEEDS = (5, 7, 8)
#: Chains of the default experiment -> names here.
QG_CHAINS = {"interpolant_filter": OURS, qg_default.REFERENCE: TRUE}


def driven_turbulence(size: Size) -> Iterator[Ranked]:
    """One analysis from a known state."""
    models = make_models()
    states = list(known_states(models, 1 + size.states))[1:]
    methods = {
        OURS: navier_stokes.filter_method(models),
        TRUE: navier_stokes.letkf_method(models, is_true=True, inflation=1.0),
    }
    for setting in NS_SETTINGS:
        counts = {
            name: [
                ranks_of([sums_of_field(method(state, navier_stokes.seen_by(setting, state)), state.truth)])
                for state in states
            ]
            for name, method in methods.items()
        }
        yield Ranked(f"driven turbulence, {setting}", counts)


def driven_turbulence_cycled(size: Size) -> Iterator[Ranked]:
    """Many analyses from an uncertain start."""
    models = make_models()
    chains = navier_stokes_cycled.chains_of(models)
    counts = {}
    for name, (radius, inflation) in NS_CHOSEN.items():
        chain = chains[name]
        spec, n_cycles = chain.make(radius, inflation), size.field_cycles
        counts[OURS if name == navier_stokes_cycled.OURS else name] = [
            ranks_of(
                sums_of_field(members, true)
                for members, true in list(navier_stokes_cycled.cycle(models, chain.model, spec, 1 + truth, n_cycles))[
                    n_cycles // 2 :
                ]
            )
            for truth in range(size.truths)
        ]
    yield Ranked(f"driven turbulence in cycles, {navier_stokes_cycled.SETTING}", counts)


def kolmogorov(size: Size) -> Iterator[Ranked]:
    """Every tenth point, six analyses; the first is not counted."""
    layout, setting = kolmogorov_masf_case.LAYOUT, kolmogorov_masf_methods.DENSEST
    true = NumericalSpec(system={"kind": "kolmogorov"}).build(layout)
    learned = InterpolantSpec(weights=kolmogorov_masf_methods.LEARNED).build(layout)
    cases = [kolmogorov_masf_case.make_case(kolmogorov_masf.SEED + 1 + i, 6) for i in range(size.truths)]
    counts: dict[str, list[np.ndarray]] = {OURS: [], TRUE: []}
    for case in cases:
        for name, spec, model in ((OURS, KOLMOGOROV_FILTER, learned), (TRUE, KOLMOGOROV_LETKF, true)):
            run = kolmogorov_masf_case.cycle(case, spec, model, setting, first=KOLMOGOROV_LETKF)
            truths = case.truth[:: kolmogorov_masf_case.GAP]
            pairs = list(zip(run.analyses, truths, strict=True))[1:]
            counts[name].append(ranks_of(sums_of_field(members, truth) for members, truth in pairs))
    yield Ranked(f"Kolmogorov flow, {setting.label}", counts)


def quasi_geostrophic(size: Size) -> Iterator[Ranked]:
    """The default experiment."""
    plan = qg_default.Plan(QG_SEEDS[: size.truths], 2 * size.field_cycles, size.field_cycles, 32)
    counts: dict[str, list[np.ndarray]] = {name: [] for name in QG_CHAINS.values()}
    for seed in plan.seeds:
        with tempfile.TemporaryDirectory() as folder:
            config = qg_default.with_controls(load_config(qg_default.CONFIG, plan.changes(folder, seed)))
            kept = [chain for chain in config.chains if chain.name in QG_CHAINS]
            with Experiment(build_setting(config.model_copy(update={"chains": kept}))) as experiment:
                experiment.prepare()
                run_plan(experiment)
                for chain, name in QG_CHAINS.items():
                    scores = [json.loads((cycle / SCORES).read_text()) for cycle in experiment.counted_cycles(chain)]
                    counts[name].append(ranks_of(ScoreSums.from_json(one["analysis"]) for one in scores))
    yield Ranked("quasi-geostrophic, 5 % of values", counts)
