"""EnSF: the ensemble score filter, a reverse diffusion whose score needs no training.

Pseudo-time t runs from 1 to 0 in n uniform Euler-Maruyama steps, z in units of `scale`:
    alpha = 1 - (1 - eps_a) t,   beta^2 = eps_b + (1 - eps_b) t,   z_t | x ~ N(alpha x, beta^2 I)
    f = -(1 - eps_a) / alpha,    g^2 = (1 - eps_b) - 2 f beta^2
    score = sum_j w_j(z) (alpha x_j - z) / beta^2 + (1 - t) grad_z log p(y | z)       (clipped to +-1000)
    z <- z - dt (f z - g^2 score) + sqrt(dt) g xi
The start is standard normal, standardised over the members at every point. `prior: own_member` gives each particle
its own forecast member as mean (w_j = 1 for j = i), which is how the published experiments are run;
`prior: all_members` is the Monte Carlo score of the paper, w = softmax(-|z - alpha x_j|^2 / 2 beta^2), which falls
on one member in high dimension. (1 - t) is the paper's damping of the likelihood.
Source: Bao, Zhang and Zhang (2024), Comput. Methods Appl. Mech. Eng. 432, 117447; the defaults
eps_a = 0.5, eps_b = 0.025 and 200 steps are those tuned by its authors for Lorenz-96 with an error of 0.05.

Limits: with `own_member` and a linear H the analysis is A x_i + B y + noise with A, B fixed by eps_a, eps_b, R and n,
whatever the spread of the ensemble: nudging with a gain to be tuned for each R. What is not observed gets no
information. z must be of order one: set `scale` to the standard deviation of each variable. Explicit steps are
unstable when dt g^2 / R is above about 2 (R in units of scale^2): take more steps for accurate observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_estimate, innovation_diagnostics
from cycler_da.schemes.frame.settings import require
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.minimisation.gradient import transposed_derivative

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=True, n_members=2)
PRIORS = ("own_member", "all_members")
#: Bound on every component of the score, as in the authors' experiments.
LARGEST_SCORE = 1000.0


@register("scheme", "ensf")
@dataclass(frozen=True, kw_only=True)
class EnsfSpec(Spec):
    """Options of the EnSF."""

    eps_alpha: float = 0.5
    eps_beta: float = 0.025
    steps: int = 200
    prior: str = "own_member"  # or all_members
    scale: tuple[float, ...] = (1.0,)  # unit of z, physical units: one for all variables, or one for each

    def __post_init__(self) -> None:
        for name in ("eps_alpha", "eps_beta"):
            got = getattr(self, name)
            require(0 < got < 1, name, got, expected="a number between 0 and 1", scheme="ensf")
        require(self.steps >= 1, "steps", self.steps, expected="a whole number from 1", scheme="ensf")
        require(self.prior in PRIORS, "prior", self.prior, expected=" or ".join(PRIORS), scheme="ensf")
        is_positive = len(self.scale) > 0 and min(self.scale) > 0
        require(is_positive, "scale", self.scale, expected="positive numbers", scheme="ensf")

    def build(self, context: SchemeContext) -> Ensf:
        """Build the scheme; raises ConfigError when there are scales for another number of variables."""
        layout = context.layout
        fits = len(self.scale) in (1, len(layout.variables))
        expected = f"one number, or one for each of {', '.join(layout.channels)}"
        require(fits, "scale", self.scale, expected=expected, scheme="ensf")
        scale = torch.tensor(self.scale, dtype=torch.float64).expand(len(layout.variables))
        return Ensf(self, layout, scale.reshape(-1, *[1] * len(layout.grid.axes)))


@dataclass(frozen=True, eq=False)
class Ensf:
    """The ensemble score filter with fixed settings."""

    settings: EnsfSpec
    layout: Layout
    scale: Float[Tensor, "channel *one"]
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Sample the analysis; without observations return the background bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme="ensf")
        innovations = observations.values.to(hx.device) - hx.mean(dim=0)
        report = innovation_diagnostics(innovations, hx.var(dim=0), observations=observations)
        sample = self._sample(background.latest.to(torch.float64), observations, background.members, noise=noise)
        moved = sample.to(background.values.dtype)
        require_finite(moved, layout=self.layout, scheme="ensf")
        report["dof_signal"] = dof_estimate(observations.hx(sample), observations.error_variance)
        return conclude(background, moved, carry=carry, report=report)

    def _sample(self, x: Tensor, observations: Observations, members: tuple[int, ...], *, noise: Noise) -> Tensor:
        """Run the reverse diffusion of every member; states in physical units."""
        settings, scale = self.settings, self.scale.to(x.device)
        precision = 1 / observations.error_variance.to(x.device)
        values = observations.values.to(x.device)
        prior_score = own_score if settings.prior == "own_member" else mixture_score
        shape, dt = x.shape[1:], 1 / settings.steps
        z = noise.normal("ensf.start", shape, members=members, dtype=torch.float64).to(x.device)
        z = (z - z.mean(dim=0)) / z.std(dim=0)
        for i_step in range(settings.steps):
            t = 1 - i_step * dt
            alpha, beta2 = 1 - (1 - settings.eps_alpha) * t, settings.eps_beta + (1 - settings.eps_beta) * t
            drift = -(1 - settings.eps_alpha) / alpha
            g2 = (1 - settings.eps_beta) - 2 * drift * beta2
            score = prior_score(z, alpha * x / scale, beta2)
            if t < 1:
                to_values = transposed_derivative(z * scale, observations, lambda hx: (values - hx) * precision)
                score = score + (1 - t) * scale * to_values
            score = score.clamp(-LARGEST_SCORE, LARGEST_SCORE)
            xi = noise.normal("ensf.path", shape, members=members, step=i_step, dtype=torch.float64).to(x.device)
            z = z - dt * (drift * z - g2 * score) + (dt * g2) ** 0.5 * xi
        return z * scale


def own_score(
    z: Float[Tensor, "member channel *space"], means: Float[Tensor, "member channel *space"], variance: float
) -> Float[Tensor, "member channel *space"]:
    """Score of N(mean_i, variance) at z_i."""
    return (means - z) / variance


def mixture_score(
    z: Float[Tensor, "member channel *space"], means: Float[Tensor, "member channel *space"], variance: float
) -> Float[Tensor, "member channel *space"]:
    """Score at each z_i of the equal mixture of N(mean_j, variance) over all members."""
    flat, centres = z.flatten(1), means.flatten(1)
    weights = torch.softmax(-(torch.cdist(flat, centres) ** 2) / (2 * variance), dim=1)
    return ((weights @ centres - flat) / variance).view(z.shape)
