"""Forecast models: what carries an ensemble from one valid time to the next."""

from cycler_da.forecast.base import ForecastModel, model_steps
from cycler_da.forecast.interpolant import InterpolantForecast, InterpolantSpec
from cycler_da.forecast.numerical import NumericalForecast, NumericalSpec
from cycler_da.forecast.persistence import PersistenceForecast, PersistenceSpec
from cycler_da.forecast.windows import WindowsForecast, WindowsSpec

__all__ = [
    "ForecastModel",
    "InterpolantForecast",
    "InterpolantSpec",
    "NumericalForecast",
    "NumericalSpec",
    "PersistenceForecast",
    "PersistenceSpec",
    "WindowsForecast",
    "WindowsSpec",
    "model_steps",
]
