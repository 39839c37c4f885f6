"""What window schemes know of a window before its observations, and how its background enters.

With weights: a window network and the covariances measured with it (`generative.window_weights`). Without: a Gaussian
with the climatology of the forecast model, whose every frame keeps `correlation` of the one before (no dynamics at all;
the baseline that says what a network is worth). Frames run from the previous analysis to the cycle time, one model step
apart.

The background is the mean of the previous analysis at the first frame, an observation with the covariance of the
ensemble by waves and without what it shares with the prior, or of every cell with its variance, beside which the prior
counts: right where that is an error of its own, or much sharper than climatology (`background`). Members are
independent samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.climatology import ScaledCovariance, StateClimatology
from cycler_da.generative.covariance import SpectralCovariance
from cycler_da.generative.diffusion.window_gaussian import persistent_lags
from cycler_da.generative.window_weights import WindowPrior, load_window
from cycler_da.schemes.base import Needs, Prior, SchemeContext
from cycler_da.schemes.window.background import NONE, WAVES, wave_background
from cycler_da.schemes.window.measurement import Part, frame_part
from cycler_da.schemes.window.options import LEAST_STD

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Most frames of a window without weights.
LONGEST = 16


def read_prior(
    weights: str | None, sha256: str | None, correlation: float, context: SchemeContext, *, scheme: str
) -> WindowPrior:
    """The prior of a config; raises ConfigError, WeightsMismatch or LayoutMismatch."""
    if weights is not None:
        return load_window(Path(weights), layout=context.layout, sha256=sha256)
    if not 0 <= correlation < 1:
        raise ConfigError(f"scheme {scheme}: correlation is {correlation}; expected 0 or more and below 1")
    climatology: StateClimatology | None = getattr(context.model, "climatology", None)
    covariance = None if climatology is None else climatology.covariance
    if not isinstance(covariance, ScaledCovariance) or not isinstance(covariance.scaled, SpectralCovariance):
        raise ConfigError(
            f"scheme {scheme}: without weights it needs a forecast model with a climatology by waves on a torus; got "
            f"{type(context.model).__name__}. Set weights to a folder of window weights, such as "
            "data/weights/two_layer_qg/window"
        )
    lags = persistent_lags(covariance.scaled.blocks(), correlation, LONGEST)
    return WindowPrior(lags, covariance.scaling, len(context.layout.channels), frames=2)


def window_needs(prior: WindowPrior, *, is_continued: bool = False) -> Needs:
    """What a scheme with this prior cannot do without; `is_continued`: it goes on from window to window."""
    return Needs(
        previous=True,
        gradient=True,
        n_members=2,
        own_times=True,
        window=prior.frames,
        longest_window=None if is_continued else prior.longest,
    )


@dataclass(frozen=True)
class Window:
    """The frames of a cycle and its background."""

    times: np.ndarray  # datetime64[s], the first is that of the previous analysis
    states: Float[Tensor, "member channel y x"]  # of the previous analysis, scaled, float64
    variance: Float[Tensor, "channel"]  # of their mean, scaled, float64

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.times)


def window_of(prior: Prior, known: WindowPrior, needs: Needs, *, background_error: float | None, scheme: str) -> Window:
    """The window of a cycle; raises AnalysisFailed without a previous analysis or with too few or too many frames."""
    if prior.previous is None:
        raise AnalysisFailed(f"{scheme}: needs the previous analysis, where its window begins, and got none")
    first, last, step = prior.previous.valid_time, prior.background.valid_time, prior.background.layout.step
    n_frames = int((last - first) / step) + 1
    most = needs.longest_window
    if n_frames < known.frames or (most is not None and n_frames > most):
        expected = f"{known.frames} or more" if most is None else f"{known.frames} to {most}"
        raise AnalysisFailed(f"{scheme}: the window has {n_frames} frames from {first} to {last}; expected {expected}")
    states = known.scaling.to_scaled(prior.previous.latest.to(torch.float64))
    if background_error is None:
        variance = states.var(dim=0).mean(dim=(-2, -1)).clamp(min=LEAST_STD**2)
    else:
        variance = torch.full((states.shape[1],), background_error**2, dtype=torch.float64)
    return Window(first + step * np.arange(n_frames), states, variance)


def background_parts(window: Window, known: WindowPrior, shape: tuple[int, ...], *, form: str) -> tuple[Part, ...]:
    """What is known of the first frame of a window of `shape` without its observations, beside the prior.

    `form`: how it is taken (`window.background`).
    """
    if form == NONE:
        return ()
    if form == WAVES:
        n = window.states.shape[1]
        return (wave_background(window.states, known.lags[0, :n, :n].permute(2, 3, 0, 1), shape),)
    return frame_part(0, window.states.mean(dim=0), window.variance, shape)


def has_transition(known: WindowPrior) -> bool:
    """True where the weights can carry a background through the window."""
    return known.network is not None and known.inner is not None


def require_transition(known: WindowPrior, *, scheme: str) -> None:
    """Raise ConfigError where they cannot."""
    if not has_transition(known):
        raise ConfigError(
            f"scheme {scheme}: start is 'background', which needs window weights with a transition, such as "
            "data/weights/two_layer_qg/window; set it to noise, without coupling"
        )


@torch.no_grad()
def carried(
    known: WindowPrior, states: Float[Tensor, "member channel y x"], n_frames: int
) -> Float[Tensor, "member frame channel y x"]:
    """Scaled states at the first frame and their forecasts at the others, by the transition of the weights."""
    assert known.network is not None
    frames = [states.to(torch.float32)]
    for _ in range(n_frames - 1):
        frames.append(frames[-1] + known.network(frames[-1]))
    return torch.stack(frames, dim=1)
