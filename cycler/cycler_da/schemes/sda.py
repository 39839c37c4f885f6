"""Score-based data assimilation: all frames of a window are drawn at once, given all its observations.

A diffusion of windows of frames knows how states follow each other; a likelihood score brings in the observations of
every frame and the background of the first one; samples are smoothed windows, and their last frames are the analysis.
Windows longer than the network's are composed of its windows (the pseudo Markov blanket).

Source: Rozet and Louppe (2023), arXiv:2306.10574 and 2310.01853 (two-layer QG). As published: `{likelihood: sda, gamma:
0.01, background: none, sampler: exponential, times: linear, n_steps: 256, corrector_steps: 1}`.
Departures by default: the likelihood's covariance is that of the prior's spectra, C_t of every wave (no gamma to tune,
no backward pass through the network); the reverse chain with that covariance (`redrawn`, 8 steps) on a grid in
log(sigma / mu); curves of cells by their mean slope over what is left (`window.mean_slope`; or `linearisation:
tangent`, by the slope at the estimate); the background as one more observation (`window.prior`); chains that begin at
the members carried through the window, with `coupling` moved by its observations first (`window.guess`): in a cycle
take it, with the radius of an LETKF.
Limits: needs a network (or its Gaussian) of this system, and several model steps between analyses. Cost: n_steps passes
for each window of the composition. Observations are taken at the nearest frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.window.background import background_form, require_background
from cycler_da.schemes.window.coupling import WindowCouplingSpec
from cycler_da.schemes.window.guess import Beginning, Guess, beginning_of, require_start
from cycler_da.schemes.window.mean_slope import require_operators
from cycler_da.schemes.window.measurement import WindowMeasurement, split_by_frame, state_parts
from cycler_da.schemes.window.options import require_options, require_stride
from cycler_da.schemes.window.prior import background_parts, read_prior, window_needs, window_of
from cycler_da.schemes.window.sampling import (
    Sampling,
    guided,
    require_likelihood,
    require_linearisation,
    sampler_of,
    window_analysis,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@register("scheme", "sda")
@dataclass(frozen=True, kw_only=True)
class SdaSpec(Spec):
    """Options."""

    weights: str | None = None  # folder of window weights; None: a Gaussian with the model's climatology
    sha256: str | None = None
    correlation: float = 0.9  # of that Gaussian, from frame to frame
    likelihood: str = "known_covariance"
    linearisation: str = "mean_slope"  # of curves, with likelihood known_covariance; or tangent
    gamma: float = 0.01  # of likelihood sda
    background: str | None = None  # cells | waves | none; None: waves where grid and options allow it
    background_error: float | None = None  # climatological standard deviations; None: the ensemble's spread
    stride: int = 1  # between the network's windows in a longer one
    start: str | None = None  # noise | background, carried through the window; None: this where weights can carry it
    coupling: WindowCouplingSpec | None = None  # of the carried members by the window's observations; None: none
    schedule: str = "cosine_squared"
    sampler: str | None = None  # None: redrawn with likelihood known_covariance, else second_order
    times: str = "ratio"
    n_steps: int | None = None  # None: 8 redrawn (2 with coupling), else 16
    corrector_steps: int = 0
    tau: float = 0.25

    def __post_init__(self) -> None:
        require_likelihood(self.likelihood, scheme="sda")
        require_linearisation(self.linearisation, likelihood=self.likelihood, scheme="sda")
        require_start(self.start, self.times, self.coupling, scheme="sda")
        require_background(self.background, self.background_error, likelihood=self.likelihood, scheme="sda")
        require_options(self, likelihood=self.likelihood, corrector_steps=self.corrector_steps, scheme="sda")
        self.sampling()

    def sampling(self) -> Sampling:
        """How windows are drawn."""
        is_coupled = self.coupling is not None
        sampler, n_steps = sampler_of(
            self.sampler, self.n_steps, likelihood=self.likelihood, scheme="sda", is_coupled=is_coupled
        )
        return Sampling(
            schedule=self.schedule,
            sampler=sampler,
            times=self.times,
            n_steps=n_steps,
            corrector_steps=self.corrector_steps,
            tau=self.tau,
        )

    def background_form(self, grid: tuple[int, ...]) -> str:
        """How the background is taken on a grid; raises ConfigError for waves where they cannot be."""
        return background_form(self.background, self.background_error, grid, likelihood=self.likelihood, scheme="sda")

    def build(self, context: SchemeContext) -> Sda:
        """Build the scheme; raises ConfigError, WeightsMismatch or LayoutMismatch."""
        known = read_prior(self.weights, self.sha256, self.correlation, context, scheme="sda")
        if self.likelihood == "known_covariance":
            require_operators(self.linearisation, context, known.scaling, "sda")
        require_stride(self.stride, known, scheme="sda")
        self.background_form(context.layout.grid.shape)
        beginning = beginning_of(self, known, context.layout, scheme="sda")
        return Sda(self, known, window_needs(known), beginning)


@dataclass(frozen=True)
class Sda:
    """The scheme with its prior."""

    settings: SdaSpec
    known: WindowPrior
    needs: Needs
    beginning: Beginning

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Draw windows and keep their last frames; without observations the background, bit for bit.

        Raises AnalysisFailed for a window that the prior does not cover, or a result that is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        window = window_of(prior, self.known, self.needs, background_error=self.settings.background_error, scheme="sda")
        shape = (window.n_frames, *prior.background.layout.state_shape)
        parts = [
            part
            for frame, some in enumerate(split_by_frame(observations, window.times))
            if len(some)
            for part in state_parts(frame, some, self.known.scaling, shape)
        ]
        background = background_parts(window, self.known, shape, form=self.settings.background_form(shape[2:]))
        measurement = WindowMeasurement((*background, *parts))
        dtype = torch.float32 if self.known.network is not None else prior.background.values.dtype
        keyed = MemberNoise(noise, prior.background.members, "sda", dtype)
        guess = self.beginning.guess(prior, self.known, observations, window.n_frames, scheme="sda")
        windows = self.draw(measurement, shape, keyed, guess=guess)
        scaling = self.known.scaling
        return window_analysis(prior, observations, windows, window.times, scaling, carry=carry, scheme="sda")

    def draw(
        self,
        measurement: WindowMeasurement,
        shape: tuple[int, ...],
        noise: MemberNoise,
        *,
        guess: Guess | None = None,
    ) -> Float[Tensor, "member frame channel y x"]:
        """Windows given a measurement, scaled; one for every member, from noise or from a guess."""
        settings, sampling = self.settings, self.settings.sampling()
        denoiser = self.known.denoiser(sampling.law, shape[0], stride=settings.stride)
        posterior = guided(
            denoiser,
            sampling.law,
            measurement,
            likelihood=settings.likelihood,
            linearisation=settings.linearisation,
            gamma=settings.gamma,
        )
        return sampling.draw(posterior, shape, noise, dtype=noise.dtype, guess=guess)
