"""Lag-1 smoother of a mixture of Gaussians: members are moved and weighed with the covariance of those near them.

Members x_i and their predictions h_i of the observations are centres of Gaussians with the covariance
    B_i = b^2 P_i,    b^2 = (4 / (N (n + 2)))^(2 / (n + 4))
P_i the sample covariance of (x, h) over the k members nearest to x_i in deviations of the whole ensemble, N members, n
variables. With S_i the covariance of y given x_i,
    w_i = N(y; h_i, B_hh,i + S_i)                         resample systematically
    x_i + K_i (y + e_i - h_i),   K_i = B_xh,i (B_hh,i + S_i)^-1,   e_i ~ N(0, S_i), of zero mean over members
and copies of a member beyond its first are parted by a draw of B_i before they move. So an ensemble on two branches is
moved along the branches, not between them, and where observations say nothing members stay as they are. As N grows, b
goes to 0 and the smoother to the particle smoother; the kernel keeps few members from ending as copies of one.
Sources: Anderson, Anderson (1999), Mon. Wea. Rev. 127, 2741-2758 (kernel filter); Stordal et al. (2011),
Comput. Geosci. 15, 293-305 (members moved with the kernel's gain, weighed with its evidence); Silverman (1986), Density
estimation, eq. 4.14 (b for a Gaussian of n variables). Departures: covariances of the nearest, as mixtures of several
members have them; the centres are not drawn towards the mean.
Limits: for few variables, as everything with weights; members cost N^2 distances and N covariances of n + p numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.path_weights import log_normal

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: Distances are formed for so many members at once.
_AT_ONCE = 1000
#: Of the spread, below which a direction has none.
_FLAT = 1e-12


@dataclass(frozen=True)
class Mixture:
    """Kernels about every member: of the states and of what they predict."""

    states: Float[Tensor, "member state"]  # centres, float64
    hx: Float[Tensor, "member obs"]
    near: Float[Tensor, "member neighbour both"]  # b anomalies of the nearest / sqrt(k - 1)
    covariance: Float[Tensor, "member obs obs"]  # S_i

    @property
    def innovation_covariance(self) -> Float[Tensor, "member obs obs"]:
        """B_hh + S."""
        seen = self.near[:, :, self.states.shape[1] :]
        return seen.mT @ seen + self.covariance

    @property
    def gain(self) -> Float[Tensor, "member state obs"]:
        """K of every kernel."""
        n = self.states.shape[1]
        states, seen = self.near[:, :, :n], self.near[:, :, n:]
        factor = torch.linalg.cholesky(self.innovation_covariance)
        return torch.cholesky_solve(seen.mT @ states, factor).mT

    def log_weights(self, values: Float[Tensor, "obs"]) -> Float[Tensor, "member"]:
        """log N(y; h_i, B_hh + S_i)."""
        return log_normal(values - self.hx, self.innovation_covariance)

    def moved(
        self,
        values: Float[Tensor, "obs"],
        kept: Int[Tensor, "member"],
        *,
        perturbations: Float[Tensor, "member obs"],
        dressing: Float[Tensor, "member neighbour"],
    ) -> Float[Tensor, "member state"]:
        """States of the members `kept` (positions in rising order) after they moved.

        `perturbations` are draws of N(0, I) of zero mean over members, `dressing` draws of N(0, I), of which copies
        beyond the first of a member use theirs.
        """
        is_copy = torch.zeros_like(kept, dtype=torch.bool)
        is_copy[1:] = kept[1:] == kept[:-1]
        offset = is_copy[:, None] * (dressing[:, None] @ self.near[kept])[:, 0]
        states, hx = (torch.cat([self.states, self.hx], dim=1)[kept] + offset).split(
            [self.states.shape[1], self.hx.shape[1]], dim=1
        )
        root = torch.linalg.cholesky(self.covariance)[kept]
        errors = (root @ perturbations[:, :, None])[:, :, 0]
        return states + (self.gain[kept] @ (values + errors - hx)[:, :, None])[:, :, 0]


def mixture_of(
    states: Float[Tensor, "member *state"],
    hx: Float[Tensor, "member obs"],
    *,
    covariance: Float[Tensor, "member obs obs"],
    n_neighbours: int,
) -> Mixture:
    """The mixture of an ensemble; a member is the nearest to itself."""
    x = states.to(torch.float64).flatten(1)
    both = torch.cat([x, hx], dim=1)
    near = both[nearest(x, n_neighbours)]
    anomalies = near - near.mean(dim=1, keepdim=True)
    scale = bandwidth(*x.shape) / (n_neighbours - 1) ** 0.5
    return Mixture(x, hx, scale * anomalies, covariance)


def bandwidth(n_members: int, n_variables: int) -> float:
    """b, Silverman's for a Gaussian."""
    return float((4.0 / (n_members * (n_variables + 2))) ** (1.0 / (n_variables + 4)))


def nearest(x: Float[Tensor, "member state"], n_neighbours: int) -> Int[Tensor, "member neighbour"]:
    """Positions of the members nearest to each, itself among them, in deviations of the ensemble."""
    anomalies = x - x.mean(dim=0)
    width = anomalies.square().mean(dim=0).sqrt()
    anomalies = anomalies / torch.where(width > 0, width, 1.0)
    _, size, directions = torch.linalg.svd(anomalies, full_matrices=False)
    kept = size > _FLAT * size[0].clamp_min(torch.finfo(torch.float64).tiny)
    white = anomalies @ (directions[kept] / size[kept, None]).mT
    parts = [torch.cdist(part, white) for part in white.split(_AT_ONCE)]
    return torch.cat([part.topk(n_neighbours, largest=False).indices for part in parts])
