"""Options of the interpolant filter that do not go together: with one another, with the weights, with the operators.

An option that is set and not used, or a pair that must fail with the first observation, is refused when the config is
read. Options at their defaults are never refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from cycler_da.errors import ConfigError
from cycler_da.schemes.guidance import Guidance
from cycler_da.schemes.guidance.conjugate import linearised_guidance
from cycler_da.schemes.guidance.drift import DriftGuidance
from cycler_da.schemes.guidance.red import Red
from cycler_da.schemes.transition.coupling import MORE_NEAR, OF_FEW_VARIABLES
from cycler_da.schemes.transition.kinds import has_fixed_spread, has_own_covariances, kind_of_prediction

if TYPE_CHECKING:
    from cycler_da.schemes.base import SchemeContext
    from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec

#: Variables of a state up to which a mixture of members may describe it.
MOST_VARIABLES = 10
_WHERE = "scheme interpolant_filter"
_OF_COUPLING = (
    *("gamma", "least_share", "passes", "inflation", "adaptive_inflation"),
    *("localization_radius_km", "localization_radius_cells"),
)


def require_used(spec: InterpolantFilterSpec, guidance: Guidance) -> None:
    """Raise ConfigError for an option that is set and that no analysis would look at."""
    defaults = {f.name: f.default for f in fields(spec)}
    for names, reason, way_out in _unused(spec, guidance):
        for name in names:
            got = getattr(spec, name)
            is_none = name == "inflation" and got == 1.0  # says what is done
            if got != defaults[name] and not is_none:
                raise ConfigError(f"{_WHERE}: {name} is {got} and not used with {reason}; leave it out, or {way_out}")


def _unused(spec: InterpolantFilterSpec, guidance: Guidance) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Names of options that are not used, with what, and what would use them."""
    if spec.coupling == "none":
        yield _OF_COUPLING, "coupling none", "take another coupling"
    if spec.coupling == "mixture":
        yield ("gamma", "least_share", "passes"), "coupling mixture", "take coupling perturbed_observations"
    if spec.coupling == "local_weights":
        yield ("gamma",), "coupling local_weights", "take coupling transform"
    elif spec.gamma == 1.0:
        yield ("least_share",), "gamma 1", "set gamma below 1"
    if spec.gamma == 0.0 and spec.least_share is None:
        yield ("passes", "linearisation"), "gamma 0", "set gamma above 0"
    if isinstance(guidance, Red | DriftGuidance):  # they have times of their own
        way_out = "take guidance conjugate or gauss_newton"
        yield ("tau_points", "tau_max"), f"guidance {spec.guidance['kind']}", way_out


def require_possible(spec: InterpolantFilterSpec, guidance: Guidance, context: SchemeContext) -> None:
    """Raise ConfigError where weights or operators are such that the first observed cycle would fail."""
    kind = kind_of_prediction(context.model)
    curved = ", ".join(operator.name for operator in context.operators if not operator.is_linear)
    if guidance.linear_only and curved:
        raise ConfigError(
            f"{_WHERE}: guidance {spec.guidance['kind']} takes linear operators alone, and a stream is seen through "
            f"{curved}; use guidance conjugate or gauss_newton"
        )
    is_matching = isinstance(guidance, DriftGuidance) and guidance.options.needs_shared_covariance
    if is_matching and has_own_covariances(kind):
        raise ConfigError(
            f"{_WHERE}: guidance moment_matching needs a covariance that all members share, and with these weights "
            "every member has one of its own; give the guidance covariance: derivative, or use conjugate"
        )
    n_variables = _n_variables(context)
    if spec.path_weights and (n_variables > MOST_VARIABLES or linearised_guidance(guidance) is None):
        raise ConfigError(
            f"{_WHERE}: path_weights needs guidance conjugate or gauss_newton and at most {MOST_VARIABLES} variables, "
            f"for weights of whole members collapse in more; got {spec.guidance['kind']} and {n_variables}. "
            "Leave it out"
        )
    if spec.coupling == "mixture" and n_variables > MOST_VARIABLES:
        raise ConfigError(
            f"{_WHERE}: coupling mixture is for at most {MOST_VARIABLES} variables, and {context.layout.system} has "
            f"{n_variables}: weights of whole members collapse there; take coupling transform or square_root"
        )
    if spec.surprise is None or spec.coupling in OF_FEW_VARIABLES:
        return
    way_out = f"leave surprise out, or take coupling {' or '.join(OF_FEW_VARIABLES)} (few variables, no localization)"
    if has_fixed_spread(kind):
        raise ConfigError(
            f"{_WHERE}: surprise with coupling {spec.coupling} needs a transition whose spread differs from place to "
            f"place (weights of kind advected), and these weights are of another kind; {way_out}"
        )
    if curved:
        raise ConfigError(
            f"{_WHERE}: surprise with coupling {spec.coupling} needs linear operators, and a stream is seen through "
            f"{curved}; {way_out}"
        )


def least_members(context: SchemeContext) -> int:
    """Members that a mixture needs for the covariance of those near one."""
    return _n_variables(context) + MORE_NEAR


def _n_variables(context: SchemeContext) -> int:
    """Numbers of a state and its history."""
    history = 1 if context.model is None else context.model.history
    return math.prod(context.layout.state_shape) * history
