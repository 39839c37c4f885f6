"""The integrating factor form of the classical Runge-Kutta method, for Fourier coefficients.

    dq/dt = -D q + N(q),   D diagonal:      q = exp(-D t) p,   dp/dt = exp(D t) N(exp(-D t) p)

The linear part is exact, whatever its size; the rest is of fourth order. Only decays over half a time step appear,
so that nothing grows. Source: Canuto et al. (2006), Spectral Methods: Fundamentals, appendix D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def integrating_factor_step(tendency: Callable[[Tensor], Tensor], state: Tensor, *, half: Tensor, h: float) -> Tensor:
    """Advance by one time step h; `half` is exp(-D h / 2), `tendency` is N."""
    first = tendency(state)
    second = tendency(half * (state + 0.5 * h * first))
    third = tendency(half * state + 0.5 * h * second)
    fourth = tendency(half * (half * state + h * third))
    return half * (half * (state + h / 6.0 * first) + h / 3.0 * (second + third)) + h / 6.0 * fourth
