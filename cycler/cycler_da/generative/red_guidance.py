"""Variational guidance by denoising (RED): the endpoint is found as a minimum, with the endpoint model as regulariser.

    minimise over mu   |y - H mu|^2_R / 2 + KL-regulariser,   whose gradient needs no derivative of the network:
    g(mu) = mean over tau and z of  W(tau) ( mu - m(tau, tau mu + sqrt(tau) z) )

W = tau is the gradient of the published weighted sum of Kullback-Leibler divergences for q = N(mu, 0). For a Gaussian
prior N(0, C0) it pulls with tau C(tau) C0^-1, too little at every finite tau: the fixed point over-fits y. With

    W = C(tau)^-1     (endpoint covariance; 1 + tau for a whitened residual)

g(mu) = C0^-1 mu at every tau, so the fixed point is the posterior mean exactly. z comes in pairs +z, -z, which cancel
for a Gaussian. Each iteration is a proximal step: the prior is replaced by N(mu - C0 g(mu), C0) and met by y as in
conjugate guidance, so that there is no step size and one iteration is enough where the prior is Gaussian.

Spread. A minimum has none. With the perturbations eta of the observations alone members have covariance K R K^T; with
those of the prior as well (xi ~ N(0, C0) in the proximal step) they are draws of the posterior of a Gaussian prior.
Source: Mardani et al. (2024), arXiv:2305.04391 (RED-diff); Romano, Elad, Milanfar (2017), SIAM J. Imaging Sci. 10;
Chen et al. (2025), FlowDAS, arXiv:2501.16642 (for interpolants). W = C^-1 and the perturbed prior are ours.
Limits: whitened residuals (C0 = I); for a prior that is not Gaussian the minimum is a mode, not the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.covariance import Covariance
from cycler_da.generative.gauss_newton import GaussNewtonDraw
from cycler_da.generative.guidance import ConjugateDraw, MemberConjugateDraw
from cycler_da.generative.localisation import EndpointModel, MemberNoise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

ConjugateKind = ConjugateDraw | MemberConjugateDraw | GaussNewtonDraw
WEIGHTS = ("precision", "snr")
#: Streams of the conjugate draw's noise that are silent for each kind of spread.
SILENT = {"full": frozenset[str](), "observations": frozenset({"endpoint"}), "none": frozenset({"endpoint", "obs"})}
#: Levels of the regulariser: where a whitened residual is half known and where it is nearly known.
LEVELS = (1.0, 10.0)


@dataclass(frozen=True)
class CentredEndpoint:
    """An endpoint model at tau = 0 whose mean is given."""

    model: EndpointModel
    centre: Float[Tensor, "batch channel *space"]

    def mean(self, tau: float, u: Tensor) -> Tensor:
        """The centre."""
        return self.centre

    def covariance(self, tau: float) -> Covariance:
        """That of the model."""
        return self.model.covariance(tau)


@dataclass(frozen=True)
class RedDraw:
    """Endpoint draw by minimisation; wraps a conjugate draw, whose noise decides the spread."""

    draw: ConjugateKind
    noise: MemberNoise  # of the regulariser
    iterations: int = 5
    weight: str = "precision"
    levels: Sequence[float] = LEVELS

    def __call__(self, tau: float, u: Tensor, *, step: int) -> Tensor:
        """The minimum from tau = 0; raises ValueError for another tau, where nothing is left to minimise."""
        if tau != 0.0:
            raise ValueError(f"RED finds the endpoint from tau = 0, got tau {tau}; use a grid of one point")
        model, found = self.draw.model, torch.zeros_like(u)
        for i_iteration in range(self.iterations):
            centre = found - self.pull(found, i_iteration)
            centred = replace(self.draw, model=CentredEndpoint(model, centre))
            found = centred(0.0, u, step=step)
        return found

    def pull(self, mu: Float[Tensor, "batch channel *space"], i_iteration: int) -> Tensor:
        """g(mu) for a whitened residual."""
        total = torch.zeros_like(mu)
        for i_level, tau in enumerate(self.levels):
            z = self.noise.normal("red", mu.shape[1:], step=i_iteration * len(self.levels) + i_level)
            pair = [self.draw.model.mean(tau, tau * mu + sign * tau**0.5 * z) for sign in (1.0, -1.0)]
            factor = 1.0 + tau if self.weight == "precision" else tau
            total = total + factor * (mu - 0.5 * (pair[0] + pair[1]))
        return total / len(self.levels)
