"""Lag-1 square-root smoother: members at an earlier time are moved by later observations, without perturbations.

    P_xh, P_hh     sample covariances of the states x_i and of their predictions h_i of the observations
    rho            Gaspari-Cohn taper of distances (none without a radius), S the covariance of y given x
    K  = (rho o P_xh) A^-1,   A = rho o P_hh + S                         mean:       x + K (y - mean h)
    K' = (rho o P_xh) B^-T (B + C)^-1,   B B^T = A,  C C^T = S           anomalies:  x_i' - K' h_i'

For any two roots (I - K' H) P (I - K' H)^T = (I - K H) P, the posterior covariance where rho o P is that of the states;
here they are those of Cholesky. S may be full: where errors of a model go together over the whole domain while those of
states are local, the observations tell them apart, which a transform that localizes R cannot (it has the diagonal of S
alone, and what all observations share counts as the error of each).
Source: Andrews (1968), AIAA J. 6, 1165-1166; Whitaker and Hamill (2002), Mon. Wea. Rev. 130, eq. 10; localization of
both covariances, Houtekamer and Mitchell (2001), Mon. Wea. Rev. 129.

Limits: A is dense, (obs, obs), and so are the tapers between observations and `CELLS` cells. Roots of Cholesky follow
the order of the observations: another order gives other members of the same mean and covariance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Axis
from cycler_da.obs.base import Observations
from cycler_da.schemes.ensemble.localization import grid_points, taper_between

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Cells whose tapers are formed at once.
CELLS = 4096


def smooth_by_roots(
    states: Float[Tensor, "member *any cell_axes"],
    hx: Float[Tensor, "member obs"],
    observations: Observations,
    *,
    covariance: Float[Tensor, "obs obs"],
    radius: float | None,
) -> Float[Tensor, "member *any cell_axes"]:
    """Move members; `covariance` is S, `radius` the half-width of the taper in axis units, None for no localization.

    The last dimensions of the states are those of the grid. Two or more members; float64 inside, dtype kept.
    """
    axes = observations.layout.grid.axes
    at = observations.positions.to(hx.device, torch.float64)
    seen = hx.to(torch.float64)
    anomalies, mean = seen - seen.mean(dim=0), seen.mean(dim=0)
    between = _taper(at, at, axes=axes, radius=radius)
    weights = _weights(anomalies, observations.values.to(mean) - mean, between, covariance.to(mean))

    n_space = len(axes)
    x = states.to(torch.float64).flatten(-n_space)
    fields = x.reshape(len(x), -1, x.shape[-1])
    x_anomalies, cells = fields - fields.mean(dim=0), grid_points(axes).to(at)
    moved = [
        part + _change(some, anomalies, weights, _taper(here, at, axes=axes, radius=radius))
        for part, some, here in zip(
            fields.split(CELLS, dim=-1), x_anomalies.split(CELLS, dim=-1), cells.split(CELLS), strict=True
        )
    ]
    return torch.cat(moved, dim=-1).view(states.shape).to(states.dtype)


def _weights(
    anomalies: Float[Tensor, "member obs"],
    innovation: Float[Tensor, "obs"],
    taper: Float[Tensor, "obs obs"],
    covariance: Float[Tensor, "obs obs"],
) -> Float[Tensor, "member obs"]:
    """A^-1 (y - mean h) - B^-T (B + C)^-1 h_i', what rho o P_xh is applied to for every member."""
    tapered = taper * (anomalies.mT @ anomalies) / (len(anomalies) - 1)
    of_all, of_error = torch.linalg.cholesky(tapered + covariance), torch.linalg.cholesky(covariance)
    of_mean = torch.cholesky_solve(innovation[:, None], of_all)
    rooted = torch.linalg.solve_triangular(of_all + of_error, anomalies.mT, upper=False)
    return (of_mean - torch.linalg.solve_triangular(of_all.mT, rooted, upper=True)).mT


def _change(
    anomalies: Float[Tensor, "member field cell"],
    observed: Float[Tensor, "member obs"],
    weights: Float[Tensor, "member obs"],
    taper: Float[Tensor, "cell obs"],
) -> Float[Tensor, "member field cell"]:
    """(rho o P_xh) applied to the weights of every member."""
    covariance = torch.einsum("mfc,mo->fco", anomalies, observed) * (taper / (len(observed) - 1))
    return torch.einsum("fco,mo->mfc", covariance, weights)


def _taper(
    first: Tensor, second: Tensor, *, axes: tuple[Axis, ...], radius: float | None
) -> Float[Tensor, "first second"]:
    if radius is None:
        return first.new_ones(len(first), len(second))
    return taper_between(first, second, axes=axes, half_width=radius)
