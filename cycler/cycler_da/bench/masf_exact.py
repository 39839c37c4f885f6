"""Benchmark `masf_exact`: how far the samplers of MASF are from Bayes when the denoiser is exact.

Gaussian priors, so that E[x_0 | x_a] is affine and a sampler maps its noise affinely to its result: the mean and the
covariance of what it draws are computed, not estimated, by running it once on zero noise and once on every unit vector
of its noise (`moments`). Two problems:

    one value    prior N(0, P), observed as 1 with error variance R
    field        64 points of a circle, Gaussian correlation of length 4 points, every 8th observed

`guided` has MASF's own time grid, guards and, where so named, its published multipliers; `bridge` is the unguided
reverse from the observation. Quantities: mean and variance as a part of the exact ones (one value); relative error of
the covariance (Frobenius), root mean square error of the mean over truths and observations, and mean spread (field).
There is no noise of sampling anywhere. A minute of one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.unit_draws import UnitDraws, moments
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import (
    PUBLISHED_GUIDANCE,
    PUBLISHED_PRIOR,
    BridgeDenoiser,
    MaskBridge,
    Multiplier,
    bridge_signals,
    sample_bridge,
    sample_guided,
    variance_of_prior,
)
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SCALARS = ((1.0, 1.0), (1.0, 0.25), (1.0, 0.01), (0.25, 1.0))
#: Error standard deviation and prior standard deviation of the field.
FIELDS = ((0.1, 1.0), (0.1, 0.3), (0.5, 1.0))
POINTS, LENGTH, STRIDE = 64, 4.0, 8


@dataclass(frozen=True)
class Gaussian:
    """The prior of one channel of n values, and which of them are observed with which error variance."""

    mean: Float[Tensor, "n"]
    covariance: Float[Tensor, "n n"]
    mask: Float[Tensor, "n"]
    error_variance: float

    @property
    def bridge(self) -> MaskBridge:
        """The forward process."""
        return MaskBridge(self.mask[None], torch.full_like(self.mask[None], self.error_variance))

    def denoiser(self) -> BridgeDenoiser:
        """E[x_0 | x_a], exact."""

        def denoise(x: Tensor, a: float) -> Tensor:
            factor, variance = self.bridge.factor(a)[0], self.bridge.variance(a)[0]
            total = factor[:, None] * self.covariance * factor + torch.diag(variance)
            gain = torch.linalg.solve(total, factor[:, None] * self.covariance).mT
            clean: Tensor = self.mean + (x[:, 0] - factor * self.mean) @ gain.mT
            return clean[:, None]

        return denoise

    def posterior(self) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
        """Gain K, of mean m + K (z - m) with z read where the mask is 1, and covariance."""
        seen = self.mask > 0
        cross = self.covariance[:, seen]
        system = cross[seen] + self.error_variance * torch.eye(int(seen.sum()), dtype=torch.float64)
        gain = torch.zeros_like(self.covariance)
        gain[:, seen] = torch.linalg.solve(system, cross.mT).mT
        return gain, self.covariance - gain[:, seen] @ cross.mT


def bridge_moments(problem: Gaussian, n_steps: int, z: Float[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the draws of `sample_bridge`."""
    slots = [("bridge.end", 0), *(("bridge", step) for step in range(n_steps - 1))]
    noise = UnitDraws({slot: len(z) for slot in slots})
    signals = bridge_signals(n_steps, noise_std=problem.error_variance**0.5)
    drawn = sample_bridge(
        problem.bridge,
        problem.denoiser(),
        z[None],
        signals,
        left=variance_of_prior(problem.bridge, problem.covariance.diagonal()[None]),
        noise=cast(MemberNoise, noise),
    )
    return moments(drawn)


