"""Windows from which the chain of a scheme may begin in place of noise (`start: background` of sda and soad).

Every member of the previous analysis is carried through the window by the transition of the weights, and the chain
begins at what that is with noise: the flow is then in the start and need not be found again. It is a draw of p(z_t |
background) as far as the error of the guess is small beside the noise, so that the noise ratio is a few times the
spread of the carried members where it is largest, and not below `LEAST_RATIO`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.generative.diffusion.schedule import HIGH
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.schemes.base import Prior
from cycler_da.schemes.window.prior import carried

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from torch import Tensor

#: Noise at which chains begin at the least, climatological deviations, and in spreads of the guess.
LEAST_RATIO, SPREADS = 0.3, 3.0


@dataclass(frozen=True)
class Guess:
    """Scaled windows, one for every member, and the noise ratio at which a chain begins at them."""

    windows: Float[Tensor, "member frame channel y x"]
    ratio: float


def first_guess(prior: Prior, known: WindowPrior, n_frames: int) -> Guess:
    """Every member of the previous analysis, carried through the window."""
    assert prior.previous is not None
    windows = carried(known, known.scaling.to_scaled(prior.previous.latest.double()), n_frames)
    return Guess(windows, start_ratio(windows))


def start_ratio(windows: Float[torch.Tensor, "member frame channel y x"]) -> float:
    """Noise beside which the spread of windows is small."""
    spread = windows.double().var(dim=0).mean(dim=(-2, -1)).max().sqrt()
    return min(max(SPREADS * float(spread), LEAST_RATIO), HIGH)
