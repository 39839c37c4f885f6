"""Perturbations of the observations, one draw of N(0, R) for each member.

    e_i = sqrt(r) sqrt(N / (N - 1)) (z_i - mean(z)),   z_i ~ N(0, I)
Re-centred, so that the mean of the analyses is the analysis of the mean; scaled, so that the covariance of the
e_i is R on average. One member is not perturbed. The draw of a member follows its id.
Source: Burgers, van Leeuwen and Evensen (1998), Mon. Wea. Rev. 126, 1719-1724; re-centring as in
Evensen (2004), Ocean Dyn. 54.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def perturbations(
    error_variance: Float[Tensor, "obs"], *, members: tuple[int, ...], noise: Noise, stream: str
) -> Float[Tensor, "member obs"]:
    """Draw the perturbations, float64, in the units of the observations."""
    n_members = len(members)
    if n_members == 1:
        return torch.zeros((1, len(error_variance)), dtype=torch.float64, device=error_variance.device)
    z = noise.normal(stream, (len(error_variance),), members=members, dtype=torch.float64).to(error_variance.device)
    return (z - z.mean(dim=0)) * (n_members / (n_members - 1)) ** 0.5 * error_variance.sqrt()
