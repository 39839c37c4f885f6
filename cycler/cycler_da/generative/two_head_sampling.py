"""Samplers of MASF's forms for any observation operator: the augmented bridge, and the published one with two heads.

`sample_augmented` starts at the observation of h and noise in the place of x, and runs the unguided reverse. A step
from a to b draws z* of p(z | u_a) and then u_b of the bridge between both, entry by entry (M = A_a / A_b, A = a for x,
1 for h):

    u_b = A_b z* + k M (u_a - A_a z*) + sqrt(k (Sigma_a - M^2 Sigma_b)) xi,    k = Sigma_b / Sigma_a,    x_1 = x*

With an exact draw this is exact in any number of steps, one included (Gaussian heads: the analysis of an ensemble
Kalman filter with E[h], Cov(x, h), Cov(h)). Where the draw has the right mean and covariance alone, it is Bayes as the
steps become small.

`sample_dual_head`, as published: from members carried forward to a(T), a step from a to b (V = Sigma_a - Sigma_b)

    u <- u + (b - a) (X - H) + V (c_s s + c_g g) + V^1/2 xi,          (X, H) = E[(x_0, h_0) | u]
    s = -(u - a X - (1 - a) H) / Sigma_a,     g = -grad_u |z - u + a (X - H)|^2 / (2 sigma^2 (a^2 - a(T)^2))

What is wrong in it where everything is linear and Gaussian (`bench/masf_two_heads`, tests/exact/test_masf_two_heads):
the end z is the chain's own and the guidance counts it a second time, as in the linear form (h = x: exactly the same
numbers); z | u is not N(u - a (X - H), sigma^2 (a^2 - a(T)^2)) unless h = x, for X and H are not known but estimated;
cells without an observation are pulled to the noise that stands for one there.
Source: arXiv:2604.02889 and its published code (times, guards, multipliers of the nonlinear form).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import GUARD, T_END, Multiplier, cosine_signal, published_times
from cycler_da.generative.two_heads import Augmented, Heads, MeanHeads, Mixed

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Published multipliers of the two-headed form: of the prior's score, in t, and of the guidance, in 1 - t.
DUAL_HEAD_PRIOR, DUAL_HEAD_GUIDANCE = Multiplier(0.95, 1.5, 1.0), Multiplier(1.1, 1.5, 2.0)


def sample_augmented(
    process: Augmented,
    heads: Heads,
    observed: Float[Tensor, "m"],
    signals: Sequence[float],
    *,
    noise: MemberNoise,
) -> Float[Tensor, "member n"]:
    """Draw every member from p(x_0 | h ends as `observed`); `signals` ascend from 0 to 1."""
    n = len(process.noise) - process.mask.shape[-1]
    xi = noise.normal("augmented.end", (n,), step=0)
    u = torch.cat([process.noise[:n].sqrt() * xi, (process.mask[0] * observed).expand(len(xi), -1)], dim=1)
    for step, (a, b) in enumerate(pairwise(signals)):
        drawn = heads.draw(u, a, noise=noise, step=step)
        if b >= 1.0:
            return drawn[:, :n]
        low, high = process.factor(a), process.factor(b)
        ratio = torch.where(high > 0, low / high.clamp(min=1e-300), 0.0)  # what is not observed tells nothing
        kept = (1.0 - b**2) / (1.0 - a**2)
        lost = kept * process.noise * ((1.0 - a**2) - ratio**2 * (1.0 - b**2))
        xi = noise.normal("augmented", u.shape[1:], step=step)
        u = high * drawn + ratio * kept * (u - low * drawn) + lost.sqrt() * xi
    return u[:, :n]


def sample_dual_head(
    process: Mixed,
    heads: MeanHeads,
    observed: Float[Tensor, "n"],
    members: Float[Tensor, "member nm"],
    *,
    noise: MemberNoise,
    n_steps: int,
    prior: Multiplier,
    guidance: Multiplier,
) -> Float[Tensor, "member n"]:
    """The published sampler, from members and what is seen of them; `observed` is noise alone where nothing is."""
    n, end = len(process.noise), cosine_signal(T_END)
    xi = noise.normal("dual_head.start", (n,), step=0).to(members)
    u = process.fold(members, torch.tensor(end), process.mask) + (process.noise * (1.0 - end**2)).sqrt() * xi
    for step, (s, t) in enumerate(pairwise(published_times(n_steps))):
        a, b = cosine_signal(s), cosine_signal(t)
        state, seen, pull = _guided(process, heads, observed, u, a, end)
        score = -(u - a * state - (1.0 - a) * seen) / (process.noise * (1.0 - a**2) + GUARD)
        gained = process.noise * (b**2 - a**2)
        xi = noise.normal("dual_head", (n,), step=step).to(members)
        u = u + (b - a) * (state - seen) + gained * (prior.at(s) * score + guidance.at(1.0 - s) * pull)
        u = u + gained.sqrt() * xi
    return u


def _guided(
    process: Mixed, heads: MeanHeads, observed: Tensor, u: Tensor, a: float, end: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Both heads and the guidance, whose gradient goes through the heads."""
    n = len(process.noise)
    with torch.inference_mode(False), torch.enable_grad():
        free = u.clone().requires_grad_()
        z = heads.mean(free, a)
        state, seen = z[:, :n], process.mask * z[:, n:]
        miss = observed - free + a * (state - seen)
        energy = 0.5 * (miss.square() / (process.noise * (a**2 - end**2) + GUARD)).sum()
        (slope,) = torch.autograd.grad(energy, free)
    return state.detach(), seen.detach(), -slope
