"""What predictions a model makes, known before it is run, so that impossible pairs are refused when a config is read.

A transition says it by `predicts`, the class of what its `predict` gives. Of one that does not, nothing is refused
here; it is met in the first cycle.
"""

from __future__ import annotations

from cycler_da.forecast.base import ForecastModel
from cycler_da.schemes.transition.additive_noise import as_transition


def kind_of_prediction(model: ForecastModel | None) -> type | None:
    """Class of the predictions of a learned model, or of a numerical one with noise; None where it is not known."""
    return getattr(getattr(as_transition(model), "transition", None), "predicts", None)


def has_own_covariances(kind: type | None) -> bool:
    """True where members are known to have covariances of their own (see `SharedCovariancePrediction`)."""
    return kind is not None and not hasattr(kind, "observed_covariance")


def has_fixed_spread(kind: type | None) -> bool:
    """True where the spread is known not to be one that can be widened in places (see `WidenedPrediction`)."""
    return kind is not None and not hasattr(kind, "widened")
