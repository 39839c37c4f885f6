"""A diffusion from a state to the observation of a part of it: the bridge of MASF for masks.

    x_a = A x_0 + sigma sqrt(1 - a^2) eta,   A = 1 where observed, a where not;     a falls from 1 to 0
    x_1 -> x_0:  observed cells end as y = x_0 + sigma eta, the law of the observation; the others end as noise
    later from earlier:  x_a | x_b ~ N( M x_b, S ),   M = A_a / A_b,   S = Sigma_a - M^2 Sigma_b,   a < b

It is one Markov chain, so that the chain conditioned on its noisy end x(a = 0) = z has the reverse transitions of the
unconditioned one: *start at z and run the reverse diffusion of the prior, without any guidance* (`sample_bridge`). With
E[x_0 | x_a] exact this is Bayes in the limit of small steps. A step from a to b, D the denoised estimate of variance C,

    x_b = A_b D + k M (x_a - A_a D) + sqrt(k S + (A_b - k M A_a)^2 C) xi,    k = Sigma_b / Sigma_a,        x_1 = D

with M, S from b to a. C is not known. One of two stands for it, both that of independent cells, so that a single value
is sampled exactly in few steps, and both too large for smooth fields (v = Sigma_a):

    P v / (v + A_a^2 P)     P: variance of the cell before anything is observed        `variance_of_prior`
    r^2 v / (v + r^2 a^2)   r^2: its variance given the observations, x_a at a = 0     `variance_of_seen`

They are one number where a cell alone is observed: 1/r^2 = 1/P + 1/sigma^2, and x_a there has the precision 1/v =
1/sigma^2 + a^2/v. So r^2 must not stand for P: the observation would count twice, and variance be lost.

The published sampler (`sample_guided`) starts from members that are carried forward to a(T), and adds the score of
p(z | x_a) = N(z; M x_a, S) along the same chain, which counts z twice: for a prior N(m, P) of one observed value and
S = P + R it gives mean m + (z - m) (P / R) ln(S / P) and variance (P/R)^2 (S R/P + R - 2 S ln(S/P)) in place of
m + (z - m) P / S and P R / S: a third of the variance where R << P. Its published multipliers of both scores bring the
mean back and make the variance smaller still.
Source: MASF, arXiv:2604.02889, Theorem B.1, and the settings of its published code; the analysis of exactness is ours
(tests/exact/test_masf_equals_bayes.py). Limits: H picks cells; one error for every cell; no error below
`LEAST_ERROR` where guided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.localisation import MemberNoise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: The published schedule ends short of a = 0, where A has no inverse.
T_END = 0.992
#: Added to every variance that is divided by, as published.
GUARD = 1e-5
#: Least sigma of the guided sampler, its square a hundred guards. For one value of prior variance 1 the guard moves the
#: mean by .003 there and the variance by 4 %; at half of it the variance is over three times as large, and at a tenth
#: the observation is half seen.
LEAST_ERROR = (100.0 * GUARD) ** 0.5

#: E[x_0 | x_a]: (x_a, a) -> estimate.
BridgeDenoiser = Callable[["Tensor", float], "Tensor"]
#: Variance of every cell given x_a: a -> `(channel, *space)`.
EstimateVariance = Callable[[float], "Tensor"]


@dataclass(frozen=True)
class MaskBridge:
    """The forward process; states `(batch, channel, *space)`, all in one unit (scaled)."""

    mask: Float[Tensor, "channel *space"]  # 1 where observed, 0 elsewhere
    noise: Float[Tensor, "channel *space"]  # sigma^2; of the observation where there is one

    def factor(self, a: float) -> Float[Tensor, "channel *space"]:
        """A, the diagonal."""
        return self.mask + a * (1.0 - self.mask)

    def variance(self, a: float) -> Float[Tensor, "channel *space"]:
        """Sigma, the diagonal."""
        return self.noise * (1.0 - a**2)

    def forward(self, clean: Tensor, a: float, xi: Tensor) -> Tensor:
        """x_a of clean states, with standard normal xi."""
        return self.factor(a) * clean + self.variance(a).sqrt() * xi


@dataclass(frozen=True)
class Multiplier:
    """Factor of a score: low + (high - low) p^power, p from 0 to 1."""

    low: float = 1.0
    high: float = 1.0
    power: float = 1.0

    def at(self, part: float) -> float:
        """The factor; `part` is rounded into [0, 1]."""
        return self.low + (self.high - self.low) * min(max(part, 0.0), 1.0) ** self.power


#: Published multipliers of the prior's score, in t, and of the guidance, in 1 - t.
PUBLISHED_PRIOR, PUBLISHED_GUIDANCE = Multiplier(0.95, 1.6, 1.5), Multiplier(1.1, 1.5, 2.0)


def cosine_signal(t: float) -> float:
    """The published schedule a(t), 1 at t = 0 and .0125 at T_END."""
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)


def bridge_signals(n_steps: int, *, noise_std: float, first: float = 0.02) -> tuple[float, ...]:
    """Values of a from 0 to 1 in n steps: signal over noise a / (sigma sqrt(1 - a^2)) in equal ratios in between."""
    if n_steps == 1:
        return (0.0, 1.0)
    last = max(100.0, 30.0 / noise_std)
    ratios = [first * (last / first) ** (i / max(n_steps - 2, 1)) * noise_std for i in range(n_steps - 1)]
    return (0.0, *(ratio / math.sqrt(1.0 + ratio**2) for ratio in ratios), 1.0)


def published_times(n_steps: int) -> tuple[float, ...]:
    """Times of the published sampler, quadratic in the step; the first is T^2, though the start is drawn at T."""
    return tuple(T_END * (1e-5 + (1.0 - i / n_steps) ** 2 * (T_END - 1e-5)) for i in range(n_steps + 1))


def variance_of_prior(bridge: MaskBridge, prior: Float[Tensor, "channel *space"]) -> EstimateVariance:
    """What is left of independent cells of these variances, 0 for a known field, before anything is observed."""

    def left(a: float) -> Tensor:
        noise = bridge.variance(a)
        return prior * noise / (prior * bridge.factor(a) ** 2 + noise)

    return left


def variance_of_seen(bridge: MaskBridge, seen: Float[Tensor, "channel *space"]) -> EstimateVariance:
    """What is left of independent cells whose variances given the observations are these."""

    def left(a: float) -> Tensor:
        noise = bridge.variance(a)
        return seen * noise / (seen * a**2 + noise)

    return left


def sample_bridge(
    bridge: MaskBridge,
    denoiser: BridgeDenoiser,
    observed: Float[Tensor, "channel *space"],
    signals: Sequence[float],
    *,
    left: EstimateVariance,
    noise: MemberNoise,
) -> Float[Tensor, "member channel *space"]:
    """Draw every member from p(x_0 | x(a = 0) = z); `signals` ascend from 0 to 1; `observed` counts where seen.

    Cells that are not observed start as noise of their own in every member. `left`, what the estimate leaves of each
    cell's variance, is read by the noise of the steps alone, an effect that goes with their size.
    """
    xi = noise.normal("bridge.end", observed.shape, step=0).to(observed)
    x = torch.where(bridge.mask > 0, observed, bridge.noise.sqrt() * xi)
    for step, (a, b) in enumerate(pairwise(signals)):
        clean = denoiser(x, a)
        if b >= 1.0:
            return clean
        low, high = bridge.factor(a), bridge.factor(b)
        ratio, kept = low / high, bridge.variance(b) / bridge.variance(a)
        share = high - ratio * kept * low  # of the clean state in the mean
        lost = kept * (bridge.variance(a) - ratio**2 * bridge.variance(b))
        xi = noise.normal("bridge", observed.shape, step=step).to(observed)
        x = high * clean + ratio * kept * (x - low * clean) + (lost + share**2 * left(a)).sqrt() * xi
    return x


def sample_guided(
    bridge: MaskBridge,
    denoiser: BridgeDenoiser,
    observed: Float[Tensor, "channel *space"],
    members: Float[Tensor, "member channel *space"],
    *,
    noise: MemberNoise,
    n_steps: int,
    prior: Multiplier,
    guidance: Multiplier,
) -> Float[Tensor, "member channel *space"]:
    """The published sampler, from the members carried forward; z is `observed`, noise alone where nothing is seen."""
    xi = noise.normal("guided.start", observed.shape, step=0).to(members)
    x, end = bridge.forward(members, cosine_signal(T_END), xi), cosine_signal(T_END)
    for step, (s, t) in enumerate(pairwise(published_times(n_steps))):
        a, b = cosine_signal(s), cosine_signal(t)
        score = -(x - bridge.factor(a) * denoiser(x, a)) / (bridge.variance(a) + GUARD)
        reach = bridge.factor(end) / bridge.factor(a)
        left = bridge.variance(end) - reach**2 * bridge.variance(a)
        pull = reach * (observed - reach * x) / (left + GUARD)
        ratio = bridge.factor(b) / bridge.factor(a)
        gained = (ratio**2 * bridge.variance(a) - bridge.variance(b)).clamp(min=0.0)
        xi = noise.normal("guided", observed.shape, step=step).to(members)
        x = ratio * x + gained * (prior.at(s) * score + guidance.at(1.0 - s) * pull) + gained.sqrt() * xi
    return x
