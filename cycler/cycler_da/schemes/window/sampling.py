"""Drawing windows from a guided denoiser: what the window schemes share beside their prior.

Times are the published grid (`linear`), or equidistant in log(sigma / mu) between 30 and 0.01 (`ratio`), where 8 to 32
steps do what 256 do. With a guess (`start: background`, `guess`) they begin there, with noise beside which its spread
is small, and the flow that carried it there is not lost. The answer is the last denoised estimate. Members are keyed by
their ids, so that a window is the same whatever batch it is drawn in, but for what the solver of the likelihood leaves
(`SOLVED`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.diffusion.corrector import ForwardDiffusion, Langevin
from cycler_da.generative.diffusion.denoiser import Denoiser
from cycler_da.generative.diffusion.likelihood import (
    KnownCovariance,
    MomentMatching,
    WidenedLikelihood,
    Widening,
    dps_widening,
    sda_widening,
    soad_widening,
)
from cycler_da.generative.diffusion.sampler import (
    Drawer,
    Replacement,
    draw_start,
    sample,
    sample_ancestral,
    sample_redrawn,
    sample_second_order,
)
from cycler_da.generative.diffusion.schedule import HIGH, LOW, Schedule, find_schedule, linear_times, ratio_times
from cycler_da.generative.diffusion.window import GivenFrames, WindowDenoiser
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Analysis, Prior
from cycler_da.schemes.frame.checks import finite_window_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import used_share
from cycler_da.schemes.window.cells import CurvePart
from cycler_da.schemes.window.guess import Guess
from cycler_da.schemes.window.hx import window_hx
from cycler_da.schemes.window.mean_slope import LinearisedCurves, require_slopes
from cycler_da.schemes.window.measurement import WindowMeasurement

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Samplers and how many steps they take where nothing else is said.
SAMPLERS: Mapping[str, int] = {"redrawn": 8, "second_order": 16, "exponential": 16, "ancestral": 16}
#: Steps from coupled windows with the first of them, from a noise that is small already.
COUPLED_STEPS = 2
GRIDS = ("ratio", "linear")
LIKELIHOODS = ("known_covariance", "moment_matching", "sda", "soad", "dps")
#: How a known covariance takes curves of cells: by their mean slope over what is left, or the slope at the estimate.
LINEARISATIONS = ("mean_slope", "tangent")
#: Residual at which the systems of a likelihood are solved well enough: in about posterior deviations (known
#: covariance; errors are several times that where less is seen than on average, and add up over the steps), in parts of
#: the misfit (moment matching). The model of C_t is rougher. Points need 20 to 100 iterations, operators that are not
#: local (velocities of QG) 200.
SOLVED, SOLVED_OF_MISFIT, MOST_ITERATIONS = 1.5e-3, 5e-3, 2000


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a window is drawn."""

    schedule: str = "cosine_squared"
    sampler: str = "second_order"
    times: str = "ratio"
    n_steps: int = 16
    corrector_steps: int = 0
    tau: float = 0.25
    score: str = "fresh"

    def __post_init__(self) -> None:
        find_schedule(self.schedule)
        for name, value, valid in (("sampler", self.sampler, SAMPLERS), ("times", self.times, GRIDS)):
            if value not in valid:
                raise ConfigError(f"{name} is {value!r}; valid: {', '.join(valid)}")
        if self.corrector_steps and self.sampler != "exponential":
            raise ConfigError(
                f"corrector_steps is {self.corrector_steps} with sampler {self.sampler}; correctors go with exponential"
            )
        self.grid()
        if self.corrector_steps:
            Langevin(self.law, MemberNoise(Noise(0), (), "check"), self.corrector_steps, self.tau, self.score)

    @property
    def law(self) -> Schedule:
        """The schedule."""
        return find_schedule(self.schedule)

    def grid(self) -> tuple[float, ...]:
        """Times from noise to the window."""
        if self.times == "linear":
            return linear_times(self.n_steps)
        return ratio_times(self.law, self.n_steps, low=LOW, high=HIGH)

    @torch.no_grad()
    def draw(
        self,
        denoiser: Denoiser,
        shape: tuple[int, ...],
        noise: MemberNoise,
        *,
        replacement: Replacement | None = None,
        dtype: torch.dtype = torch.float32,
        guess: Guess | None = None,
    ) -> Float[Tensor, "member frame channel y x"]:
        """One window of every member, from noise or from a guess of it, scaled."""
        times, start = self.grid(), draw_start(noise, shape, dtype=dtype)
        if guess is not None:
            times = ratio_times(self.law, self.n_steps, low=LOW, high=guess.ratio)
            start = self.law.mu(times[0]) * guess.windows.to(dtype) + self.law.sigma(times[0]) * start
        if self.sampler == "second_order":
            return sample_second_order(denoiser, self.law, times, start).clean
        if self.sampler == "redrawn":
            assert isinstance(denoiser, Drawer)  # `sampler_of` sees to it
            return sample_redrawn(denoiser, self.law, times, start, draws=noise).clean
        if self.sampler == "ancestral":
            return sample_ancestral(denoiser, self.law, times, start, draws=noise).clean
        langevin = None
        if self.corrector_steps:
            then = replacement
            if isinstance(replacement, ForwardDiffusion):  # not the draws that the step before the moves has taken
                then = replace(replacement, stream=f"{replacement.stream}.moved")
            langevin = Langevin(self.law, noise, self.corrector_steps, self.tau, self.score, then=then)
        return sample(denoiser, self.law, times, start, corrector=langevin, replacement=replacement).clean


