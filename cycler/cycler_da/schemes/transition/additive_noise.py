"""A numerical model with additive noise as a Gaussian transition, p(x' | x) = N(f(x), s^2 I).

So a filter of a transition (`optimal_particle`) serves the models of twin experiments, which have no network.
Limit: the covariance is a dense matrix of the state, so this is for small systems.
"""

from __future__ import annotations

import torch

from cycler_da.errors import ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.forecast.base import ForecastModel
from cycler_da.forecast.numerical import NumericalForecast
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.systems.base import StochasticDynamics

#: Most values of a state whose covariance is made: 0.13 GB in float64.
MOST_VALUES = 4096


def as_transition(model: ForecastModel | None) -> InterpolantForecast | None:
    """The transition of a learned model, or of a numerical one with process noise; None for any other.

    Raises ConfigError for a numerical model with more than `MOST_VALUES` values.
    """
    if isinstance(model, InterpolantForecast):
        return model
    if not isinstance(model, NumericalForecast) or not isinstance(model.dynamics, StochasticDynamics):
        return None
    dynamics, n = model.dynamics, torch.Size(model.layout.state_shape).numel()
    if not dynamics.noise_std > 0:
        return None
    if n > MOST_VALUES:
        raise ConfigError(
            f"the noise of {model.layout.system} has a dense covariance of {n} x {n} values here; expected at most "
            f"{MOST_VALUES}. Use a local filter (letkf, local_particle) for states of this size"
        )
    covariance = dynamics.noise_std**2 * torch.eye(n, dtype=torch.float64)
    return InterpolantForecast(model.layout, GaussianTransition(dynamics.step, covariance), (0.0,), model.digest)
