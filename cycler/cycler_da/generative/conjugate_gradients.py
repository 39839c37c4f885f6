"""Conjugate gradients for many symmetric positive definite systems at once, one for each row.

    S_i x_i = b_i,   preconditioned by 1 / diagonal_i

Row i stops where |b_i - S_i x_i| <= tolerance |b_i| and stays as it is while others go on, so that a row's
result does not depend on what it is solved with. float64.
Source: Hestenes and Stiefel (1952), J. Res. Natl. Bur. Stand. 49, 409.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

TOLERANCE = 1e-10
MOST_ITERATIONS = 500


def solve(
    system: Callable[[Tensor], Tensor],
    right: Float[Tensor, "batch n"],
    *,
    diagonal: Float[Tensor, "batch n"] | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
    size: float | None = None,
    tolerance: float = TOLERANCE,
    most_iterations: int = MOST_ITERATIONS,
) -> Float[Tensor, "batch n"]:
    """Solve S x = right for every row; `system` applies S row by row.

    `diagonal` > 0 is about the diagonal of S, `precondition` about its inverse; give one of them or none. A row is
    solved when its residual is `tolerance` times `size`, by default its right-hand side's. Raises AnalysisFailed, with
    residuals, after `most_iterations`.
    """
    right = right.to(torch.float64)
    x, residual = torch.zeros_like(right), right
    limit = tolerance * (right.norm(dim=1, keepdim=True) if size is None else right.new_full((len(right), 1), size))
    easier = precondition or (lambda v: v if diagonal is None else v / diagonal)
    preconditioned = easier(residual)
    direction, power = preconditioned, _dot(residual, preconditioned)
    for _ in range(most_iterations):
        going = residual.norm(dim=1, keepdim=True) > limit
        if not going.any():
            return x
        applied = system(direction)
        step = torch.where(going, power / _positive(_dot(direction, applied)), 0.0)
        x, residual = x + step * direction, residual - step * applied
        preconditioned = easier(residual)
        next_power = _dot(residual, preconditioned)
        direction = torch.where(going, preconditioned + next_power / _positive(power) * direction, direction)
        power = torch.where(going, next_power, power)
    worst = float((residual.norm(dim=1, keepdim=True) / limit).max()) * tolerance
    raise AnalysisFailed(
        f"conjugate gradients for {right.shape[1]} unknowns reached a relative residual of {worst:.1e} "
        f"in {most_iterations} iterations, expected {tolerance:.0e}; observation errors may be far smaller than the "
        "background's: raise them or thin the observations"
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=1, keepdim=True)


def _positive(value: Tensor) -> Tensor:
    return torch.where(value == 0, torch.ones_like(value), value)
