"""Laws of the errors of drawn observations: all of mean 0 and variance 1, before they are stretched.

    gaussian     N(0, 1)
    laplace      density exp(-|e| / b) / 2 b,  b = 1 / sqrt(2): heavy tails, excess kurtosis 3
    uniform      on (-sqrt 3, sqrt 3): no tails, excess kurtosis -1.2
    lognormal    (exp(s z) - exp(s^2 / 2)) / sqrt((exp(s^2) - 1) exp(s^2)),  z ~ N(0, 1): skew, more so for larger s

These are those of SOAD (arXiv:2407.21314), whose s are 0.1, 0.2, 0.5 and 1. Schemes know the standard deviation alone
and take every error for Gaussian, which is what the other laws are here to try; those with weights can be told the law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: s of a log-normal where none is given, and the largest one: beyond, some thousand draws do not show its variance.
SHAPE, LARGEST_SHAPE = 0.5, 1.5


Draw = Callable[[np.random.Generator, int, float], "Float[np.ndarray, 'n']"]
LogDensity = Callable[["Tensor", float], "Tensor"]
_SCALE = math.sqrt(0.5)  # of the Laplace law
_BOUND = math.sqrt(3.0)  # of the uniform law


def _gaussian(generator: np.random.Generator, n: int, shape: float) -> np.ndarray:
    return generator.standard_normal(n)


def _laplace(generator: np.random.Generator, n: int, shape: float) -> np.ndarray:
    return generator.laplace(0.0, _SCALE, n)


def _uniform(generator: np.random.Generator, n: int, shape: float) -> np.ndarray:
    return generator.uniform(-_BOUND, _BOUND, n)


def _lognormal(generator: np.random.Generator, n: int, shape: float) -> np.ndarray:
    mean, std = _lognormal_moments(shape)
    drawn: np.ndarray = (np.exp(shape * generator.standard_normal(n)) - mean) / std
    return drawn


def _lognormal_moments(shape: float) -> tuple[float, float]:
    return math.exp(0.5 * shape**2), math.sqrt(math.expm1(shape**2) * math.exp(shape**2))


def _log_gaussian(error: Tensor, shape: float) -> Tensor:
    return -0.5 * (error.square() + math.log(2 * math.pi))


def _log_laplace(error: Tensor, shape: float) -> Tensor:
    return -error.abs() / _SCALE - math.log(2 * _SCALE)


def _log_uniform(error: Tensor, shape: float) -> Tensor:
    inside = torch.full_like(error, -math.log(2 * _BOUND))
    return torch.where(error.abs() <= _BOUND, inside, -math.inf)


def _log_lognormal(error: Tensor, shape: float) -> Tensor:
    mean, std = _lognormal_moments(shape)
    x = mean + std * error
    log_x = torch.log(x.clamp_min(torch.finfo(x.dtype).tiny))
    density = _log_gaussian(log_x / shape, shape) - log_x + math.log(std / shape)
    return torch.where(x > 0, density, -math.inf)


_LOG_DENSITIES: Mapping[str, LogDensity] = {
    "gaussian": _log_gaussian,
    "laplace": _log_laplace,
    "uniform": _log_uniform,
    "lognormal": _log_lognormal,
}
_DRAWS: Mapping[str, Draw] = {
    "gaussian": _gaussian,
    "laplace": _laplace,
    "uniform": _uniform,
    "lognormal": _lognormal,
}


@dataclass(frozen=True)
class ErrorLaw:
    """One law; `shape` is s of the log-normal and of no other."""

    name: str = "gaussian"
    shape: float | None = None

    def __post_init__(self) -> None:
        if self.name not in _DRAWS:
            raise ConfigError(f"law is {self.name!r}; valid: {', '.join(_DRAWS)}")
        if self.shape is not None and self.name != "lognormal":
            raise ConfigError(f"law_shape is {self.shape}, and law {self.name} has no shape; leave it out")
        if self.shape is not None and not 0 < self.shape <= LARGEST_SHAPE:
            raise ConfigError(f"law_shape is {self.shape}; expected s of the log-normal, to {LARGEST_SHAPE:g}")

    def draw(self, generator: np.random.Generator, n: int) -> Float[np.ndarray, "n"]:
        """Independent errors of variance 1."""
        return _DRAWS[self.name](generator, n, SHAPE if self.shape is None else self.shape)

    def log_density(self, error: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """log p of errors of variance 1; -inf where the law has none."""
        return _LOG_DENSITIES[self.name](error, SHAPE if self.shape is None else self.shape)

    @property
    def words(self) -> str:
        """As it is written into files."""
        return f"lognormal {SHAPE if self.shape is None else self.shape:g}" if self.name == "lognormal" else self.name


GAUSSIAN = ErrorLaw()
