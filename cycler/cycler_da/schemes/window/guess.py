"""Windows from which the chain of a scheme may begin in place of noise (`start: background` of sda and soad).

Every member of the previous analysis is carried through the window by the transition of the weights, and the chain
begins at what that is with noise: the flow is then in the start and need not be found again. It is a draw of p(z_t |
background) as far as the error of the guess is small beside the noise, so that the noise ratio is a few times the
spread of the carried members where it is largest, or the error of the background where one is given, and not below
`LEAST_RATIO`. An ensemble that has collapsed begins too sure, as every scheme does that believes its spread.

With `coupling` the carried windows are moved by the observations before (`window.coupling`). They are then draws of
about p(z_0 | y), and with noise of any ratio of p(z_t | y), which the chain leaves as it is where it is exact: nothing
is counted twice. How much of a window is drawn anew is what the noise covers, `COUPLED` of its spread: what is finer
than the local transform can tell is left to the prior of windows, and what the members know of the flow is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.diffusion.schedule import HIGH
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.layout import Layout
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Prior
from cycler_da.schemes.window.coupling import WindowCoupling, WindowCouplingSpec
from cycler_da.schemes.window.prior import carried, has_transition, require_transition

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.schemes.sda import SdaSpec
    from cycler_da.schemes.soad import SoadSpec

#: Where windows may begin.
NOISE, BACKGROUND = "noise", "background"
#: Noise at which chains begin at the least, climatological deviations, and in spreads of the guess.
LEAST_RATIO, SPREADS = 0.3, 3.0
#: The same of coupled windows.
LEAST_COUPLED, COUPLED = 0.03, 0.5


@dataclass(frozen=True)
class Guess:
    """Scaled windows, one for every member, and the noise ratio at which a chain begins at them."""

    windows: Float[Tensor, "member frame channel y x"]
    ratio: float


def require_start(name: str | None, times: str, coupling: WindowCouplingSpec | None, *, scheme: str) -> None:
    """Raise ConfigError for an unknown start of windows, and for one that does not go with other options."""
    if name not in (None, NOISE, BACKGROUND):
        raise ConfigError(f"scheme {scheme}: start is {name!r}; valid: {NOISE}, {BACKGROUND}")
    if name == BACKGROUND and times != "ratio":
        raise ConfigError(f"scheme {scheme}: start background goes with times ratio, got {times}")
    if coupling is not None and (name == NOISE or times != "ratio"):
        raise ConfigError(
            f"scheme {scheme}: coupling moves the windows that chains begin at, which goes with start background and "
            f"times ratio, got start {name} and times {times}; leave coupling out"
        )


def start_of(name: str | None, known: WindowPrior, *, likelihood: str, times: str, scheme: str) -> str:
    """Where windows begin: at the background where a config leaves it open and weights can carry it there.

    Raises ConfigError where a config wants it and the weights have no transition.
    """
    if name == BACKGROUND:
        require_transition(known, scheme=scheme)
    if name is not None:
        return name
    return BACKGROUND if has_transition(known) and likelihood == "known_covariance" and times == "ratio" else NOISE


@dataclass(frozen=True)
class Beginning:
    """Where the chains of a scheme begin."""

    start: str  # NOISE | BACKGROUND
    background_error: float | None = None  # that of a config, climatological deviations
    coupling: WindowCoupling | None = None

    def guess(
        self, prior: Prior, known: WindowPrior, observations: Observations, n_frames: int, *, scheme: str
    ) -> Guess | None:
        """Every member of the previous analysis carried through the window, and moved; None for chains from noise.

        Raises AnalysisFailed where a member is carried out of all bounds.
        """
        if self.start == NOISE:
            return None
        windows = _carried_members(prior, known, n_frames, scheme=scheme)
        if self.coupling is None:
            return Guess(windows, start_ratio(windows, self.background_error or 0.0))
        states = known.scaling.to_physical(windows.double())
        moved = known.scaling.to_scaled(self.coupling.moved(states, prior, observations, scheme=scheme))
        return Guess(moved, max(COUPLED * largest_spread(moved), LEAST_COUPLED))


def beginning_of(options: SdaSpec | SoadSpec, known: WindowPrior, layout: Layout, *, scheme: str) -> Beginning:
    """Where windows begin, by options with those of a variant filled in.

    Raises ConfigError for weights without a transition, and for a radius that does not fit the grid.
    """
    coupling = options.coupling
    name = options.start if coupling is None else BACKGROUND
    start = start_of(name, known, likelihood=str(options.likelihood), times=str(options.times), scheme=scheme)
    return Beginning(start, options.background_error, None if coupling is None else coupling.build(layout))


def _carried_members(
    prior: Prior, known: WindowPrior, n_frames: int, *, scheme: str
) -> Float[Tensor, "member frame channel y x"]:
    assert prior.previous is not None
    windows = carried(known, known.scaling.to_scaled(prior.previous.latest.double()), n_frames)
    lost = (~windows.isfinite()).flatten(1).any(dim=1)
    if bool(lost.any()):
        members = [member for member, is_lost in zip(prior.previous.members, lost.tolist(), strict=True) if is_lost]
        raise AnalysisFailed(
            f"{scheme}: the transition of the weights carries members {members} out of all bounds within the window; "
            "set start to noise, or look at the previous analysis"
        )
    return windows


def start_ratio(windows: Float[Tensor, "member frame channel y x"], least: float = 0.0) -> float:
    """Noise beside which the spread of windows, or an error of `least`, is small."""
    return min(max(SPREADS * max(largest_spread(windows), least), LEAST_RATIO), HIGH)


def largest_spread(windows: Float[Tensor, "member frame channel y x"]) -> float:
    """Of the frame and channel where it is largest."""
    return float(windows.double().var(dim=0).mean(dim=(-2, -1)).max().sqrt())
