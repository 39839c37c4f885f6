"""The static B of variational schemes: a calibrated file, or the climatology of the forecast model, times a factor.

Schemes see no files: the reader of B comes with the `SchemeContext`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.errors import ConfigError
from cycler_da.generative.climatology import StateCovariance
from cycler_da.schemes.base import SchemeContext

if TYPE_CHECKING:
    from torch import Tensor

#: Factor on the climatological covariance where the config gives none: forecast errors are smaller than anomalies.
CLIMATOLOGICAL_FACTOR = 0.1


@dataclass(frozen=True)
class StaticCovariance:
    """B with its usual factor and the digest of the file it came from ("" for a climatology)."""

    covariance: StateCovariance
    factor: float
    digest: str = ""


@dataclass(frozen=True)
class MultipliedCovariance:
    """A covariance times a factor."""

    covariance: StateCovariance
    factor: float

    def apply(self, x: Tensor) -> Tensor:
        """Factor B x."""
        return self.factor * self.covariance.apply(x)

    def color(self, z: Tensor) -> Tensor:
        """A draw from N(0, factor B)."""
        return self.factor**0.5 * self.covariance.color(z)

    def gather(self, x: Tensor) -> Tensor:
        """The transpose of `color`."""
        return self.factor**0.5 * self.covariance.gather(x)

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """That of the covariance."""
        return self.covariance.noise_shape(state_shape)


def static_covariance(
    context: SchemeContext, *, b: str | None, b_sha256: str | None, factor: float | None, scheme: str
) -> StaticCovariance:
    """Read the file `b`, or take the model's climatology; the factor is 1 for a file and 0.1 for a climatology.

    Raises ConfigError when there is neither, and what the reader of B raises for a file that does not fit.
    """
    if b is None:
        climatology = getattr(context.model, "climatology", None)
        if climatology is None:
            raise ConfigError(
                f"scheme {scheme}: needs a background-error covariance; got no `b` and a forecast model without a "
                f"climatology ({type(context.model).__name__}). Make B with `cycler calibrate-b CONFIG --output B.nc` "
                "and set `b: B.nc`, or use a learned interpolant."
            )
        return StaticCovariance(climatology.covariance, CLIMATOLOGICAL_FACTOR if factor is None else factor)
    if context.read_covariance is None:
        raise ConfigError(f"scheme {scheme}: `b` is {b}, but B files cannot be read here; leave `b` out")
    read, digest = context.read_covariance(b, context.layout, b_sha256)
    return StaticCovariance(read, 1.0 if factor is None else factor, digest)
