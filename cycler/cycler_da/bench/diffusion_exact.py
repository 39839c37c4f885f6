"""Benchmark `diffusion_exact`: how far the parts of score-based schemes are from Bayes when the denoiser is exact.

A circle of 32 points with a Gaussian correlation of 3 points and variance 1, every 4th observed with error .1 or .5, so
that E[z_0 | z_t] and E[z_0 | z_t, y] are known. Four tables:

    likelihood scores   | found - exact | / | exact - E[z_0 | z_t] |: the part of what y should change that is wrong,
                        and the cosine of what y changes with what it should, over 64 noisy states of truths of the
                        prior, each with its own y. `identity cut`: SDA as in the code of SOAD's comparison, where the
                        estimate (z - sigma epsilon(z)) / mu is differentiated in epsilon alone: away from y
    samplers            with the exact guided denoiser: mean and covariance of what they draw on the grid of the
                        schemes (r from 30 to 0.01), computed: a sampler is affine in its noise (`unit_draws`)
    Langevin moves      stationary variance around nothing but noise, 5 moves with tau .25: with a score made anew
                        1 + tau / 2 in theory, with the stale one of the published code 1 + 5 tau / 2
    forward diffusion   mean and variance of an entry replaced by mu (y + sqrt(r^2 - s^2) xi), beside those of z_t
                        given y for a prior variance of 1

Moves are sampled (100 000 values); nothing else is. Seconds of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.unit_draws import UnitDraws, every_step, moments
from cycler_da.generative.diffusion.corrector import SCORES, ForwardDiffusion, Langevin
from cycler_da.generative.diffusion.denoiser import Denoiser
from cycler_da.generative.diffusion.gaussian import GaussianDenoiser
from cycler_da.generative.diffusion.information import CellInformation, Information
from cycler_da.generative.diffusion.likelihood import (
    KnownCovariance,
    MatrixMeasurement,
    MatrixSlope,
    MomentMatching,
    WidenedLikelihood,
    dps_widening,
    sda_widening,
    soad_widening,
)
from cycler_da.generative.diffusion.sampler import (
    Sampled,
    draw_start,
    sample,
    sample_ancestral,
    sample_redrawn,
    sample_second_order,
)
from cycler_da.generative.diffusion.schedule import COSINE_SQUARED, ratio_times
from cycler_da.generative.localisation import MemberNoise
from cycler_da.noise import Noise
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LAW = COSINE_SQUARED
POINTS, LENGTH, STRIDE, STATES, SEED = 32, 3.0, 4, 64, 6
ERRORS = (0.1, 0.5)
TIMES = (0.03, 0.3, 0.6, 0.9)
LOW, HIGH = 0.01, 30.0
TAU, MOVES = 0.25, 5


@dataclass(frozen=True)
class DenseLeft:
    """A covariance by a root, and what is left of it (`likelihood.LeftCovariance`)."""

    root: Float[Tensor, "n k"]

    def pushed(self, u: Float[Tensor, "batch k"], like: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """L u."""
        return u @ self.root.mT

    def pulled(self, v: Float[Tensor, "batch n"]) -> Float[Tensor, "batch k"]:
        """L^T v."""
        return v @ self.root

    def colored(self, xi: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
        """L xi."""
        return xi @ self.root.mT

    def informed(self, information: Information, like: Float[Tensor, "batch n"]) -> DenseLeft:
        """L (I + L^T D L)^-1/2."""
        told = self.root.mT @ (information.density[:, None] * self.root)
        return DenseLeft(self.root @ power(torch.eye(len(told), dtype=told.dtype) + told, -0.5))


@dataclass(frozen=True)
class Informed:
    """A measurement that says how much it tells of each point."""

    seen: MatrixMeasurement

    @property
    def values(self) -> Float[Tensor, "batch obs"]:
        """Observed values."""
        return self.seen.values

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """Diagonal of R."""
        return self.seen.error_variance

    def hx(self, z: Float[Tensor, "batch n"]) -> Float[Tensor, "batch obs"]:
        """A z."""
        return self.seen.hx(z)

    def slope(self, z: Float[Tensor, "batch n"]) -> MatrixSlope:
        """A."""
        return self.seen.slope(z)

    def information(self, like: Float[Tensor, "batch n"]) -> CellInformation:
        """The diagonal of A^T R^-1 A."""
        return CellInformation((self.seen.matrix**2 / self.error_variance[:, None]).sum(dim=0))


@dataclass(frozen=True)
class Problem:
    """Prior and network of observations."""

    exact: GaussianDenoiser
    matrix: Float[Tensor, "obs n"]
    variance: Float[Tensor, "obs"]

    def given(self, values: Float[Tensor, "batch obs"]) -> GaussianDenoiser:
        """The exact posterior."""
        return self.exact.given(values, self.matrix, self.variance)

    def known(self, values: Float[Tensor, "batch obs"]) -> KnownCovariance:
        """The likelihood score that knows C_t."""
        seen = Informed(MatrixMeasurement(values, self.variance, self.matrix))
        return KnownCovariance(self.exact, seen, lambda t: DenseLeft(power(self.exact.left_covariance(t), 0.5)))

    def scores(self, values: Float[Tensor, "batch obs"]) -> Mapping[str, Denoiser]:
        """Every likelihood score."""
        seen = MatrixMeasurement(values, self.variance, self.matrix)
        widenings = {
            "DPS": dps_widening(),
            "SDA, gamma .01": sda_widening(0.01),
            "SDA, gamma .1": sda_widening(0.1),
            "SOAD, s 1": soad_widening(1.0),
        }
        found: dict[str, Denoiser] = {
            name: WidenedLikelihood(self.exact, LAW, seen, widening) for name, widening in widenings.items()
        }
        cut = WidenedLikelihood(self._cut, LAW, seen, sda_widening(0.1))
        return found | {
            "SDA, gamma .1, identity cut": cut,
            "moment matching": MomentMatching(self.exact, LAW, seen),
            "C_t known": self.known(values),
        }

    def _cut(self, z: Float[Tensor, "batch n"], t: float) -> Float[Tensor, "batch n"]:
        """The exact estimate, of whose derivative the identity is missing."""
        return self.exact(z, t) - (z - z.detach()) / LAW.mu(t)


@benchmark("diffusion_exact", summary="likelihood scores, samplers and correctors of diffusions against Bayes, exact")
def diffusion_exact(quick: bool, progress: Progress) -> BenchResult:
    """Compute all four tables."""
    rows: list[Row] = []
    for done, error in enumerate(ERRORS):
        progress(done, len(ERRORS), f"error {error:g}")
        problem = circle(error)
        rows += score_rows(problem, error)
        rows += sampler_rows(problem, error, SAMPLERS if not quick else dict(list(SAMPLERS.items())[:2]))
    rows += langevin_rows()
    rows += forward_rows()
    return BenchResult(
        "diffusion_exact",
        {"points": POINTS, "correlation length": f"{LENGTH:g} points", "observed": f"every {STRIDE}th"},
        (SEED,),
        tuple(rows),
        ("Samplers: covariance of z / mu at r = 0.01, which is that of the posterior with 0.0001 added.",),
    )


def circle(error: float) -> Problem:
    """The problem with one observation error."""
    distance = torch.arange(POINTS, dtype=torch.float64)
    distance = torch.minimum(distance, POINTS - distance)
    row = torch.exp(-0.5 * (distance / LENGTH) ** 2)
    covariance = torch.stack([row.roll(i) for i in range(POINTS)]) + 1e-6 * torch.eye(POINTS, dtype=torch.float64)
    matrix = torch.eye(POINTS, dtype=torch.float64)[::STRIDE]
    exact = GaussianDenoiser(torch.zeros(POINTS, dtype=torch.float64), covariance, LAW)
    return Problem(exact, matrix, torch.full((len(matrix),), error**2, dtype=torch.float64))


def score_rows(problem: Problem, error: float) -> list[Row]:
    """What is wrong of every score at every time."""
    draws = MemberNoise(Noise(SEED), range(STATES), "scores")
    truths = draws.normal("truth", (POINTS,), step=0) @ power(problem.exact.covariance, 0.5)
    noise = draws.normal("error", problem.variance.shape, step=0)
    values = truths @ problem.matrix.mT + error * noise
    rows = []
    for t in TIMES:
        z = LAW.mu(t) * truths + LAW.sigma(t) * draws.normal("noise", (POINTS,), step=0)
        before, after = problem.exact(z, t), problem.given(values)(z, t)
        case = f"likelihood, error {error:g}, t {t:g} (r {LAW.ratio(t):.2g})"
        for name, guided in problem.scores(values).items():
            found, exact = guided(z, t) - before, after - before
            cosine = float((found * exact).sum() / (found.norm() * exact.norm()))
            rows.append(Row(case, name, "wrong part of the change", float((found - exact).norm() / exact.norm())))
            rows.append(Row(case, name, "cosine with it", cosine))
    return rows


Draw = Callable[[KnownCovariance, tuple[float, ...], "Tensor", UnitDraws], Sampled]


def _redrawn(guided: KnownCovariance, times: tuple[float, ...], start: Tensor, draws: UnitDraws) -> Sampled:
    return sample_redrawn(guided, LAW, times, start, draws=draws)


def _ancestral(guided: KnownCovariance, times: tuple[float, ...], start: Tensor, draws: UnitDraws) -> Sampled:
    return sample_ancestral(guided, LAW, times, start, draws=draws)


def _second_order(guided: KnownCovariance, times: tuple[float, ...], start: Tensor, draws: UnitDraws) -> Sampled:
    return sample_second_order(guided, LAW, times, start)


def _exponential(guided: KnownCovariance, times: tuple[float, ...], start: Tensor, draws: UnitDraws) -> Sampled:
    return sample(guided, LAW, times, start)


#: Sampler and steps -> function and the draws of each of its steps.
SAMPLERS: dict[tuple[str, int], tuple[Draw, tuple[str, ...]]] = {
    **{("redrawn", n): (_redrawn, ("left", "seen", "redrawn")) for n in (1, 2, 8)},
    **{("ancestral", n): (_ancestral, ("ancestral",)) for n in (8, 16, 32, 128)},
    **{("second_order", n): (_second_order, ()) for n in (8, 16, 32)},
    **{("exponential", n): (_exponential, ()) for n in (16, 256)},
}


def sampler_rows(
    problem: Problem, error: float, samplers: Mapping[tuple[str, int], tuple[Draw, tuple[str, ...]]]
) -> list[Row]:
    """Mean and covariance of what each sampler draws, y being 1 at every observed point."""
    values = torch.ones(1, len(problem.matrix), dtype=torch.float64)
    posterior, guided, rows = problem.given(values), problem.known(values), list[Row]()
    exact = posterior.covariance + LOW**2 * torch.eye(POINTS, dtype=torch.float64)
    for (name, n_steps), (draw, streams) in samplers.items():
        sizes = {stream: len(problem.matrix) if stream == "seen" else POINTS for stream in streams}
        draws = UnitDraws({("start", 0): POINTS, **every_step(sizes, n_steps)})
        times = ratio_times(LAW, n_steps, low=LOW, high=HIGH)
        start = draw_start(draws, (POINTS,), dtype=torch.float64)
        mean, covariance = moments(draw(guided, times, start, draws).state / LAW.mu(times[-1]))
        off = ((mean - posterior.mean[0]) / exact.diagonal().sqrt()).square().mean().sqrt()
        case, method = f"samplers, error {error:g}", f"{name}, {n_steps} steps"
        rows += [
            Row(case, method, "mean, posterior deviations", float(off)),
            Row(case, method, "variance / exact", float(covariance.trace() / exact.trace())),
            Row(case, method, "covariance, relative error", float((covariance - exact).norm() / exact.norm())),
        ]
    return rows


def langevin_rows() -> list[Row]:
    """Stationary variance around nothing but noise."""
    t, n, rows = 0.5, 100_000, list[Row]()
    draws = MemberNoise(Noise(SEED), (0,), "langevin")

    def nothing_but_noise(z: Tensor, t: float) -> Tensor:
        return torch.zeros_like(z)

    for score in SCORES:
        langevin = Langevin(LAW, draws, MOVES, TAU, score)
        z = LAW.sigma(t) * draws.normal("begin", (n,), step=0)
        for step in range(30):
            z, _ = langevin(z, torch.zeros_like(z), t, denoiser=nothing_but_noise, step=step)
        theory = 1.0 + (TAU / 2.0 if score == "fresh" else MOVES * TAU / 2.0)
        rows.append(Row("Langevin moves", f"{score} score", "variance / exact", float(z.var()) / LAW.sigma(t) ** 2))
        rows.append(Row("Langevin moves", f"{score} score, in theory", "variance / exact", theory))
    return rows


def forward_rows() -> list[Row]:
    """Moments of a replaced entry beside those of z_t given y = 1."""
    rows, error = list[Row](), 0.1
    draws = UnitDraws({("replaced", 0): 1})
    one = torch.ones(1, dtype=torch.float64)
    for t in TIMES[1:]:
        corrector = ForwardDiffusion(LAW, draws, "replaced", one, error**2 * one, one > 0)
        mean, variance = moments(corrector(torch.zeros(draws.n_states, 1, dtype=torch.float64), t, 0))
        left = error**2 / (1.0 + error**2)
        case = f"forward diffusion, error {error:g}, t {t:g} (r {LAW.ratio(t):.2g})"
        exact = LAW.mu(t) ** 2 * left + LAW.sigma(t) ** 2
        rows.append(Row(case, "replaced entry", "mean / exact", float(mean) * (1.0 + error**2) / LAW.mu(t)))
        rows.append(Row(case, "replaced entry", "variance / exact", float(variance) / exact))
    return rows


def power(matrix: Float[Tensor, "n n"], exponent: float) -> Float[Tensor, "n n"]:
    """A power of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0.0) ** exponent) @ vectors.mT
