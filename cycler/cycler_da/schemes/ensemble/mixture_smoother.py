"""Lag-1 smoother of a mixture of Gaussians: members are moved and weighed with the covariance of those near them.

Members (x_i, h_i), h_i what x_i predicts of the observations, are about the centres of kernels with the covariance
    B_i = b^2 P_i,    b^2 = (4 / (k (n + 2)))^(2 / (n + 4))
P_i the sample covariance of (x, h) over the k members nearest to x_i in deviations of the whole ensemble, n variables.
Centres are drawn towards the mean, so that the mixture has the mean and the covariance P of the ensemble,
    c_i = mean + A (x_i - mean),    A P A^T = P - mean B_i
and predict observations themselves, h(c_i). With S_i the covariance of y given c_i,
    w_i = N(y; h(c_i), B_hh,i + S_i)                      resample systematically
    z_i = c_i + (1 - t^2) (x_i - c_i) + t d_i,   d_i ~ N(0, B_i)
    z_i + K_i (y + e_i - h(z_i)),   K_i = B_xh,i (B_hh,i + S_i)^-1,   e_i ~ N(0, S_i), of zero mean over members
where t = 1 for copies of a member beyond its first, and for others t^2 is the information of the observations,
    1 - t^2 = (sum w)^2 / (N sum w^2) * (weighted mean of det S_i / det(B_hh,i + S_i)).
At last all members are moved as one, by the affine map nearest to none, to the mean and the covariance of the mixture
after the observations, which are known exactly: few members add no sampling error to these.
So an ensemble on two branches is moved along the branches, not between them, and where observations say nothing members
stay as they are. As N grows, k does, b goes to 0 and the smoother to the particle smoother.
Sources: Anderson, Anderson (1999), Mon. Wea. Rev. 127, 2741-2758 (kernel filter); Stordal et al. (2011),
Comput. Geosci. 15, 293-305 (members moved with the kernel's gain, weighed with its evidence); West (1993), J. R. Stat.
Soc. B 55, 409-422 (centres that keep the moments); Silverman (1986), Density estimation, eq. 4.14 (b for a Gaussian of
n variables: the k members that have P_i). Departures: covariances of the nearest, as mixtures of several members have
them; t and the affine map.
Limits: for few variables, as everything with weights; members cost N^2 distances and N covariances of n + p numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.path_weights import log_normal
from cycler_da.generative.resampling import effective_share, normalised
from cycler_da.schemes.ensemble.gaussian_map import affine_map, deviations, roots

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: Distances are formed for so many members at once.
_AT_ONCE = 1000
#: Of the spread, below which a direction has none.
_FLAT = 1e-12


@dataclass(frozen=True)
class Kernels:
    """Kernels about every member, and where their centres are."""

    states: Float[Tensor, "member state"]  # the members, float64
    hx: Float[Tensor, "member obs"]
    near: Float[Tensor, "member neighbour both"]  # b anomalies of the nearest / sqrt(k - 1)
    centres: Float[Tensor, "member state"]

    def seen(self, hx: Float[Tensor, "member obs"], covariance: Float[Tensor, "member obs obs"]) -> Mixture:
        """The mixture, when centres have predicted observations."""
        return Mixture(self, hx, covariance)


@dataclass(frozen=True)
class Mixture:
    """Kernels of the states and of what they predict."""

    kernels: Kernels
    hx: Float[Tensor, "member obs"]  # of the centres
    covariance: Float[Tensor, "member obs obs"]  # S_i

    @cached_property
    def innovation_covariance(self) -> Float[Tensor, "member obs obs"]:
        """B_hh + S."""
        _, seen = self._near
        return seen.mT @ seen + self.covariance

    @cached_property
    def gain(self) -> Float[Tensor, "member state obs"]:
        """K of every kernel."""
        states, seen = self._near
        factor = torch.linalg.cholesky(self.innovation_covariance)
        return torch.cholesky_solve(seen.mT @ states, factor).mT

    def log_weights(self, values: Float[Tensor, "obs"]) -> Float[Tensor, "member"]:
        """log N(y; h(c_i), B_hh + S_i)."""
        return log_normal(values - self.hx, self.innovation_covariance)

    def information(self, values: Float[Tensor, "obs"]) -> float:
        """t^2: what share of the ensemble observations replace, by weights and in kernels, 0 to 1."""
        log_weights = self.log_weights(values)
        known, whole = (torch.linalg.slogdet(part) for part in (self.covariance, self.innovation_covariance))
        left = torch.exp(known.logabsdet - whole.logabsdet)
        kept = effective_share(log_weights) * float(normalised(log_weights) @ left)
        return min(max(1.0 - kept, 0.0), 1.0)

    def moments(self, values: Float[Tensor, "obs"]) -> tuple[Float[Tensor, "state"], Float[Tensor, "state state"]]:
        """Mean and covariance of the mixture given the observations."""
        weights, gain, (states, seen) = normalised(self.log_weights(values)), self.gain, self._near
        centres = self.kernels.centres + (gain @ (values - self.hx)[:, :, None])[:, :, 0]
        narrow = states.mT @ states - gain @ seen.mT @ states
        mean = weights @ centres
        apart = centres - mean
        return mean, (weights * apart.mT) @ apart + torch.einsum("i,ijk->jk", weights, narrow)

    def moved(
        self,
        values: Float[Tensor, "obs"],
        kept: Int[Tensor, "member"],
        *,
        perturbations: Float[Tensor, "member obs"],
        dressing: Float[Tensor, "member neighbour"],
    ) -> Float[Tensor, "member state"]:
        """States of the members `kept` (positions in rising order) after they moved, with the moments of the mixture.

        `perturbations` are draws of N(0, I) of zero mean over members, `dressing` draws of N(0, I).
        """
        moved = self.drawn(values, kept, perturbations=perturbations, dressing=dressing)
        return affine_map(moved, *self.moments(values))

    def drawn(
        self,
        values: Float[Tensor, "obs"],
        kept: Int[Tensor, "member"],
        *,
        perturbations: Float[Tensor, "member obs"],
        dressing: Float[Tensor, "member neighbour"],
    ) -> Float[Tensor, "member state"]:
        """The same before all are moved as one."""
        kernels, n = self.kernels, self.kernels.states.shape[1]
        share = torch.full((len(kept), 1), self.information(values), dtype=torch.float64, device=values.device)
        share[1:][kept[1:] == kept[:-1]] = 1.0
        centres = torch.cat([kernels.centres, self.hx], dim=1)
        old = torch.cat([kernels.states, kernels.hx], dim=1) - centres
        new = (dressing[:, None] @ kernels.near[kept])[:, 0]
        states, hx = (centres[kept] + (1.0 - share) * old[kept] + share.sqrt() * new).tensor_split([n], dim=1)
        root = torch.linalg.cholesky(self.covariance)[kept]
        errors = (root @ perturbations[:, :, None])[:, :, 0]
        return states + (self.gain[kept] @ (values + errors - hx)[:, :, None])[:, :, 0]

    @property
    def _near(self) -> tuple[Tensor, Tensor]:
        states, seen = self.kernels.near.tensor_split([self.kernels.states.shape[1]], dim=2)
        return states, seen


def kernels_of(
    states: Float[Tensor, "member *state"], hx: Float[Tensor, "member obs"], *, n_neighbours: int
) -> Kernels:
    """Kernels about the members of an ensemble, a member being the nearest to itself; never wider than the ensemble."""
    x = states.to(torch.float64).flatten(1)
    both = torch.cat([x, hx], dim=1)
    near = both[nearest(x, n_neighbours)]
    anomalies = near - near.mean(dim=1, keepdim=True)
    near = bandwidth(n_neighbours, x.shape[1]) / (n_neighbours - 1) ** 0.5 * anomalies
    centres, narrower = drawn_together(x, near[:, :, : x.shape[1]])
    return Kernels(x, hx, narrower * near, centres)


def drawn_together(
    x: Float[Tensor, "member state"], near: Float[Tensor, "member neighbour state"]
) -> tuple[Float[Tensor, "member state"], float]:
    """Centres whose mixture has the covariance of an ensemble, and the factor of kernels that makes it possible.

    The factor is 1 unless kernels are on average wider than the ensemble in some direction.
    """
    mean, width = x.mean(dim=0), deviations(x)
    anomalies, near = (x - mean) / width, near / width
    root, inverse = roots(anomalies.mT @ anomalies / len(x))
    within = inverse @ torch.einsum("ijk,ijl->kl", near, near) @ inverse / len(x)
    share, directions = torch.linalg.eigh(within)
    narrower = min(1.0, float(share[-1].clamp_min(torch.finfo(torch.float64).tiny)) ** -0.5)
    left = (1.0 - narrower**2 * share).clamp(0.0, 1.0).sqrt()
    return mean + anomalies @ inverse @ (directions * left) @ directions.mT @ root * width, narrower


def bandwidth(n_members: int, n_variables: int) -> float:
    """b, Silverman's for a Gaussian."""
    return float((4.0 / (n_members * (n_variables + 2))) ** (1.0 / (n_variables + 4)))


def nearest(x: Float[Tensor, "member state"], n_neighbours: int) -> Int[Tensor, "member neighbour"]:
    """Positions of the members nearest to each, itself among them, in deviations of the ensemble."""
    anomalies = (x - x.mean(dim=0)) / deviations(x)
    _, size, directions = torch.linalg.svd(anomalies, full_matrices=False)
    kept = size > _FLAT * size[0].clamp_min(torch.finfo(torch.float64).tiny)
    white = anomalies @ (directions[kept] / size[kept, None]).mT
    parts = [torch.cdist(part, white) for part in white.split(_AT_ONCE)]
    return torch.cat([part.topk(n_neighbours, largest=False).indices for part in parts])
