"""The background of a window: what the ensemble knew of its first frame, as an observation of it.

    cells   every cell by itself, with one error variance for each variable: what a config says (`background_error`),
            and what likelihoods take that know no covariance
    waves   the law N(xbar, S) of the whole frame, S the ensemble's covariance by shells of waves
    none    nothing is said of it: every window knows the climate alone, as published SDA does

Errors of an analysis are smooth where its observations are far apart. Taken for independent from cell to cell they
count as thousands of observations of what is one, and a cycled ensemble becomes too sure of it (decision 0045).
S is estimated from the deviations of the members, real and without a direction; shells with few waves and members are
drawn towards the variance of cells, as `PRIOR` more deviations would.

A cycled ensemble knows of the climate already, whose covariance C of every wave is in the prior of windows. By waves
the background is therefore only what the ensemble knows beyond it,

    A x_1 = A w + e,   A^T A = S^-1 - C^-1,   A^T A w = S^-1 xbar,   e ~ N(0, I)

so that prior and background together are N(xbar, S), whatever C is. In directions of a wave in which S is not below
`KNOWN` C the ensemble knows nothing beyond the climate, and nothing is said. A background by cells is an observation
with an error of its own, beside which the climate counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.shells import Shells
from cycler_da.schemes.window.options import LEAST_STD

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor

CELLS, WAVES, NONE = "cells", "waves", "none"
#: Deviations with the variance of cells that are added to those of the ensemble, in every shell.
PRIOR = 4.0
#: Least part of the variance of cells in any shell.
LEAST_PART = 1e-2
#: Part of the climate's variance above which an ensemble knows nothing beyond the climate.
KNOWN = 0.9
#: Least variance of the climate that is taken for one, in that of its largest wave.
LEAST_CLIMATE = 1e-10
#: Part of the largest precision of a wave below which another is rounding, whose root would be none.
ROUNDING = 1e-12


@dataclass(frozen=True)
class WaveBackground:
    """The first channels of a frame, seen whole through A."""

    frame: int
    root: Complex[Tensor, "y k state state"]  # A of every wave of rfft2, Hermitian
    mean: Float[Tensor, "state y x"]  # w, float64
    shape: tuple[int, ...]  # of a window: frame, channel, y, x

    @property
    def values(self) -> Float[Tensor, "obs"]:
        """A w."""
        return self.filtered(self.mean[None])[0].flatten()

    @property
    def error_variance(self) -> Float[Tensor, "obs"]:
        """One."""
        return torch.ones(self.mean.numel(), dtype=torch.float64)

    def hx(self, z: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """A z."""
        return self.slope(z).forward(z)

    def slope(self, z: Float[Tensor, "batch frame channel y x"]) -> WaveBackgroundSlope:
        """A, whatever z."""
        return WaveBackgroundSlope(self)

    def of_waves(self) -> Complex[Tensor, "y k state state"]:
        """A^T A of every wave."""
        return self.root @ self.root

    def filtered(self, x: Float[Tensor, "batch state y x"]) -> Float[Tensor, "batch state y x"]:
        """A x."""
        return _by_waves(self.root, x.to(torch.float64))


@dataclass(frozen=True)
class WaveBackgroundSlope:
    """A of a `WaveBackground`."""

    part: WaveBackground

    def forward(self, v: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch obs"]:
        """A v."""
        return self.part.filtered(v[:, self.part.frame, : len(self.part.mean)]).flatten(1)

    def transpose(self, w: Float[Tensor, "batch obs"]) -> Float[Tensor, "batch frame channel y x"]:
        """A^T w."""
        total = w.new_zeros((len(w), *self.part.shape))
        back = self.part.filtered(w.view(len(w), *self.part.mean.shape))
        total[:, self.part.frame, : len(self.part.mean)] = back.to(w.dtype)
        return total


def wave_background(
    states: Float[Tensor, "member state y x"], climate: Complex[Tensor, "y k state state"], shape: tuple[int, ...]
) -> WaveBackground:
    """The part of a first frame of scaled states, float64, with the covariance of these members, two or more.

    `climate`: C, of white noise the variance of a cell.
    """
    spectrum = Shells(states.shape[-1]).of_each_wave(spectrum_of(states)).to(torch.complex128)
    variances, axes = torch.linalg.eigh(climate.to(torch.complex128))
    deviations = variances.clamp(min=LEAST_CLIMATE * float(variances.max())).sqrt()
    whiten = axes.mH / deviations[..., None]  # of the climate
    parts, directions = torch.linalg.eigh(whiten @ spectrum @ whiten.mH)  # S in C
    is_known = parts < KNOWN
    precision = torch.where(is_known, 1.0 / parts.clamp(min=LEAST_CLIMATE) - 1.0, 0.0)
    larger = torch.where(is_known, 1.0 / (1.0 - parts.clamp(max=KNOWN)), 0.0)  # w, in xbar
    turn = directions.mH @ whiten
    back = (axes * deviations[..., None, :]) @ directions
    root = _root((turn.mH * precision[..., None, :]) @ turn)
    mean = _by_waves((back * larger[..., None, :]) @ turn, states.mean(dim=0)[None])[0]
    return WaveBackground(0, root, mean, shape)


def _by_waves(
    matrices: Complex[Tensor, "y k out inn"], x: Float[Tensor, "batch inn y x"]
) -> Float[Tensor, "batch out y x"]:
    return torch.fft.irfft2(torch.einsum("ykoi,biyk->boyk", matrices, torch.fft.rfft2(x)), s=x.shape[-2:])


def _root(matrices: Complex[Tensor, "y k n n"]) -> Complex[Tensor, "y k n n"]:
    values, vectors = torch.linalg.eigh(matrices)
    values = torch.where(values > ROUNDING * values[..., -1:], values, 0.0)
    return (vectors * values.sqrt()[..., None, :]) @ vectors.mH


def spectrum_of(states: Float[Tensor, "member state y x"]) -> Float[Tensor, "shell state state"]:
    """S of every shell, positive definite; of white noise the variance of a cell."""
    shells, n = Shells(states.shape[-1]), len(states)
    apart = states - states.mean(dim=0)
    found = shells.cross(apart, apart) * n / (n - 1)
    white = torch.diag(states.var(dim=0).mean(dim=(-2, -1)).clamp(min=LEAST_STD**2))
    told = ((n - 1) * shells.waves).to(found)[:, None, None]
    return (told * found + PRIOR * white) / (told + PRIOR) + LEAST_PART * white


def require_background(
    name: str | None, background_error: float | None, *, likelihood: str, replaced: str = "none", scheme: str
) -> None:
    """Raise ConfigError for an unknown way to take the background, and for waves where they cannot be."""
    if name not in (None, CELLS, WAVES, NONE):
        raise ConfigError(f"scheme {scheme}: background is {name!r}; valid: {CELLS}, {WAVES}, {NONE}")
    if name in (WAVES, NONE) and background_error is not None:
        has = "no error" if name == NONE else "the covariance of the ensemble"
        raise ConfigError(
            f"scheme {scheme}: background {name} has {has}, and background_error is {background_error:g}; leave one of "
            "them out"
        )
    if name != WAVES:
        return
    if likelihood != "known_covariance" or replaced == "observed_and_background":
        raise ConfigError(
            f"scheme {scheme}: background waves goes with likelihood known_covariance and a background that is in it, "
            f"got likelihood {likelihood} and replaced {replaced}; set background to {CELLS}"
        )


def background_form(
    name: str | None,
    background_error: float | None,
    grid: tuple[int, ...],
    *,
    likelihood: str,
    replaced: str = "none",
    scheme: str,
) -> str:
    """How a background is taken: by waves on a square grid, if a config says nothing that speaks against it.

    Raises ConfigError where a config wants waves on another grid.
    """
    is_square = len(grid) == 2 and grid[0] == grid[1]
    if name == WAVES and not is_square:
        raise ConfigError(f"scheme {scheme}: background waves needs a square grid, got {grid}; set it to {CELLS}")
    if name is not None:
        return name
    may = is_square and background_error is None and replaced != "observed_and_background"
    return WAVES if may and likelihood == "known_covariance" else CELLS
