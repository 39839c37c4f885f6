"""H'(x)^T v, the transposed derivative of the observation operators applied to v.

A linear operator has its own transpose (`adjoint`); for others the derivative at x is taken by automatic
differentiation through H, which therefore must be written in differentiable torch operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.obs.base import Observations

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor


def transposed_derivative(
    states: Float[Tensor, "member channel *space"],
    observations: Observations,
    rows: Callable[[Float[Tensor, "member obs"]], Float[Tensor, "member obs"]],
) -> Float[Tensor, "member channel *space"]:
    """H'(x)^T v for every member, with v = rows(H(x)); float64."""
    x = states.to(torch.float64)
    if observations.is_linear:
        return observations.adjoint(rows(observations.hx(x)))
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        hx = observations.hx(x)
        (result,) = torch.autograd.grad(hx, x, rows(hx.detach()))
    return result
