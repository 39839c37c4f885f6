"""Forecast by what window schemes know: the frames of a window after one that is known, drawn without observations.

    z_1 ... z_T-1 ~ p(z_1 ... z_T-1 | z_0),   then the next window from z_T-1

So one set of weights forecasts and assimilates, as PDEDiff has it (scheme `pdediff` draws the same windows, guided by
observations). Every window is drawn whole, whichever of its frames are asked for: the forecast of a step does not
depend on how far the forecast goes.
Source: Shysheya et al. (2024), arXiv:2410.16415; the sampler is the reverse chain with the covariance of every wave
(`generative.diffusion.sampler`).
Limits: one known frame; a window costs `n_steps` denoisings of all its frames, also for a forecast of one step, where
`interpolant` takes one pass of the transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast.base import model_steps
from cycler_da.generative.diffusion.sampler import draw_start, sample_redrawn
from cycler_da.generative.diffusion.schedule import COSINE_SQUARED, HIGH, LOW, ratio_times
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior, load_window
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@register("forecast", "windows")
@dataclass(frozen=True, kw_only=True)
class WindowsSpec(Spec):
    """Window weights as a forecast model; `weights` is a folder with a card."""

    weights: str
    sha256: str | None = None  # refuse any other weights file; a prefix of 8 or more digits is enough
    n_steps: int = 8

    def __post_init__(self) -> None:
        if self.n_steps < 2:
            raise ConfigError(f"forecast windows: n_steps is {self.n_steps}; expected 2 or more")

    def build(self, layout: Layout, *, device: str = "cpu") -> WindowsForecast:
        """Load the weights; raises WeightsMismatch or LayoutMismatch, ConfigError for another device than the cpu."""
        if device != "cpu":
            raise ConfigError(f"forecast windows: runs on the processor alone, got device {device!r}")
        known = load_window(Path(self.weights), layout=layout, sha256=self.sha256)
        return WindowsForecast(layout, known, self.n_steps)


@dataclass(frozen=True)
class WindowsForecast:
    """Windows drawn one after the other for every member."""

    layout: Layout
    known: WindowPrior
    n_steps: int
    history: int = 1

    @property
    def digest(self) -> str:
        """Identifies the weights."""
        return self.known.digest[:16]

    def forecast(self, start: Ensemble, valid_times: np.ndarray, *, noise: Noise) -> Ensemble:
        """Forecast every member to `valid_times`."""
        counts = model_steps(start.valid_time, valid_times, self.layout.step)
        scaling = self.known.scaling
        frames = scaling.to_scaled(start.values[:, -1:].to(torch.float64)).to(torch.float32)
        while frames.shape[1] <= counts[-1]:
            first = frames.shape[1]
            keyed = MemberNoise(noise, start.members, f"forecast.{first}", frames.dtype)
            frames = torch.cat([frames, self._window(frames[:, -1:], keyed)], dim=1)
        states = scaling.to_physical(frames[:, counts].to(torch.float64)).to(start.values.dtype)
        return Ensemble(states, np.asarray(valid_times), start.members, start.layout)

    @torch.no_grad()
    def _window(
        self, given: Float[Tensor, "member 1 channel y x"], noise: MemberNoise
    ) -> Float[Tensor, "member frame channel y x"]:
        """The frames after one that is known."""
        denoiser = self.known.denoiser(COSINE_SQUARED, self.known.frames).given(given)
        shape = (self.known.frames - 1, *given.shape[2:])
        times = ratio_times(COSINE_SQUARED, self.n_steps, low=LOW, high=HIGH)
        start = draw_start(noise, shape, dtype=noise.dtype)
        return sample_redrawn(denoiser, COSINE_SQUARED, times, start, draws=noise).clean
