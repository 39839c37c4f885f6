"""Benchmark `rank_histograms`: where is the truth among the members? One histogram for every system that is filtered.

The rank of the truth among M members, at every point and cycle, spread evenly over its share 1 / (M + 1) of (0, 1) and
counted in tenths: each has 0.1 of the truths when truth and members cannot be told apart.

    outer tenths   0.2; more: the ensemble is too narrow, less: too wide
    lower half     0.5; more: the members lie too high
    share 1 ... 10 the histogram itself

Intervals are over truths (Student). Of every system the interpolant filter with the learned model, and a reference that
knows the true one; settings are those of the benchmark that has the scores (double_well, lorenz63_cycled,
lorenz96_filters, navier_stokes and navier_stokes_cycled, kolmogorov_masf, qg_default), with fewer cycles. Points of one
field are not independent, so a histogram of few truths is uneven by chance: compare the two rows.
Source: Hamill (2001), Mon. Wea. Rev. 129, 550-560. About half an hour of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch

from cycler_da.bench.independent import independent_row
from cycler_da.bench.ranks.fields import (
    QG_SEEDS,
    driven_turbulence,
    driven_turbulence_cycled,
    kolmogorov,
    quasi_geostrophic,
)
from cycler_da.bench.ranks.size import FULL, QUICK, Ranked, Size
from cycler_da.bench.ranks.small_systems import double_well, lorenz63, lorenz96
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.small_systems import double_well as double_well_bench
from cycler_da.bench.small_systems import lorenz63_cycled, lorenz96_cases
from cycler_da.bench.turbulence import kolmogorov_masf, navier_stokes_case
from cycler_da.tables.report import BenchResult, Row

N_SHARES = 10
#: Of the benchmarks that have the scores, in the order of the systems.
SEEDS = (
    *(double_well_bench.SEED, lorenz63_cycled.SEED, lorenz96_cases.SEED),
    *(navier_stokes_case.SEED, kolmogorov_masf.SEED, *QG_SEEDS),
)
SMALL: Mapping[str, Callable[[Size], Iterator[Ranked]]] = {
    "double well": double_well,
    "Lorenz-63": lorenz63,
    "Lorenz-96": lorenz96,
}
FIELDS: Mapping[str, Callable[[Size], Iterator[Ranked]]] = {
    "driven turbulence": driven_turbulence,
    "driven turbulence in cycles": driven_turbulence_cycled,
    "Kolmogorov flow": kolmogorov,
    "quasi-geostrophic": quasi_geostrophic,
}


@benchmark("rank_histograms", summary="ranks of the truth among the members of analyses, every system")
def rank_histograms(quick: bool, progress: Progress) -> BenchResult:
    """Run every system and count."""
    torch.set_num_threads(1)
    size, rows = QUICK if quick else FULL, list[Row]()
    systems = {**SMALL, **FIELDS} if size.has_fields else SMALL
    for done, (name, system) in enumerate(systems.items()):
        progress(done, len(systems), name)
        for ranked in system(size):
            for method, of_truths in ranked.counts.items():
                rows += rank_rows(ranked.case, method, of_truths)
    return BenchResult(
        name="rank_histograms",
        config=asdict(size),
        seeds=SEEDS if size.has_fields else SEEDS[: len(SMALL)],
        rows=tuple(rows),
        notes=("Calibrated: outer tenths 0.2, lower half 0.5, every share 0.1.",),
    )


def rank_rows(case: str, method: str, of_truths: Sequence[np.ndarray]) -> Iterator[Row]:
    """Rows of a histogram from the counts of ranks, `(M + 1)`, of every truth."""
    shares = np.array([tenths(ranks) for ranks in of_truths])
    yield independent_row(case, method, "outer tenths", list(shares[:, 0] + shares[:, -1]))
    yield independent_row(case, method, "lower half", list(shares[:, : N_SHARES // 2].sum(axis=1)))
    for i, share in enumerate(shares.mean(axis=0)):
        yield Row(case, method, f"share {i + 1}", float(share), n=len(of_truths))


def tenths(ranks: np.ndarray) -> np.ndarray:
    """Shares of the truths in the tenths of (0, 1), each rank spread evenly over its part of it."""
    below = np.concatenate([[0.0], np.cumsum(ranks)]) / ranks.sum()
    edges = np.linspace(0.0, 1.0, N_SHARES + 1)
    return np.diff(np.interp(edges, np.linspace(0.0, 1.0, len(below)), below))
