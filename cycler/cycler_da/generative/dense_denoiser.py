"""The endpoint of a transition of few variables whose residual is not Gaussian: mean and covariance from a denoiser.

    E[r | U]   = U / (1 + tau) + F(z0, w, tau) / sqrt(1 + tau),        w = U / sqrt(tau (1 + tau))
    Cov[r | U] = dE[r | U] / dU = I / (1 + tau) + dF/dw / ((1 + tau) sqrt(tau))

The second line is exact for the exact mean, because p(r | U) ~ p(r) exp(r U - tau |r|^2 / 2) is an exponential family
in U. Its mean over U is at most I / (1 + tau), which `covariance` gives; between two modes it is far larger. At tau = 0
all of it is the Gaussian, bit for bit.
Of the derivative the symmetric part is taken, and its eigenvalues are held above `LEAST` / (1 + tau) and below `MOST`:
a residual of unit variance that is one rare mode in a hundred beside another has 25 between them.
Limits: n backward passes for n values; the network tells nothing beyond tau = 300, where it was not trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cycler_da.generative.covariance import Covariance, WhiteCovariance
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.state_path import MemberCovariances

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LEAST, MOST = 1e-3, 25.0
#: Rows the network sees at once; the last block is filled up with zeros, so that bytes do not depend on the batch.
_ROWS = 128


@dataclass(frozen=True)
class DenoisedEndpoint:
    """Endpoint model of the whitened residuals of members at scaled states, float32."""

    denoiser: NetworkDenoiser
    states: Float[Tensor, "batch channel *space"]

    def mean(self, tau: float, u: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """E[r | U]; differentiable in U."""
        if tau == 0.0:
            return u / (1.0 + tau)
        parts = zip(self.states.split(_ROWS), u.split(_ROWS), strict=True)
        learned = torch.cat([self._correction(z, block, tau)[: len(z)] for z, block in parts])
        return u / (1.0 + tau) + learned.to(u.dtype) / (1.0 + tau) ** 0.5

    def covariance(self, tau: float) -> WhiteCovariance:
        """The mean over U of Cov[r | U] at most: I / (1 + tau), what a Gaussian leaves."""
        return WhiteCovariance(1.0 / (1.0 + tau))

    def moments(self, tau: float, u: Float[Tensor, "batch channel *space"]) -> tuple[Tensor, Covariance]:
        """E[r | U] and Cov[r | U] of every member."""
        if tau == 0.0:
            return self.mean(tau, u), self.covariance(tau)
        parts = zip(self.states.split(_ROWS), u.split(_ROWS), strict=True)
        means, slopes = zip(*(self._mean_and_slope(z, block, tau) for z, block in parts), strict=True)
        slope = torch.cat(slopes)
        values, vectors = torch.linalg.eigh(0.5 * (slope + slope.mT))
        return torch.cat(means), MemberCovariances(values.clamp(LEAST / (1.0 + tau), MOST), vectors)

    def _mean_and_slope(self, z: Tensor, u: Tensor, tau: float) -> tuple[Tensor, Float[Tensor, "batch n n"]]:
        """E[r | U] of a block, and its derivative, float64."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            at = u.detach().clone().requires_grad_()
            learned = self._correction(z.clone(), at, tau)
            outputs = learned.flatten(1).sum(dim=0)
            rows = [torch.autograd.grad(output, at, retain_graph=True)[0] for output in outputs]
        slope = torch.stack(rows, dim=1).flatten(2).to(torch.float64) / (1.0 + tau) ** 0.5
        linear = torch.eye(slope.shape[-1], dtype=torch.float64, device=slope.device) / (1.0 + tau)
        mean = u / (1.0 + tau) + learned.detach()[: len(u)].to(u.dtype) / (1.0 + tau) ** 0.5
        return mean, slope + linear

    def _correction(self, z: Tensor, u: Tensor, tau: float) -> Tensor:
        """F of one block, filled up."""
        z, u = (functional.pad(x, (*(0,) * (2 * (x.ndim - 1)), 0, _ROWS - len(x))) for x in (z, u))
        return self.denoiser(z, u.to(torch.float32), tau)
