"""PDEDiff: autoregressive windows, each begun by frames that are known already, and guided by observations.

Every member goes on from its own previous analysis. A window of the network's frames is drawn in which the first
`n_given` frames are known and the others are guided by their observations; then the next, which begins with the last
frames of this one, until the cycle time. One network forecasts (nothing observed) and assimilates.

    universal   known frames enter through the network's input (it was trained with any number of them)
    joint       known frames are observations with a small error: a network of windows is enough

Source: Shysheya et al. (2024), arXiv:2410.16415; its settings: `{likelihood: sda, gamma: 0.1, sampler: exponential,
times: linear, n_steps: 16}` (joint: 128).
Departures by default: covariance of every wave in the likelihood and the reverse chain, on a grid in log(sigma / mu),
curves of cells by their mean slope (`sda`); with `coupling` first frames are moved by what the members' forecasts say
of the window's observations (`window.coupling`).
Limits: without it members are guided one by one, p(y | x_k), which says how likely each start was, is missing: from an
uncertain start the spread of the first frame stays (`flowdas` has the same fault; `sda` draws the first frame anew).
The first frame is given: observations nearest to it count for the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.denoiser import Denoiser
from cycler_da.generative.diffusion.window import GivenFrames, WindowDenoiser
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.window.coupling import WindowCoupling, WindowCouplingSpec
from cycler_da.schemes.window.mean_slope import require_operators
from cycler_da.schemes.window.measurement import Part, WindowMeasurement, frame_part, split_by_frame, state_parts
from cycler_da.schemes.window.options import require_options
from cycler_da.schemes.window.prior import read_prior, window_needs, window_of
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

MODES = ("universal", "joint")
#: Observations of a frame as parts of a measurement, from its number, its place in a window and the window's shape.
PartsOf = Callable[[int, int, tuple[int, ...]], tuple[Part, ...]]
#: Error of known frames in mode joint, scaled (arXiv:2410.16415).
KNOWN_STD = 0.01


@register("scheme", "pdediff")
@dataclass(frozen=True, kw_only=True)
class PdediffSpec(Spec):
    """Options."""

    weights: str | None = None  # folder of window weights; None: a Gaussian with the model's climatology
    sha256: str | None = None
    correlation: float = 0.9  # of that Gaussian, from frame to frame
    mode: str = "universal"
    n_given: int = 1  # frames that the second window, and those after it, begin with
    likelihood: str = "known_covariance"
    linearisation: str = "mean_slope"  # of curves, with likelihood known_covariance; or tangent
    gamma: float = 0.1  # of likelihood sda
    schedule: str = "cosine"
    sampler: str | None = None  # None: redrawn with likelihood known_covariance, else second_order
    times: str = "ratio"
    n_steps: int | None = None  # None: 8 redrawn, else 16
    coupling: WindowCouplingSpec | None = None  # None: members go on from where they are, as published

    def __post_init__(self) -> None:
        require_likelihood(self.likelihood, scheme="pdediff")
        require_linearisation(self.linearisation, likelihood=self.likelihood, scheme="pdediff")
        self.sampling()
        if self.mode not in MODES:
            raise ConfigError(f"scheme pdediff: mode is {self.mode!r}; valid: {', '.join(MODES)}")
        require_options(self, likelihood=self.likelihood, corrector_steps=0, scheme="pdediff")

    def sampling(self) -> Sampling:
        """How windows are drawn."""
        sampler, n_steps = sampler_of(self.sampler, self.n_steps, likelihood=self.likelihood, scheme="pdediff")
        return Sampling(schedule=self.schedule, sampler=sampler, times=self.times, n_steps=n_steps)

    def build(self, context: SchemeContext) -> Pdediff:
        """Build the scheme; raises ConfigError, WeightsMismatch or LayoutMismatch."""
        known = read_prior(self.weights, self.sha256, self.correlation, context, scheme="pdediff")
        if self.likelihood == "known_covariance":
            require_operators(self.linearisation, context, known.scaling, "pdediff")
        if self.n_given >= known.seen:
            raise ConfigError(
                f"scheme pdediff: n_given is {self.n_given}; expected fewer than the {known.seen} frames of a window"
            )
        coupling = None if self.coupling is None else self.coupling.build(context.layout)
        return Pdediff(self, known, window_needs(known, is_continued=True), coupling)


@dataclass(frozen=True)
class Pdediff:
    """The scheme with its prior."""

    settings: PdediffSpec
    known: WindowPrior
    needs: Needs
    coupling: WindowCoupling | None = None

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Continue every member to the cycle time; without observations the background, bit for bit.

        Raises AnalysisFailed for a window that the prior does not cover, or a result that is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        window = window_of(prior, self.known, self.needs, background_error=None, scheme="pdediff")
        assert prior.previous is not None
        dtype = torch.float32 if self.known.network is not None else prior.background.values.dtype
        begun = prior.previous.values[:, -1:]
        if self.coupling is not None:
            begun = self.coupling.moved(begun, prior, observations, scheme="pdediff")
        first = self.known.scaling.to_scaled(begun[:, 0].to(torch.float64)).to(dtype)
        by_frame = split_by_frame(observations, window.times[1:])  # the first is given

        def parts_of(frame: int, place: int, shape: tuple[int, ...]) -> tuple[Part, ...]:
            some = by_frame[frame - 1]
            return state_parts(place, some, self.known.scaling, shape) if len(some) else ()

        windows = self.continue_from(first[:, None], parts_of, len(window.times), noise, prior.background.members)
        scaling = self.known.scaling
        return window_analysis(prior, observations, windows, window.times, scaling, carry=carry, scheme="pdediff")

    def continue_from(
        self,
        frames: Float[Tensor, "member given channel y x"],
        parts_of: PartsOf,
        n_frames: int,
        noise: Noise,
        members: tuple[int, ...],
    ) -> Float[Tensor, "member frame channel y x"]:
        """All `n_frames` frames, from those that are known at the first times; all scaled."""
        done = frames
        while done.shape[1] < n_frames:
            n_given = min(self.settings.n_given, done.shape[1])
            length = min(self.known.seen, n_frames - done.shape[1] + n_given)
            if self.known.is_rigid and length < self.known.seen:  # the last window overlaps more
                length, n_given = self.known.seen, self.known.seen - (n_frames - done.shape[1])
            first = done.shape[1] - n_given
            keyed = MemberNoise(noise, members, f"pdediff.{first}", done.dtype)
            rest = self._window(done[:, first:], parts_of, first, length, keyed)
            done = torch.cat([done, rest], dim=1)
        return done

    def _window(
        self,
        given: Float[Tensor, "member given channel y x"],
        parts_of: PartsOf,
        first: int,
        length: int,
        noise: MemberNoise,
    ) -> Float[Tensor, "member frame channel y x"]:
        """The frames of one window after those that are given."""
        sampling, n_given = self.settings.sampling(), given.shape[1]
        whole = self.known.denoiser(sampling.law, length)
        is_joint = self.settings.mode == "joint"
        n_frames, offset = (length, n_given) if is_joint else (length - n_given, 0)
        shape = (n_frames, *given.shape[2:])
        rest = range(length - n_given)
        parts = [part for i in rest for part in parts_of(first + n_given + i, offset + i, shape)]
        denoiser: Denoiser
        if is_joint:
            variance = torch.full((given.shape[2],), KNOWN_STD**2, dtype=torch.float64)
            for frame in range(n_given):
                parts += frame_part(frame, given[:, frame], variance, shape)
            denoiser = self._guided(whole, parts)
            return sampling.draw(denoiser, shape, noise, dtype=noise.dtype)[:, n_given:]
        conditional = whole.given(given)
        denoiser = self._guided(conditional, parts) if parts else conditional
        return sampling.draw(denoiser, shape, noise, dtype=noise.dtype)

    def _guided(self, denoiser: WindowDenoiser | GivenFrames, parts: list[Part]) -> Denoiser:
        settings = self.settings
        measurement = WindowMeasurement(tuple(parts))
        law = settings.sampling().law
        return guided(
            denoiser,
            law,
            measurement,
            likelihood=settings.likelihood,
            linearisation=settings.linearisation,
            gamma=settings.gamma,
        )
