"""Benchmark `verification`: are our scores what theory says, for every ensemble size?

Truth y ~ N(0, 1), members x_i ~ N(mu, sigma^2), all independent. Then exactly, with s^2 = 1 + sigma^2,

    E[fair CRPS] = E|N(mu, s^2)| - sigma / sqrt(pi)           (the same for every M; 1/sqrt(pi) when mu=0, sigma=1)
    E|N(mu, s^2)| = s sqrt(2/pi) exp(-mu^2 / (2 s^2)) + mu erf(mu / (s sqrt(2)))
    E[(m - y)^2] = mu^2 + 1 + sigma^2 / M                      (m: ensemble mean)
    spread/skill = sqrt((M+1)/M sigma^2 / E[(m - y)^2])        (1 when mu=0, sigma=1)

The second part draws AR(1) series and counts how often the 95 % interval of the mean holds the true mean, with
the correction for autocorrelation and without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.noise import Noise
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.consistency import Estimate, mean_interval, score_interval, t_quantile
from cycler_da.verification.scores import score
from cycler_da.verification.sums import ScoreSums, ensemble_sums

SEED = 20260101
#: Case -> (mu, sigma) of the members.
CASES = {"calibrated": (0.0, 1.0), "too little spread": (0.0, 0.5), "biased": (0.5, 1.0)}
SIZES = (2, 5, 20, 100)
CORRELATIONS = (0.0, 0.5, 0.8)
LENGTHS = (20, 50, 200)
_SPIN_UP = 100  # steps; 0.8^100 = 2e-10
_VARIABLE = "z"


@benchmark("verification", summary="scores of Gaussian ensembles against exact values; coverage of intervals")
def verification(quick: bool, progress: Progress) -> BenchResult:
    """Measure scores and intervals where the right answer is known."""
    settings = {"cycles": 20 if quick else 100, "points": 2000 if quick else 10000, "series": 500 if quick else 4000}
    steps: dict[str, Callable[[], list[Row]]] = {}
    for case, n_members in product(CASES, SIZES):
        sizes = {"n_cycles": settings["cycles"], "n_points": settings["points"]}
        steps[f"{case}, M={n_members}"] = partial(_gaussian_rows, case, n_members, **sizes)
    for rho, n_cycles in product(CORRELATIONS, LENGTHS):
        count = settings["series"]
        steps[f"AR(1), rho={rho:g}, n={n_cycles}"] = partial(_coverage_rows, rho, n_cycles, n_series=count)
    rows: list[Row] = []
    for done, (what, make_rows) in enumerate(steps.items()):
        progress(done, len(steps), what)
        rows += make_rows()
    return BenchResult(
        name="verification",
        config=settings,
        seeds=(SEED,),
        rows=tuple(rows),
        notes=(
            "Truth N(0, 1); members N(0, 1) when calibrated, N(0, 0.25) with too little spread, N(0.5, 1) when biased.",
            "AR(1): share of series whose 95 % interval holds the true mean, with and without the correction for "
            "autocorrelation; the right answer is 0.95.",
        ),
    )


def exact_fair_crps(mu: float, sigma: float) -> float:
    """Expected fair CRPS of members N(mu, sigma^2) and truth N(0, 1), for every ensemble size."""
    s = math.hypot(1.0, sigma)
    distance = s * math.sqrt(2 / math.pi) * math.exp(-(mu**2) / (2 * s**2)) + mu * math.erf(mu / (s * math.sqrt(2)))
    return distance - sigma / math.sqrt(math.pi)


def exact_spread_skill(mu: float, sigma: float, n_members: int) -> float:
    """Spread/skill of expected variance and expected squared error."""
    squared_error = mu**2 + 1.0 + sigma**2 / n_members
    return math.sqrt((n_members + 1) / n_members * sigma**2 / squared_error)


def gaussian_sums(mu: float, sigma: float, n_members: int, *, n_cycles: int, n_points: int) -> list[ScoreSums]:
    """Score sums of independent cycles of independent points."""
    stream = f"gaussian mu={mu:g} sigma={sigma:g} M={n_members}"
    cycles = []
    for cycle in range(n_cycles):
        draws = Noise(SEED, cycle).generator(stream).standard_normal((n_members + 1, 1, n_points))
        cycles.append(ensemble_sums(mu + sigma * draws[1:], draws[0], names=[_VARIABLE]))
    return cycles


def ar1_series(rho: float, n_cycles: int, *, n_series: int) -> np.ndarray:
    """Stationary series z_t = rho z_(t-1) + e_t with mean 0, shape (series, cycle)."""
    noise = Noise(SEED).generator(f"ar1 rho={rho:g} n={n_cycles}").standard_normal((_SPIN_UP + n_cycles, n_series))
    states = np.zeros_like(noise)
    states[0] = noise[0]
    for step in range(1, len(noise)):
        states[step] = rho * states[step - 1] + noise[step]
    return states[_SPIN_UP:].T


def _gaussian_rows(case: str, n_members: int, *, n_cycles: int, n_points: int) -> list[Row]:
    mu, sigma = CASES[case]
    cycles = gaussian_sums(mu, sigma, n_members, n_cycles=n_cycles, n_points=n_points)
    exact = {"fair_crps": exact_fair_crps(mu, sigma), "spread_skill": exact_spread_skill(mu, sigma, n_members)}
    rows = []
    for metric, heading in (("fair_crps", "fair CRPS"), ("spread_skill", "spread/skill")):
        measured = score_interval(cycles, partial(score, variable=_VARIABLE, metric=metric))
        rows.append(_row(case, f"M={n_members}", heading, measured))
        rows.append(Row(case, f"M={n_members}", f"{heading}, exact", exact[metric]))
    return rows


def _coverage_rows(rho: float, n_cycles: int, *, n_series: int) -> list[Row]:
    series = ar1_series(rho, n_cycles, n_series=n_series)
    corrected = np.array([_holds_zero(mean_interval(one)) for one in series])
    half = t_quantile(0.975, n_cycles - 1) * series.std(axis=1, ddof=1) / math.sqrt(n_cycles)
    plain = (np.abs(series.mean(axis=1)) <= half).astype(float)
    return [
        _row(f"AR(1), rho={rho:g}", f"{n_cycles} cycles", metric, mean_interval(held))
        for metric, held in (("coverage of the interval", corrected), ("coverage, cycles as independent", plain))
    ]


def _holds_zero(estimate: Estimate) -> float:
    return float(estimate.low <= 0.0 <= estimate.high)


def _row(case: str, method: str, metric: str, estimate: Estimate) -> Row:
    return Row(case, method, metric, estimate.value, estimate.low, estimate.high, estimate.n)


def worst_distance(rows: Sequence[Row]) -> float:
    """Largest distance of a measured score from its exact value, in half widths of its interval."""
    exact = {(row.case, row.method, row.metric): row.value for row in rows}
    worst = 0.0
    for row in rows:
        truth = exact.get((row.case, row.method, f"{row.metric}, exact"))
        if truth is not None and row.low is not None and row.high is not None:
            worst = max(worst, abs(row.value - truth) / ((row.high - row.low) / 2))
    return worst
