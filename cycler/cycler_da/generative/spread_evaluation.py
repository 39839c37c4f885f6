"""Is a predicted standard deviation honest? Scores of (mean, std) against what came, and the residual's correlation.

    z2             mean of ((y - mean) / std)^2: 1 when the spread is right where it is
    z2_echo        the same where the mean is above `ECHO`, and z2_clear where it is not
    spread_skill   sqrt(mean std^2 / mean (y - mean)^2), over all known cells
    power_ratio    power of a forecast over power of what came, at wavelengths in cells (Hann window)

`exponential_length` fits the correlation of z in echo by exp(-d / length), from lags along the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

#: Predicted value above which a cell counts as echo (code 16, on the code scale).
ECHO = 16.0 / 255.0
LAGS = (1, 2, 3, 4, 6, 8)
WAVELENGTHS = (64, 32, 16, 8, 4)  # cells


def spread_scores(
    mean: Float[Tensor, "batch 1 y x"],
    std: Float[Tensor, "batch 1 y x"],
    target: Float[Tensor, "batch 1 y x"],
    *,
    known: Bool[Tensor, "batch 1 y x"],
) -> dict[str, float]:
    """Honesty of the predicted spread over the known cells."""
    error = (target - mean).to(torch.float64)
    z2 = (error / std) ** 2
    echo = mean > ECHO
    return {
        "z2": float(z2[known].mean()),
        "z2_echo": float(z2[known & echo].mean()),
        "z2_clear": float(z2[known & ~echo].mean()),
        "spread_skill": float(torch.sqrt(std[known].to(torch.float64).square().mean() / error[known].square().mean())),
        "bias": float(-error[known].mean()),
    }


def lag_correlations(
    z: Float[Tensor, "batch 1 y x"], known: Bool[Tensor, "batch 1 y x"], *, lags: Sequence[int] = LAGS
) -> list[float]:
    """Correlation of z at distances along the axes (cells), mean of both axes, over pairs that are both known."""
    z = torch.where(known, z, 0.0).to(torch.float64)
    variance = z[known].square().mean()
    found = []
    for lag in lags:
        sums, counts = 0.0, 0
        for axis in (2, 3):
            n = z.shape[axis] - lag
            both = known.narrow(axis, 0, n) & known.narrow(axis, lag, n)
            sums += float((z.narrow(axis, 0, n) * z.narrow(axis, lag, n))[both].sum())
            counts += int(both.sum())
        found.append(sums / max(counts, 1) / float(variance))
    return found


def exponential_length(correlations: Sequence[float], *, lags: Sequence[int] = LAGS) -> float:
    """Length in cells of the exponential nearest to the correlations in the mean square, to 0.05 cells."""
    lengths = np.arange(0.2, 20.0, 0.05)
    model = np.exp(-np.asarray(lags)[None, :] / lengths[:, None])
    return float(lengths[((model - np.asarray(correlations)) ** 2).sum(axis=1).argmin()].round(2))


def power_ratio(
    forecast: Float[Tensor, "batch 1 y x"], target: Float[Tensor, "batch 1 y x"], *, spacing_km: float
) -> dict[str, float]:
    """Power of the forecast over power of the target, by wavelength in km: below 1 is too smooth."""
    n = target.shape[-1]
    window = torch.hann_window(n, periodic=False, dtype=torch.float64)
    taper = window[:, None] * window[None, :]
    ours, theirs = (torch.fft.rfft2(x[..., :n, :n].to(torch.float64) * taper).abs() ** 2 for x in (forecast, target))
    k = torch.fft.rfftfreq(n, dtype=torch.float64)[None, :]
    radius = torch.sqrt(k**2 + torch.fft.fftfreq(n, dtype=torch.float64)[:, None] ** 2)
    ratios = {}
    for wavelength in WAVELENGTHS:
        band = (radius * wavelength > 0.8) & (radius * wavelength < 1.25)
        ratios[f"{wavelength * spacing_km:g} km"] = float(ours[..., band].mean() / theirs[..., band].mean())
    return ratios


def rounded(value: Any, digits: int = 4) -> Any:
    """Numbers of a nested description with few digits, as a card shows them."""
    if isinstance(value, dict):
        return {key: rounded(inner, digits) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner, digits) for inner in value]
    return round(value, digits) if isinstance(value, float) else value
