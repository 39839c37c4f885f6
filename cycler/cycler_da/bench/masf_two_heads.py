"""Benchmark `masf_two_heads`: MASF's forms for any observation operator against Bayes, with exact heads.

    linear    one value with prior N(0, 1), observed as y = c x + e, and two values of correlation .9 of which one is
              observed. Samplers are affine maps of their noise, and moments are computed as in `masf_exact`
    curved    one value with prior N(0, 1), observed through arctan(3 x) or x^2. Both heads are quadratures over the
              prior, exact; 400 draws of a sampler are compared with the posterior on the same quadrature

Quantities: mean and variance as parts of the exact ones; for curved h the distance of the draws from the posterior
(Wasserstein-1, units of the posterior's deviation), beside that of as many draws from the posterior itself. Augmented:
unguided bridge of (x, h(x)). Dual head: as published, 200 steps, with and without its multipliers. Gaussian of members:
the augmented form as the scheme `masf_two_heads` runs it without weights. Three minutes of one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.unit_draws import UnitDraws, every_step, moments
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import Multiplier, bridge_signals
from cycler_da.generative.two_head_sampling import (
    DUAL_HEAD_GUIDANCE,
    DUAL_HEAD_PRIOR,
    sample_augmented,
    sample_dual_head,
)
from cycler_da.generative.two_heads import (
    Augmented,
    GaussianHeads,
    GaussianPair,
    Mixed,
    PairProcess,
    pair_of_covariance,
    pair_of_members,
    variance_at,
)
from cycler_da.noise import Noise
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: c and R of the linear problems of one value, y = 1.
LINEAR = ((1.0, 0.25), (0.5, 0.25), (2.0, 0.25), (1.0, 0.01))
CORRELATION = 0.9
DUAL_STEPS, BRIDGE_STEPS = 200, 60
MULTIPLIERS = {
    "dual head, multipliers 1": (Multiplier(), Multiplier()),
    "dual head as published": (DUAL_HEAD_PRIOR, DUAL_HEAD_GUIDANCE),
}
SEED = 20261127


@dataclass(frozen=True)
class LinearPair:
    """x ~ N(0, P) of n values, h = G x with G diagonal, and R of every observed value."""

    covariance: Float[Tensor, "n n"]
    gains: Float[Tensor, "n"]  # 0: not observed
    error_variance: float

    @property
    def mask(self) -> Float[Tensor, "1 n"]:
        """1 where observed."""
        return (self.gains != 0).to(torch.float64)[None]

    def pair(self) -> GaussianPair:
        """The law of (x, h)."""
        both = torch.cat([torch.eye(len(self.gains), dtype=torch.float64), torch.diag(self.gains)])
        covariance = both @ self.covariance @ both.mT
        return pair_of_covariance(torch.zeros(len(covariance), dtype=torch.float64), covariance)

    def posterior(self, y: Float[Tensor, "n"]) -> tuple[Tensor, Tensor]:
        """Mean and covariance given the observed values."""
        seen = self.gains != 0
        h = torch.diag(self.gains)[seen]
        system = h @ self.covariance @ h.mT + self.error_variance * torch.eye(len(h), dtype=torch.float64)
        gain = torch.linalg.solve(system, h @ self.covariance).mT
        return gain @ y[seen], self.covariance - gain @ h @ self.covariance


def augmented_moments(problem: LinearPair, n_steps: int, y: Float[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the draws of `sample_augmented`."""
    n, pair = len(y), problem.pair()
    process = Augmented(problem.mask, torch.full((2 * n,), problem.error_variance, dtype=torch.float64))
    slots = {("augmented.end", 0): n} | every_step({"draw": len(pair.root), "augmented": 2 * n}, n_steps)
    noise, signals = UnitDraws(slots), bridge_signals(n_steps, noise_std=problem.error_variance**0.5)
    drawn = sample_augmented(process, GaussianHeads(pair, process), y, signals, noise=cast(MemberNoise, noise))
    return moments(drawn)


