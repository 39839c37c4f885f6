"""H'(x)^T v, the transposed derivative of the observation operators applied to v.

A linear operator has its own transpose; for others the derivative at x is taken by automatic differentiation
(`linearised`), in inference mode too, as cycles run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.obs.base import Observations
from cycler_da.schemes.minimisation.linearised import Linearised

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
    return Linearised(observations, x).transpose(rows(observations.hx(x)))
