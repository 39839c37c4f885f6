"""Windows from which the chain of a scheme may begin in place of noise (`start: background` of sda and soad).

Every member of the previous analysis is carried through the window by the transition of the weights, and the chain
begins at what that is with noise: the flow is then in the start and need not be found again. It is a draw of p(z_t |
background) as far as the error of the guess is small beside the noise, so that the noise ratio is a few times the
spread of the carried members where it is largest, or the error of the background where one is given, and not below
`LEAST_RATIO`. An ensemble that has collapsed begins too sure, as every scheme does that believes its spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.diffusion.schedule import HIGH
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.schemes.base import Prior
from cycler_da.schemes.window.prior import carried, has_transition, require_transition

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Where windows may begin.
NOISE, BACKGROUND = "noise", "background"
#: Noise at which chains begin at the least, climatological deviations, and in spreads of the guess.
LEAST_RATIO, SPREADS = 0.3, 3.0


@dataclass(frozen=True)
class Guess:
    """Scaled windows, one for every member, and the noise ratio at which a chain begins at them."""

    windows: Float[Tensor, "member frame channel y x"]
    ratio: float


def require_start(name: str | None, times: str, *, scheme: str) -> None:
    """Raise ConfigError for an unknown start of windows, and for one that does not go with a grid of times."""
    if name not in (None, NOISE, BACKGROUND):
        raise ConfigError(f"scheme {scheme}: start is {name!r}; valid: {NOISE}, {BACKGROUND}")
    if name == BACKGROUND and times != "ratio":
        raise ConfigError(f"scheme {scheme}: start background goes with times ratio, got {times}")


def start_of(name: str | None, known: WindowPrior, *, likelihood: str, times: str, scheme: str) -> str:
    """Where windows begin: at the background where a config leaves it open and weights can carry it there.

    Raises ConfigError where a config wants it and the weights have no transition.
    """
    if name == BACKGROUND:
        require_transition(known, scheme=scheme)
    if name is not None:
        return name
    return BACKGROUND if has_transition(known) and likelihood == "known_covariance" and times == "ratio" else NOISE


def first_guess(
    prior: Prior, known: WindowPrior, n_frames: int, *, background_error: float | None, scheme: str
) -> Guess:
    """Every member of the previous analysis, carried through the window.

    `background_error`: that of a config, climatological deviations. Raises AnalysisFailed where a member is carried out
    of all bounds.
    """
    assert prior.previous is not None
    windows = carried(known, known.scaling.to_scaled(prior.previous.latest.double()), n_frames)
    lost = (~windows.isfinite()).flatten(1).any(dim=1)
    if bool(lost.any()):
        members = [member for member, is_lost in zip(prior.previous.members, lost.tolist(), strict=True) if is_lost]
        raise AnalysisFailed(
            f"{scheme}: the transition of the weights carries members {members} out of all bounds within the window; "
            "set start to noise, or look at the previous analysis"
        )
    return Guess(windows, start_ratio(windows, background_error or 0.0))


def start_ratio(windows: Float[Tensor, "member frame channel y x"], least: float = 0.0) -> float:
    """Noise beside which the spread of windows, or an error of `least`, is small."""
    spread = windows.double().var(dim=0).mean(dim=(-2, -1)).max().sqrt()
    return min(max(SPREADS * max(float(spread), least), LEAST_RATIO), HIGH)
