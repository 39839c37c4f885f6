"""Forecast by the learned interpolant: the mean network and one draw of the localised residual a step.

    x_{k+1} = mu(x_k, history) + L r,   r drawn by stochastic localisation

With a Gaussian residual (no denoiser) one point of tau is exact; the released QG weights are of this kind.
Noise may enter before a step as well (`generative.kicks`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.forecast.base import model_steps
from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.kicks import kicked
from cycler_da.generative.localisation import (
    TAU_MAX,
    GaussianDraw,
    MemberNoise,
    localise,
    require_tau_options,
    tau_grid,
)
from cycler_da.generative.prediction import LearnedTransition
from cycler_da.generative.weights import load_transition, read_card
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from torch import Tensor


@register("forecast", "interpolant")
@dataclass(frozen=True, kw_only=True)
class InterpolantSpec(Spec):
    """Learned forecast model; `weights` is a folder with a card."""

    weights: str
    sha256: str | None = None  # refuse any other weights file; a prefix of 8 or more digits is enough
    tau_points: int = 1  # more only where the card says that the residual is not Gaussian
    tau_max: float = TAU_MAX

    def __post_init__(self) -> None:
        require_tau_options(self.tau_points, self.tau_max, where="forecast interpolant")

    def build(self, layout: Layout, *, device: str = "cpu") -> InterpolantForecast:
        """Load the weights; raises WeightsMismatch or LayoutMismatch."""
        folder = Path(self.weights)
        transition = load_transition(folder, layout=layout, sha256=self.sha256, device=device)
        taus = tau_grid(self.tau_points, self.tau_max)
        return InterpolantForecast(layout, transition, taus, read_card(folder).sha256[:16])


@dataclass(frozen=True)
class InterpolantForecast:
    """The learned transition, run forward for every member."""

    layout: Layout
    transition: LearnedTransition
    taus: tuple[float, ...]
    digest: str

    @property
    def history(self) -> int:
        """Number of times the network reads."""
        return self.transition.history

    @property
    def climatology(self) -> StateClimatology | None:
        """Mean and covariance of the system's states, from the weights."""
        return self.transition.state_climatology

    def forecast(self, start: Ensemble, valid_times: np.ndarray, *, noise: Noise) -> Ensemble:
        """Forecast every member to `valid_times`."""
        counts = model_steps(start.valid_time, valid_times, self.layout.step)
        frames, kept = start.values, []
        for step in range(1, counts[-1] + 1):
            state = self._step(frames, noise, start.members, step)
            frames = torch.cat([frames, state[:, None]], dim=1)[:, -self.history :]
            if step in counts:
                kept.append(state)
        return Ensemble(torch.stack(kept, dim=1), np.asarray(valid_times), start.members, start.layout)

    def kicked(self, frames: Tensor, noise: Noise, members: tuple[int, ...], step: int) -> Tensor:
        """Frames with the noise that enters before the `step`-th step of a forecast, where the transition has some."""
        keyed = MemberNoise(noise, members, f"forecast.{step}", frames.dtype, frames.device)
        return kicked(self.transition, frames, keyed)

    def _step(self, frames: Tensor, noise: Noise, members: tuple[int, ...], step: int) -> Tensor:
        prediction = self.transition.predict(self.kicked(frames, noise, members, step))
        mean = prediction.mean
        keyed = MemberNoise(noise, members, f"forecast.{step}", mean.dtype, mean.device)
        draw = GaussianDraw(prediction.endpoint, keyed)
        return prediction.to_state(localise(draw, self.taus, like=prediction.blank(mean.dtype), noise=keyed))
