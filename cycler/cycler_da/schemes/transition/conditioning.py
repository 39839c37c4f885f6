"""The level of errors that weights with conditioning are told when members are guided one by one.

A member x_i is then taken for x0~ = x0 + l S e, the unknown clean state with an error as an analysis has, so that
p(x' | x0~) is as wide as a background and guidance alone assimilates (`generative.conditioned_transition`). l is a
number, or the spread of the members at the previous analysis: root mean variance over that of the climate.

Only with coupling none: a coupling holds what the members know of one another, and takes the clean transition,
level 0, as forecasts do.

What it leaves out is not small. The law of a member knows nothing of the others, and its errors are white. If members
are m + s_i with covariance P and l^2 S^2 = P, a linear step A and a flat climate give draws with the mean of the Kalman
filter, A m + K (y - H A m) with the gain of V = A P A^T, and covariance (I - K H) V + (I - K H) V (I - K H)^T: the
filter's, and what differing members add to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cycler_da.errors import ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.prediction import LeveledTransition

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.schemes.base import SchemeContext

#: The level is the spread of the members.
SPREAD = "spread"
_WHERE = "scheme interpolant_filter: conditioning_level"


def require_level(level: float | str | None, coupling: str) -> None:
    """Raise ConfigError for a level that is neither a number from 0 nor the spread, or that no analysis would use."""
    if level is None:
        return
    if level != SPREAD and (isinstance(level, str) or not 0.0 <= level < float("inf")):
        raise ConfigError(f"{_WHERE} is {level!r}; expected spread, or a number from 0 in climatological deviations")
    if coupling != "none":
        raise ConfigError(
            f"{_WHERE} is {level} and not used with coupling {coupling}, which takes the clean transition; leave it "
            "out, or take coupling none"
        )


def require_known_levels(level: float | str | None, context: SchemeContext) -> None:
    """Raise ConfigError for a level with weights that are told none, and for one beyond those that were trained."""
    model = context.model
    if level is None or not isinstance(model, InterpolantForecast):
        return
    if not isinstance(model.transition, LeveledTransition):
        raise ConfigError(
            f"{_WHERE} is {level}, and the weights of the forecast were trained without levels; leave it out, or use "
            "weights whose card names conditioning"
        )
    largest = model.transition.levels[-1]
    if not isinstance(level, str) and level > largest:
        raise ConfigError(f"{_WHERE} is {level}; the weights were trained up to {largest}")


def at_level(
    model: InterpolantForecast, frames: Float[Tensor, "member time channel *space"], level: float | str | None
) -> tuple[InterpolantForecast, dict[str, float]]:
    """The model told the level of its members, and the level for the report; as it is where it is told none.

    A spread beyond the largest trained level counts as that.
    """
    transition = model.transition
    if not isinstance(transition, LeveledTransition):
        return model, {}
    found = transition.spread_level(frames[:, -1]) if level is None or isinstance(level, str) else level
    used = min(found, transition.levels[-1])
    return replace(model, transition=transition.at_level(used)), {"conditioning_level": used}
