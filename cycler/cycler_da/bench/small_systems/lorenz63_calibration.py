"""Benchmark `lorenz63_calibration`: simulation-based calibration of filters on the learned Lorenz-63.

Truth and members start from one normal law about a point of the attractor, deviation 2; the truth is simulated by the
learned transition itself, the filter uses the same transition, and after three cycles the rank of the truth among the
99 members is noted. Were the filter exact, ranks would be uniform over the 100 places. Chi-square of 20 bins for each
component, its p-value, and the mean of ((rank - mean) / deviation)^2 of a uniform rank: above 1 is too sure.

Every trial is independent, so the p-values mean what they say (Talts et al. 2018, arXiv:1804.06788). With 400 trials a
spread that is 10 % wrong is found about half the time. Ranks are blind to one fault: a filter that ignores its
observations (members guided one by one nearly do) has uniform ranks, for the truth is a draw of the forecast too. How
sharp filters are is in `lorenz63_cycled`. About two minutes of one core.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems.lorenz63_setup import learned_transition, linear_network, starts, true_model
from cycler_da.bench.small_systems.twin import LearnedTruth, Method, Run, make_twin
from cycler_da.noise import Noise
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

SEED = 20261129
N_CYCLES, N_MEMBERS, N_BINS = 3, 99, 20
START_STD = 2.0
NETWORKS = {"X Y Z, error 2": (0, 1, 2), "X, error 2": (0,)}
COMPONENTS = ("X", "Y", "Z")
_SMOOTHER = InterpolantFilterSpec(coupling="perturbed_observations", inflation=1.0)
SPECS: dict[str, InterpolantFilterSpec | EnkfSpec] = {
    "interpolant filter, gamma 0.25": replace(_SMOOTHER, gamma=0.25),
    "interpolant filter, gamma 0 (weights alone)": replace(_SMOOTHER, gamma=0.0),
    "interpolant filter, gamma 1": _SMOOTHER,
    "EnKF": EnkfSpec(inflation=1.0),
    "guided one by one": InterpolantFilterSpec(coupling="none"),
}


@benchmark("lorenz63_calibration", summary="ranks of the truth in filters of the learned Lorenz-63's own simulations")
def lorenz63_calibration(quick: bool, progress: Progress) -> BenchResult:
    """Ranks of every filter on the same simulations."""
    n_trials = 100 if quick else 400
    jobs = [(network, name) for network in NETWORKS for name in SPECS]
    rows: list[Row] = []
    for done, (network, name) in enumerate(jobs):
        progress(done, len(jobs), f"{network}: {name}")
        ranks = truth_ranks(SPECS[name], NETWORKS[network], n_trials=n_trials)
        for component, values in zip(COMPONENTS, ranks.T, strict=True):
            rows.append(Row(network, name, f"{component}, p", p_value(values), n=n_trials))
            rows.append(Row(network, name, f"{component}, sureness", sureness(values), n=n_trials))
    config = {"cycles": N_CYCLES, "members": N_MEMBERS, "bins": N_BINS, "deviation of the start": START_STD}
    return BenchResult("lorenz63_calibration", config, (SEED,), tuple(rows), _NOTES)


def truth_ranks(
    spec: InterpolantFilterSpec | EnkfSpec, channels: tuple[int, ...], *, n_trials: int
) -> Int[Tensor, "trial component"]:
    """Members below the truth after the last cycle."""
    learned = learned_transition(10)
    centre = starts(n_trials, seed=SEED)
    z = Noise(SEED).shared_normal("truth", centre.shape, dtype=torch.float64)
    twin = make_twin(
        LearnedTruth(learned, true_model(10).layout),
        linear_network(channels, 2.0),
        centre + START_STD * z,
        n_cycles=N_CYCLES,
        start_std=START_STD,
        seed=SEED,
        centre=centre,
    )
    states = list(Run(twin, Method("calibration", N_MEMBERS, spec, learned)))[-1]
    return (states < twin.truth[:, -1:]).sum(dim=1)[..., 0]


def p_value(ranks: Int[Tensor, "trial"]) -> float:
    """Probability of a chi-square this large or larger if ranks were uniform."""
    counts = torch.bincount(ranks * N_BINS // (N_MEMBERS + 1), minlength=N_BINS).to(torch.float64)
    expected = len(ranks) / N_BINS
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = torch.tensor((N_BINS - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(degrees, chi_square / 2))


def sureness(ranks: Int[Tensor, "trial"]) -> float:
    """Mean square of standardised ranks: 1 when they are uniform, 3 when all are at the ends."""
    standard = (ranks - N_MEMBERS / 2) / (((N_MEMBERS + 1) ** 2 - 1) / 12) ** 0.5
    return float(standard.square().mean())


_NOTES = (
    "p: of the chi-square over 20 bins; uniform on [0, 1] for an exact filter. Sureness: 1 for uniform ranks, above "
    "for too small a spread; its standard error over 400 trials is 0.045.",
)