def guided_moments(
    problem: Gaussian, n_steps: int, z: Float[Tensor, "n"], *, prior: Multiplier, guidance: Multiplier
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the draws of `sample_guided` from members of the prior; blank cells of z are z's own."""
    slots = [("members", 0), ("guided.start", 0), *(("guided", step) for step in range(n_steps))]
    noise = UnitDraws({slot: len(z) for slot in slots})
    values, vectors = torch.linalg.eigh(problem.covariance)
    root = vectors * values.clamp(min=0.0).sqrt()
    members = problem.mean + noise.normal("members", (len(z),), step=0) @ root.mT
    drawn = sample_guided(
        problem.bridge,
        problem.denoiser(),
        z[None],
        members[:, None],
        noise=cast(MemberNoise, noise),
        n_steps=n_steps,
        prior=prior,
        guidance=guidance,
    )
    return moments(drawn)


Sampler = Callable[[Gaussian, "Tensor"], tuple["Tensor", "Tensor"]]

SAMPLERS: dict[str, Sampler] = {
    "bridge, 30 steps": lambda problem, z: bridge_moments(problem, 30, z),
    "bridge, 60 steps": lambda problem, z: bridge_moments(problem, 60, z),
    "bridge, 120 steps": lambda problem, z: bridge_moments(problem, 120, z),
    "guided, multipliers 1, 150 steps": lambda problem, z: guided_moments(
        problem, 150, z, prior=Multiplier(), guidance=Multiplier()
    ),
    "guided as published, 150 steps": lambda problem, z: guided_moments(
        problem, 150, z, prior=PUBLISHED_PRIOR, guidance=PUBLISHED_GUIDANCE
    ),
}


@benchmark("masf_exact", summary="MASF's samplers against Bayes on Gaussian problems, exact denoiser")
def masf_exact(quick: bool, progress: Progress) -> BenchResult:
    """Compute the moments of every sampler on every problem."""
    rows: list[Row] = []
    for done, (name, sampler) in enumerate(SAMPLERS.items()):
        progress(done, len(SAMPLERS), name)
        for prior, error in SCALARS:
            rows += scalar_rows(name, sampler, prior, error)
        for error, std in FIELDS[:1] if quick else FIELDS:
            rows += field_rows(name, sampler, error, std)
    for error, std in FIELDS[:1] if quick else FIELDS:
        rows += exact_rows(error, std)
    return BenchResult(
        name="masf_exact",
        config={"points": POINTS, "correlation length": f"{LENGTH:g} points", "observed": f"every {STRIDE}th"},
        seeds=(),
        rows=tuple(rows),
        notes=(
            "Nothing is sampled: a sampler is an affine map of its noise here, and its moments are computed.",
            "As published, the cells that are not observed hold noise in z; it is set to 0 here, its mean.",
            "Guided, small steps: mean (P/R) ln(S/P), variance (P/R)^2 (S R/P + R - 2 S ln(S/P)), S = P + R.",
        ),
    )


def scalar(prior: float, error: float) -> Gaussian:
    """One observed value."""
    one = torch.ones(1, dtype=torch.float64)
    return Gaussian(0.0 * one, prior * one[:, None], one, error)


def field(error: float, std: float) -> Gaussian:
    """The periodic field; `error` and `std` are standard deviations."""
    distance = torch.arange(POINTS, dtype=torch.float64)
    distance = torch.minimum(distance, POINTS - distance)
    row = std**2 * torch.exp(-0.5 * (distance / LENGTH) ** 2)
    covariance = torch.stack([row.roll(i) for i in range(POINTS)])
    mask = torch.zeros(POINTS, dtype=torch.float64)
    mask[::STRIDE] = 1.0
    return Gaussian(torch.zeros(POINTS, dtype=torch.float64), covariance, mask, error**2)


def scalar_rows(name: str, sampler: Sampler, prior: float, error: float) -> list[Row]:
    """Mean and variance given z = 1, beside Bayes."""
    mean, covariance = sampler(scalar(prior, error), torch.ones(1, dtype=torch.float64))
    total, case = prior + error, f"one value, P {prior:g}, R {error:g}"
    return [
        Row(case, name, "mean / exact", float(mean) / (prior / total)),
        Row(case, name, "variance / exact", float(covariance) / (prior * error / total)),
    ]


def field_rows(name: str, sampler: Sampler, error: float, std: float) -> list[Row]:
    """Errors of a sampler on the field; its mean is a linear map of z, found from the answers to unit vectors."""
    problem = field(error, std)
    seen = (problem.mask > 0).nonzero()[:, 0].tolist()
    gain = torch.zeros(POINTS, POINTS, dtype=torch.float64)
    # The field is the same around every observed point: one answer, turned, is all of them.
    unit = torch.zeros(POINTS, dtype=torch.float64)
    unit[seen[0]] = 1.0
    answer, covariance = sampler(problem, unit)
    for i in seen:
        gain[:, i] = answer.roll(i - seen[0])
    return _rows(name, problem, gain, covariance, error, std)


def exact_rows(error: float, std: float) -> list[Row]:
    """The same of Bayes."""
    problem = field(error, std)
    return _rows("Bayes", problem, *problem.posterior(), error, std)


def _rows(name: str, problem: Gaussian, gain: Tensor, covariance: Tensor, error: float, std: float) -> list[Row]:
    case = f"field, error {error:g}, prior deviation {std:g}"
    _, exact = problem.posterior()
    left = torch.eye(POINTS, dtype=torch.float64) - gain * problem.mask
    error_covariance = left @ problem.covariance @ left.mT + error**2 * (gain * problem.mask) @ gain.mT
    seen = problem.mask > 0
    return [
        Row(case, name, "RMSE of the mean", math.sqrt(float(error_covariance.diagonal().mean()))),
        Row(case, name, "spread", math.sqrt(float(covariance.diagonal().mean()))),
        Row(case, name, "spread, observed points", math.sqrt(float(covariance.diagonal()[seen].mean()))),
        Row(case, name, "covariance, relative error", float((covariance - exact).norm() / exact.norm())),
    ]
