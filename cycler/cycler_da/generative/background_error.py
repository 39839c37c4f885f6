"""Background-error statistics estimated from fields of forecast errors (or forecast differences), and B made of them.

spectral, for grids that are periodic in both directions: B = D F^H C F D, D the standard deviation of each channel,
    C_k = mean of (e / D)_k (e / D)_k^H   over samples, and over shells of |k| (isotropic, real) or not (homogeneous)
local, for rectangles: B = D(x) K D(x), with a standard deviation for every cell and one correlation for all channels,
    D(x)^2 = samples' mean square, smoothed over `SMOOTHING` cells;   K(d) = w exp(-d / l) + (1 - w) [d = 0]
with w and l fitted to the correlation of e / D at lags along the axes. Channels are independent of each other there.

The samples' mean over samples and cells is taken out of every channel. Errors of a shell's or wave number's block are
about 1 / sqrt(samples x modes); samples of successive cycles are not independent.
Sources: Parrish and Derber (1992), Mon. Wea. Rev. 120 (differences of forecasts); Berre (2000), Mon. Wea. Rev. 128
(spectral covariances of several variables); Daley (1991), Atmospheric Data Analysis, ch. 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from cycler_da.errors import ConfigError, DataError
from cycler_da.generative.climatology import ScaledCovariance, StateCovariance
from cycler_da.generative.covariance import (
    blocks_from_residuals,
    shells_from_residuals,
    spectral_from_blocks,
    spectral_from_shells,
)
from cycler_da.generative.local_covariance import LocalCovariance, exponential_correlation
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.spread_evaluation import lag_correlations
from cycler_da.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SHAPES = ("isotropic", "homogeneous", "local")
#: Fewest samples of each shape: a shell has four modes or more, a wave number has one.
FEWEST = {"isotropic": 8, "homogeneous": 40, "local": 8}
#: Standard deviation (cells) of the Gaussian that smooths local variances, and their floor as a share of the mean.
SMOOTHING = 4.0
LEAST_VARIANCE = 0.01
#: Lags (cells) from which a local correlation is fitted.
LAGS = (1, 2, 3, 4, 6, 8)
#: Lengths of an exponential after which it may wrap around: exp(-12) = 6e-6.
REACH = 12.0


@dataclass(frozen=True)
class BackgroundError:
    """Statistics of one shape; of `shells`, `blocks` and `parts` it has the one of its shape."""

    shape: str
    std: Float[Tensor, "channel *space"]  # units of the state, float64; no space axes unless local
    n_samples: int
    shells: Float[Tensor, "shell channel channel"] | None = None
    blocks: Tensor | None = None  # (y, k, channel, channel), complex Hermitian
    parts: tuple[tuple[float, float], ...] = ()  # (weight, length in cells)

    def covariance(self, layout: Layout) -> StateCovariance:
        """B on the layout it was estimated for."""
        if self.shape == "local":
            correlation = exponential_correlation(tuple(layout.grid.shape), self.parts, reach=REACH)  # type: ignore[arg-type]
            return LocalCovariance(self.std[None], correlation)
        if self.shells is not None:
            spectral = spectral_from_shells(self.shells, layout.grid.shape[-1])
        elif self.blocks is not None:
            spectral = spectral_from_blocks(self.blocks)
        else:
            raise ValueError(f"background error of shape {self.shape} without spectra")
        return ScaledCovariance(Scaling((0.0,) * len(self.std), tuple(self.std.tolist())), spectral)


def estimate(errors: Float[Tensor, "sample channel *space"], layout: Layout, *, shape: str) -> BackgroundError:
    """Estimate the statistics of one shape.

    Raises ConfigError for a shape that does not fit the grid, DataError for too few samples, values that are not
    finite, and a channel without variance.
    """
    require_shape(layout, shape)
    if len(errors) < FEWEST[shape]:
        raise DataError(
            f"background error: {len(errors)} samples; expected at least {FEWEST[shape]} for shape {shape}. Give more "
            "cycles or more starts" + (", or use shape isotropic." if shape == "homogeneous" else ".")
        )
    e = errors.to(torch.float64)
    bad = [name for i, name in enumerate(layout.channels) if not bool(e[:, i].isfinite().all())]
    if bad:
        raise DataError(
            f"background error: samples of {', '.join(bad)} are not finite; look at the forecasts they are of"
        )
    e = e - e.mean(dim=(0, *range(2, e.ndim)), keepdim=True)
    flat = [name for i, name in enumerate(layout.channels) if not float(e[:, i].abs().max()) > 0]
    if flat:
        raise DataError(
            f"background error: samples of {', '.join(flat)} are all the same; expected forecast errors. A numerical "
            "forecast from the truth has none: start from a chain's analyses (--chain) or from perturbed states."
        )
    return _local(e) if shape == "local" else _spectral(e, shape)


def require_shape(layout: Layout, shape: str) -> None:
    """Raise ConfigError, naming the shapes that fit, unless `shape` fits the grid of the layout."""
    axes = layout.grid.axes
    is_square = len(axes) == 2 and axes[0].size == axes[1].size and axes[0].spacing == axes[1].spacing
    is_torus = is_square and all(axis.periodic for axis in axes) and axes[0].size % 2 == 0
    fitting = ("isotropic", "homogeneous") if is_torus else ("local",) if len(axes) == 2 else ()
    if shape not in fitting:
        grid = "x".join(f"{axis.size}{' periodic' if axis.periodic else ''}" for axis in axes) or "a single point"
        raise ConfigError(
            f"background error of shape {shape!r} does not fit {layout.system} ({grid}); valid there: "
            f"{', '.join(fitting) or 'none (two axes are needed)'}"
        )


def default_shape(layout: Layout) -> str:
    """Isotropic on a torus, local elsewhere."""
    return "isotropic" if all(axis.periodic for axis in layout.grid.axes) else "local"


def _spectral(e: Tensor, shape: str) -> BackgroundError:
    std = e.square().mean(dim=(0, 2, 3)).sqrt()
    z = e / std[:, None, None]
    if shape == "isotropic":
        return BackgroundError(shape, std, len(e), shells=shells_from_residuals(z))
    return BackgroundError(shape, std, len(e), blocks=blocks_from_residuals(z))


def _local(e: Tensor) -> BackgroundError:
    variance = _smoothed(e.square().mean(dim=0))
    floor = LEAST_VARIANCE * variance.mean(dim=(1, 2), keepdim=True)
    std = torch.maximum(variance, floor).sqrt()
    z = (e / std).flatten(0, 1)[:, None]
    found = lag_correlations(z, torch.ones_like(z, dtype=torch.bool), lags=LAGS)
    weight, length = fit_exponential(found)
    parts = [(weight, length), (1 - weight, 0.0)]
    return BackgroundError("local", std, len(e), parts=tuple(part for part in parts if part[0] > 0))


def fit_exponential(correlations: list[float], *, lags: tuple[int, ...] = LAGS) -> tuple[float, float]:
    """Weight and length (cells) of w exp(-d / l), nearest in the mean square, 0.01 <= w <= 1 and 0.2 <= l <= 40."""
    lengths = torch.logspace(-0.7, 1.6, 400, dtype=torch.float64)
    found = torch.tensor(correlations, dtype=torch.float64)
    model = torch.exp(-torch.tensor(lags, dtype=torch.float64)[None] / lengths[:, None])
    weights = ((model * found).sum(dim=1) / model.square().sum(dim=1)).clamp(0.01, 1.0)
    best = int((weights[:, None] * model - found).square().sum(dim=1).argmin())
    return float(weights[best]), float(lengths[best])


def _smoothed(field: Float[Tensor, "channel y x"]) -> Float[Tensor, "channel y x"]:
    """Gaussian mean over the cells within reach; near the rim over those that exist."""
    reach = round(3 * SMOOTHING)
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=field.dtype) / SMOOTHING) ** 2)

    def passed(x: Tensor) -> Tensor:
        x = F.conv2d(x[:, None], weight[None, None, :, None], padding=(reach, 0))
        return F.conv2d(x, weight[None, None, None, :], padding=(0, reach))[:, 0]

    return passed(field) / passed(torch.ones_like(field))


def correlation_along(error: BackgroundError, layout: Layout, *, axis: int) -> Float[Tensor, "channel channel n"]:
    """Correlation of each channel in the middle cell with each channel along one axis, over the whole axis."""
    unit = replace(error, std=torch.ones_like(error.std)).covariance(layout)
    middle = tuple(n // 2 for n in layout.grid.shape)
    n_channels = len(layout.channels)
    units = torch.zeros((n_channels, *layout.state_shape), dtype=torch.float64)
    for channel in range(n_channels):
        units[(channel, channel, *middle)] = 1.0
    columns = unit.apply(units)
    return columns[:, :, :, middle[1]] if axis == 0 else columns[:, :, middle[0]]


def length_scale(correlation: Float[Tensor, "n"], spacing: float) -> float:
    """Distance at which a correlation along an axis, from its middle on, falls to exp(-1/2): a Gaussian's length.

    Interpolated linearly between cells; the longest distance there is where it does not fall so far.
    """
    half = correlation[len(correlation) // 2 :]
    level = 0.6065306597126334
    below = torch.nonzero(half <= level)
    if len(below) == 0:
        return spacing * (len(half) - 1)
    i = int(below[0])
    share = float((half[i - 1] - level) / (half[i - 1] - half[i]))
    return spacing * (i - 1 + share)
