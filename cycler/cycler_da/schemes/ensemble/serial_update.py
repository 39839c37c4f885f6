"""Serial update of an ensemble: one observation after the other, without a matrix.

For each observation j with perturbed values z_i = y + e_i, in their order, with the members as they are by then:
    x_i <- x_i + rho(x, j) cov(x, h_j) / (var(h_j) + r_j) (z_i,j - h_i,j)
    h_i,k <- h_i,k + rho(k, j) cov(h_k, h_j) / (var(h_j) + r_j) (z_i,j - h_i,j)      for every observation k
h being the members' equivalents H(x), which are moved with the state, so that H is applied once.
Source: Houtekamer and Mitchell (2001), Mon. Wea. Rev. 129, 123-137; moved equivalents: Anderson (2003), Mon. Wea.
Rev. 131, 634-642.

Without localization it is the batch update when the sample covariances of the e_i among each other are R and those with
the members are zero, else in expectation; with localization the result depends a little on the order, for
a tapered covariance is not the covariance of any ensemble. Memory: states and equivalents, no more. R is diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float

#: From the number of an observation to its tapers with all state values and with all observations.
Tapers = Callable[[int], tuple[Tensor, Tensor]]


def serial_update(
    states: Float[Tensor, "member state"],
    hx: Float[Tensor, "member obs"],
    perturbed: Float[Tensor, "member obs"],
    *,
    error_variance: Float[Tensor, "obs"],
    tapers: Tapers | None = None,
) -> tuple[Float[Tensor, "member state"], Float[Tensor, "member obs"]]:
    """States and equivalents after all observations; float64, inputs are left as they are."""
    x, h = states.clone(), hx.clone()
    for j in range(h.shape[1]):
        own = h[:, j] - h[:, j].mean()
        steps = (perturbed[:, j] - h[:, j]) / (own @ own + (len(own) - 1) * error_variance[j])
        # Anomalies of h_j have mean zero, so that those of the others need not be taken.
        to_state, to_obs = own @ x, own @ h
        if tapers is not None:
            near_state, near_obs = tapers(j)
            to_state, to_obs = to_state * near_state, to_obs * near_obs
        x.addr_(steps, to_state)
        h.addr_(steps, to_obs)
    return x, h