def dual_head_moments(
    problem: LinearPair, n_steps: int, y: Float[Tensor, "n"], *, prior: Multiplier, guidance: Multiplier
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the draws of `sample_dual_head` from members of the prior; blank cells of y are 0."""
    n, pair = len(y), problem.pair()
    process = Mixed(problem.mask, torch.full((n,), problem.error_variance, dtype=torch.float64))
    slots = [("members", 0), ("dual_head.start", 0), *(("dual_head", i) for i in range(n_steps))]
    noise = UnitDraws({slot: n for slot in slots})
    states = noise.normal("members", (n,), step=0) @ torch.linalg.cholesky(problem.covariance).mT
    drawn = sample_dual_head(
        process,
        GaussianHeads(pair, process),
        y,
        torch.cat([states, states * problem.gains], dim=1),
        noise=cast(MemberNoise, noise),
        n_steps=n_steps,
        prior=prior,
        guidance=guidance,
    )
    return moments(drawn)


@dataclass(frozen=True)
class Quadrature:
    """Both heads of one value with prior N(0, 1) and any h, by sums over points."""

    points: Float[Tensor, "point"]
    seen: Float[Tensor, "point"]  # h
    process: PairProcess

    def mean(self, u: Float[Tensor, "batch d"], a: float) -> Float[Tensor, "batch 2"]:
        """E[z | u]."""
        return self._weights(u, a) @ torch.stack([self.points, self.seen], dim=1)

    def draw(self, u: Float[Tensor, "batch d"], a: float, *, noise: MemberNoise, step: int) -> Float[Tensor, "batch 2"]:
        """A Gaussian draw with the mean and covariance of z given u."""
        weights, both = self._weights(u, a), torch.stack([self.points, self.seen], dim=1)
        mean = weights @ both
        left = both - mean[:, None]
        covariance = torch.einsum("bp,bpi,bpj->bij", weights, left, left)
        values, vectors = torch.linalg.eigh(covariance)
        xi = noise.normal("draw", (2,), step=step)
        root = vectors * values.clamp(min=0.0).sqrt()[:, None]
        return mean + torch.einsum("bij,bkj,bk->bi", root, vectors, xi)

    def _weights(self, u: Tensor, a: float) -> Float[Tensor, "batch point"]:
        wide = torch.full((1, 1), a, dtype=torch.float64)
        both = torch.stack([self.points, self.seen], dim=1)
        folded, variance = self.process.fold(both, wide, self.process.mask), variance_at(self.process, wide)
        misfit = ((u[:, None] - folded) ** 2 / variance).sum(dim=2)
        return torch.softmax(-0.5 * misfit - 0.5 * self.points**2, dim=1)


@dataclass(frozen=True)
class Curved:
    """One value with prior N(0, 1) seen through h."""

    name: str
    h: Callable[[Tensor], Tensor]
    observed: float
    error: float

    def quadrature(self, process: PairProcess, n_points: int) -> Quadrature:
        """Exact heads, with equal spacing in five deviations."""
        points = torch.linspace(-5.0, 5.0, n_points, dtype=torch.float64)
        return Quadrature(points, self.h(points), process)

    def posterior(self, points: Float[Tensor, "point"]) -> Float[Tensor, "point"]:
        """Probabilities of the points."""
        return torch.softmax(-0.5 * points**2 - 0.5 * ((self.observed - self.h(points)) / self.error) ** 2, dim=0)


CURVED = (
    Curved("arctan(3 x), y 1, error 0.1", lambda x: torch.atan(3.0 * x), 1.0, 0.1),
    Curved("x^2, y 1, error 0.25", lambda x: x**2, 1.0, 0.25),
)


def curved_samples(problem: Curved, n_members: int, n_points: int) -> dict[str, Float[Tensor, "member"]]:
    """Draws of every method, and of the posterior itself."""
    one, variance = torch.ones(1, 1, dtype=torch.float64), problem.error**2
    observed = torch.tensor([problem.observed], dtype=torch.float64)
    noise = MemberNoise(Noise(SEED), range(n_members), problem.name)
    x = noise.normal("members", (1,), step=0)
    members = torch.cat([x, problem.h(x)], dim=1)
    longer = Augmented(one, torch.full((2,), variance, dtype=torch.float64))
    exact, mixed = problem.quadrature(longer, n_points), Mixed(one, torch.full((1,), variance, dtype=torch.float64))
    signals = bridge_signals(BRIDGE_STEPS, noise_std=problem.error)
    gaussian = GaussianHeads(pair_of_members(members, range(n_members)), longer)
    drawn = {
        "augmented": sample_augmented(longer, exact, observed, signals, noise=noise),
        "augmented, Gaussian of the members": sample_augmented(longer, gaussian, observed, (0.0, 1.0), noise=noise),
    }
    for name, (prior, guidance) in MULTIPLIERS.items():
        drawn[name] = sample_dual_head(
            mixed,
            problem.quadrature(mixed, n_points),
            observed,
            members,
            noise=noise,
            n_steps=DUAL_STEPS,
            prior=prior,
            guidance=guidance,
        )
    weights = problem.posterior(exact.points)
    generator = torch.Generator().manual_seed(SEED)
    drawn["draws of the posterior"] = exact.points[torch.multinomial(weights, n_members, True, generator=generator)]
    return {name: values.flatten() for name, values in drawn.items()}


def distance(drawn: Float[Tensor, "member"], points: Float[Tensor, "point"], weights: Float[Tensor, "point"]) -> float:
    """Wasserstein-1 between draws and a law on points, units of its standard deviation."""
    mean = float(weights @ points)
    std = math.sqrt(float(weights @ (points - mean) ** 2))
    # Quantiles of the law at the middle of every draw's share of the probability.
    levels = (torch.arange(len(drawn), dtype=torch.float64) + 0.5) / len(drawn)
    quantiles = points[torch.searchsorted(weights.cumsum(dim=0), levels).clamp(max=len(points) - 1)]
    return float((drawn.sort().values - quantiles).abs().mean()) / std


@benchmark("masf_two_heads", summary="MASF for any observation operator against Bayes, exact heads")
def masf_two_heads(quick: bool, progress: Progress) -> BenchResult:
    """Compute moments of the linear problems and sample the curved ones."""
    progress(0, 2, "linear")
    rows = [row for case, problem, y in linear_problems() for row in linear_rows(case, problem, y)]
    progress(1, 2, "curved")
    n_members, n_points = (100, 501) if quick else (400, 1501)
    for curved in CURVED:
        rows += curved_rows(curved, n_members, n_points)
    return BenchResult(
        name="masf_two_heads",
        config={"steps": f"dual head {DUAL_STEPS}, augmented curved {BRIDGE_STEPS}, linear 1", "draws": n_members},
        seeds=(SEED,),
        rows=tuple(rows),
        notes=(
            "Linear: nothing is sampled, moments are computed. Cells that are not observed hold 0 in z here, the mean "
            "of the noise that stands there as published.",
            "y = x^2 = 1: two modes; the mean is 0, and no variance tells them from one wide mode; see the distance.",
        ),
    )


def linear_problems() -> list[tuple[str, LinearPair, Float[Tensor, "n"]]]:
    """Case, problem and observation."""
    one = torch.ones(1, dtype=torch.float64)
    cases = [(f"y = {c:g} x, R {r:g}", LinearPair(one[:, None], c * one, r), one) for c, r in LINEAR]
    two = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return [*cases, ("two values, the first observed, R 0.25", LinearPair(two, first, 0.25), first)]


def linear_rows(case: str, problem: LinearPair, y: Float[Tensor, "n"]) -> list[Row]:
    """Mean and variance of every value as parts of the exact ones."""
    found = {"augmented": augmented_moments(problem, 1, y)}
    for name, (prior, guidance) in MULTIPLIERS.items():
        found[name] = dual_head_moments(problem, DUAL_STEPS, y, prior=prior, guidance=guidance)
    mean, covariance = problem.posterior(y)
    rows = []
    for name, (got_mean, got_covariance) in found.items():
        for i in range(len(y)):
            of = "" if len(y) == 1 else f" of value {i + 1}"
            rows += [
                Row(case, name, f"mean{of} / exact", float(got_mean[i] / mean[i])),
                Row(case, name, f"variance{of} / exact", float(got_covariance[i, i] / covariance[i, i])),
            ]
    return rows


def curved_rows(problem: Curved, n_members: int, n_points: int) -> list[Row]:
    """Distance from the posterior, mean and standard deviation of the draws of every method."""
    points = torch.linspace(-5.0, 5.0, n_points, dtype=torch.float64)
    weights, rows = problem.posterior(points), []
    mean = float(weights @ points)
    variance = float(weights @ (points - mean) ** 2)
    for name, drawn in curved_samples(problem, n_members, n_points).items():
        rows += [
            Row(problem.name, name, "distance from the posterior", distance(drawn, points, weights), n=n_members),
            Row(problem.name, name, "mean minus exact, deviations", (float(drawn.mean()) - mean) / variance**0.5),
            Row(problem.name, name, "variance / exact", float(drawn.var()) / variance),
        ]
    return rows