def guided(
    denoiser: WindowDenoiser | GivenFrames,
    schedule: Schedule,
    measurement: WindowMeasurement,
    *,
    likelihood: str,
    linearisation: str = LINEARISATIONS[0],
    gamma: float = 0.01,
    prior_std: float = 1.0,
    clip: float | None = None,
) -> Denoiser:
    """The denoiser given the measurement, by the name of the likelihood score."""
    if likelihood == "known_covariance":
        curves = [part for part in measurement.parts if isinstance(part, CurvePart)]
        if linearisation == "mean_slope" and curves:
            require_slopes(curves)
            return LinearisedCurves(denoiser, measurement.parts, SOLVED, MOST_ITERATIONS)
        return KnownCovariance(denoiser, measurement, denoiser.left, SOLVED, MOST_ITERATIONS)
    if likelihood == "moment_matching":
        return MomentMatching(denoiser, schedule, measurement, SOLVED_OF_MISFIT, MOST_ITERATIONS)
    widenings: Mapping[str, Widening] = {
        "sda": sda_widening(gamma),
        "soad": soad_widening(prior_std),
        "dps": dps_widening(),
    }
    return WidenedLikelihood(denoiser, schedule, measurement, widenings[likelihood], clip)


def sampler_of(
    sampler: str | None, n_steps: int | None, *, likelihood: str, scheme: str, is_coupled: bool = False
) -> tuple[str, int]:
    """Sampler and number of steps where they may be left out: `redrawn` for the likelihood that knows a covariance.

    Raises ConfigError for that sampler with another likelihood, and for an unknown one.
    """
    has_covariance = likelihood == "known_covariance"
    name = sampler or ("redrawn" if has_covariance else "second_order")
    if name not in SAMPLERS:
        raise ConfigError(f"scheme {scheme}: sampler is {name!r}; valid: {', '.join(SAMPLERS)}")
    if name == "redrawn" and not has_covariance:
        raise ConfigError(
            f"scheme {scheme}: sampler redrawn draws with the covariance of likelihood known_covariance, got "
            f"likelihood {likelihood}; set that, or leave sampler out"
        )
    if n_steps is None:
        n_steps = COUPLED_STEPS if is_coupled and name == "redrawn" else SAMPLERS[name]
    return name, n_steps


def require_likelihood(name: str, *, scheme: str) -> None:
    """Raise ConfigError for an unknown likelihood score."""
    if name not in LIKELIHOODS:
        raise ConfigError(f"scheme {scheme}: likelihood is {name!r}; valid: {', '.join(LIKELIHOODS)}")


def require_linearisation(name: str, *, likelihood: str, scheme: str) -> None:
    """Raise ConfigError for an unknown linearisation, or for one where none is chosen."""
    if name not in LINEARISATIONS:
        raise ConfigError(f"scheme {scheme}: linearisation is {name!r}; valid: {', '.join(LINEARISATIONS)}")
    if name != LINEARISATIONS[0] and likelihood != "known_covariance":
        raise ConfigError(
            f"scheme {scheme}: linearisation {name} goes with likelihood known_covariance, got {likelihood}, which "
            "takes h as it is; leave it out"
        )


def window_analysis(
    prior: Prior,
    observations: Observations,
    windows: Float[Tensor, "member frame channel y x"],
    times: np.ndarray,
    scaling: Scaling,
    *,
    carry: Mapping[str, Tensor],
    scheme: str,
) -> Analysis:
    """The analysis whose members are the last frames of their windows (scaled; `times` are those of the frames).

    Frames of the background inside the window become the smoothed ones. Raises AnalysisFailed where one of them is no
    frame of the window, or a value is not finite.
    """
    background = prior.background
    hx = finite_window_hx(background, observations, scheme=scheme)
    inside = np.searchsorted(times, background.valid_times)
    if (inside == len(times)).any() or (times[inside.clip(max=len(times) - 1)] != background.valid_times).any():
        raise AnalysisFailed(
            f"{scheme}: the background has frames at {background.valid_times}, its window at {times}; expected frames "
            "of the window. Set cycles.frames to whole model steps"
        )
    frames = scaling.to_physical(windows[:, inside].to(torch.float64)).to(background.values.dtype)
    for frame in frames.unbind(dim=1):
        require_finite(frame, layout=background.layout, scheme=scheme)
    analysed = background.with_values(frames)
    share = used_share(observations.values - hx, window_hx(analysed, observations) - hx)
    report = {"n_obs": float(len(observations)), "dof_signal": share * len(observations)}
    return conclude(background, frames[:, -1], carry=carry, report=report, earlier=frames[:, :-1])
