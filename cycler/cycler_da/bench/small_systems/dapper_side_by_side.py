"""DAPPER's own code beside ours on the same truth and the same observations, three settings of `dapper`.

Truth and observations are simulated by DAPPER from a state on the attractor; both codes then draw their own members
around it, perturb and rotate with their own numbers, and are scored alike. So what differs is the code and the sampling
of the ensembles, not the truth: the column of differences is paired, seed by seed (Student's t). "correlation" is that
of the two series of errors. Needs the optional package: `pip install 'cycler-da[peers]'`.
Source: Raanes, Chen and Grudzien (2024), JOSS 9, 5150. About 5 minutes of processor time, most of it DAPPER's LETKF.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from cycler_da.bench.independent import independent_row
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.dapper import Run, draw_start, make_network
from cycler_da.bench.small_systems.dapper_cases import LORENZ63, LORENZ96, Case, Method
from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.schemes.base import SchemeContext
from cycler_da.tables.report import BenchResult

SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Pair:
    """A method of ours, its case, and how DAPPER makes the same."""

    case: Case
    method: str
    settings: str  # module of DAPPER with the system and its observations
    make_peer: Callable[[Any], Any]  # from dapper.da_methods


PAIRS = (
    Pair(
        replace(LORENZ63, cycles=200),
        "particle filter N=100 reg 2.4 ESS 0.3",
        "dapper.mods.Lorenz63.sakov2012",
        lambda da: da.PartFilt(N=100, reg=2.4, NER=0.3),
    ),
    Pair(
        replace(LORENZ96, cycles=150),
        "ETKF N=20 infl 1.04 rotated",
        "dapper.mods.Lorenz96.sakov2008",
        lambda da: da.EnKF("Sqrt", N=20, infl=1.04, rot=True),
    ),
    Pair(
        replace(LORENZ96, burn_in=50, cycles=60),
        "LETKF N=7 infl 1.04 radius 4 rotated",
        "dapper.mods.Lorenz96.sakov2008",
        lambda da: da.LETKF(N=7, infl=1.04, rot=True, loc_rad=4),
    ),
)


@benchmark("dapper_side_by_side", summary="DAPPER's code and ours on the same truths and observations")
def dapper_side_by_side(quick: bool, progress: Progress) -> BenchResult:
    """Run both codes on every setting and seed; raises ConfigError without DAPPER."""
    require_dapper()
    seeds, rows = SEEDS[:2] if quick else SEEDS, []
    pairs = [replace(pair, case=replace(pair.case, burn_in=10, cycles=20)) for pair in PAIRS] if quick else list(PAIRS)
    for i_pair, pair in enumerate(pairs):
        progress(i_pair, len(pairs), pair.method)
        errors = [run_both(pair, seed) for seed in seeds]
        ours, theirs = [[float(series[i].mean()) for series in errors] for i in (0, 1)]
        difference = [a - b for a, b in zip(ours, theirs, strict=True)]
        alike = [float(np.corrcoef(series)[0, 1]) for series in errors]
        columns = {"ours": ours, "DAPPER": theirs, "ours - DAPPER": difference, "correlation": alike}
        rows += [independent_row(pair.case.name, pair.method, metric, found) for metric, found in columns.items()]
    config = {"cycles": {pair.method: pair.case.cycles for pair in pairs}}
    notes = ("rmse.a: mean over cycles of the RMS error of the analysis mean. One truth for each seed, shared.",)
    return BenchResult("dapper_side_by_side", config, seeds, tuple(rows), notes)


def require_dapper() -> ModuleType:
    """DAPPER, told to be quiet; raises ConfigError when it is not installed."""
    try:
        dapper = importlib.import_module("dapper")
    except ImportError as error:
        raise ConfigError(
            "dapper_side_by_side runs DAPPER's own code, which is not installed; run `pip install 'cycler-da[peers]'`"
        ) from error
    importlib.import_module("dapper.tools.progressbar").disable_progbar = True  # type: ignore[attr-defined]
    return dapper


def run_both(pair: Pair, seed: int) -> np.ndarray:
    """RMS errors of the analysis mean after the burn-in, `(2, cycle)`: ours and DAPPER's."""
    case = pair.case
    centre = _spun_up(case, seed)
    hmm = _twin(pair, centre)
    require_dapper().set_seed(seed)
    states, values = hmm.simulate()
    peer = pair.make_peer(importlib.import_module("dapper.da_methods"))
    peer.assimilate(hmm, states, values, liveplots=False)
    theirs = np.array([np.sqrt(np.mean(peer.stats.err.a[k] ** 2)) for k in range(len(values))])
    method = next(one for one in case.methods if one.name == pair.method)
    truths = torch.from_numpy(states[hmm.tseq.kko])
    ours = _cycle(case, method, seed, centre, truths, torch.from_numpy(np.array(list(values), dtype=np.float64)))
    return np.stack([ours, theirs])[:, case.burn_in :]


def _spun_up(case: Case, seed: int) -> torch.Tensor:
    dynamics, state = case.system.build(), draw_start(case, seed, "truth", range(1))
    for _ in range(case.spin_up):
        state = dynamics.step(state)
    return state[0]


def _twin(pair: Pair, centre: torch.Tensor) -> Any:
    """DAPPER's hidden Markov model with our start and number of cycles."""
    hmm = importlib.import_module(pair.settings).HMM.copy()
    modelling = importlib.import_module("dapper.mods")
    hmm.tseq.BurnIn, hmm.tseq.Ko = 0, pair.case.burn_in + pair.case.cycles - 1
    hmm.X0 = modelling.GaussRV(mu=centre.flatten().numpy(), C=pair.case.start_variance)
    return hmm


def _cycle(
    case: Case, method: Method, seed: int, centre: torch.Tensor, truths: torch.Tensor, values: torch.Tensor
) -> np.ndarray:
    dynamics, layout = case.system.build(), case.system.layout()
    members = draw_start(case, seed, "members", range(method.members), around=centre)
    run = Run(method, seed, method.spec.build(SchemeContext(layout)), members)  # type: ignore[attr-defined]
    network = make_network(case, layout)
    for i_cycle, (truth, seen) in enumerate(zip(truths, values, strict=True)):
        run.members = dynamics.step(run.members)
        batch = replace(network.batches[0], values=seen)
        analysed = run.analyse(replace(network, batches=(batch,)), Noise(seed, i_cycle))
        run.errors.append(float((analysed.flatten() - truth).square().mean().sqrt()))
    return np.array(run.errors)
