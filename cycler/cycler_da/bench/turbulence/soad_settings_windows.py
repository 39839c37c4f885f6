"""Window schemes of the benchmark `soad_settings`: nine frames of all windows at once, member by member.

All windows are seen at the same places (`soad_settings_cases`), so that a batch of them is one measurement with a row
of values for each (`schemes.window.measurement.together`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.bench.passes import Passes
from cycler_da.bench.turbulence.soad_settings_cases import ERROR, FRAMES, LAYOUT, TIMES
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.pdediff import PartsOf, Pdediff, PdediffSpec
from cycler_da.schemes.sda import Sda, SdaSpec
from cycler_da.schemes.soad import Soad, SoadSpec
from cycler_da.schemes.window.cells import EntryPart
from cycler_da.schemes.window.guess import LEAST_RATIO, Guess
from cycler_da.schemes.window.measurement import Part, WindowMeasurement, frame_part, state_parts, together
from cycler_da.schemes.window.prior import carried

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SHAPE = (FRAMES, *LAYOUT.state_shape)
#: Frames of PDEDiff's first window, with a background and without; the others go on from its last frame.
FIRST = (1, 5)
#: Of SDA, SOAD and PDEDiff with the covariance of every wave: the reverse chain, right for Gaussians in any number of
#: steps (`generative.diffusion.sampler`).
SAMPLER = "redrawn"
#: Of likelihoods that know no such covariance, in twice as many steps.
PLAIN = "second_order"


@dataclass(frozen=True)
class Seen:
    """Observations of some windows, and their scaled backgrounds or none."""

    windows: Sequence[list[Observations]]
    backgrounds: Float[Tensor, "window channel y x"] | None

    def measurement(self, prior: WindowPrior, shape: tuple[int, ...]) -> WindowMeasurement:
        """All that is known of the frames of `shape`, through the operators."""
        each = [
            [part for f in range(shape[0]) for part in self._parts(window, f, f, prior, shape)]
            for window in self.windows
        ]
        return WindowMeasurement((*self.background_parts(shape), *together(each)))

    def parts_of(self, prior: WindowPrior) -> PartsOf:
        """The parts of any frame in any place of a window."""

        def parts(frame: int, place: int, shape: tuple[int, ...]) -> tuple[Part, ...]:
            return together([self._parts(window, frame, place, prior, shape) for window in self.windows])

        return parts

    def _parts(
        self, window: list[Observations], frame: int, place: int, prior: WindowPrior, shape: tuple[int, ...]
    ) -> tuple[Part, ...]:
        some = window[frame]
        return state_parts(place, some, prior.scaling, shape) if len(some) else ()

    def background_parts(self, shape: tuple[int, ...]) -> tuple[EntryPart, ...]:
        """The background as observations of the first frame."""
        if self.backgrounds is None:
            return ()
        variance = torch.full((len(LAYOUT.channels),), ERROR**2, dtype=torch.float64)
        return frame_part(0, self.backgrounds, variance, shape)


Drawn = Callable[["Seen", Noise], "Tensor"]


@dataclass(frozen=True)
class WindowMethods:
    """All window methods on the same weights: one draw for every row of what was seen, `(row, frame, ...)`."""

    weights: Path
    n_steps: int
    published_steps: int

    def soad(self, seen: Seen, noise: Noise) -> Tensor:
        """SOAD, corrected."""
        spec = SoadSpec(weights=str(self.weights), n_steps=self.n_steps, sampler=SAMPLER)
        return self._augmented(spec, seen, noise)

    def soad_learned(self, seen: Seen, noise: Noise) -> Tensor:
        """SOAD, corrected, with what the network learned of states and fields."""
        spec = SoadSpec(weights=str(self.weights), n_steps=self.n_steps, sampler=SAMPLER, relation="learned")
        return self._augmented(spec, seen, noise)

    def soad_published(self, seen: Seen, noise: Noise) -> Tensor:
        """SOAD, Algorithm 1."""
        spec = SoadSpec(variant="published", weights=str(self.weights), n_steps=self.published_steps)
        return self._augmented(spec, seen, noise)

    def sda(self, seen: Seen, noise: Noise) -> Tensor:
        """SDA with C_t of every wave."""
        return self._states(self._sda_spec, seen, noise)

    def sda_tangents(self, seen: Seen, noise: Noise) -> Tensor:
        """SDA with C_t of every wave and curves by their slope at the estimate."""
        return self._states(replace(self._sda_spec, linearisation="tangent"), seen, noise)

    def soad_from_background(self, seen: Seen, noise: Noise) -> Tensor:
        """SOAD, corrected, from the background carried through the window."""
        spec = SoadSpec(weights=str(self.weights), n_steps=self.n_steps, sampler=SAMPLER, start="background")
        return self._augmented(spec, seen, noise)

    def sda_from_background(self, seen: Seen, noise: Noise) -> Tensor:
        """SDA with C_t of every wave, from the background carried through the window."""
        return self._states(replace(self._sda_spec, start="background"), seen, noise)

    def sda_gamma(self, seen: Seen, noise: Noise) -> Tensor:
        """SDA with the published likelihood, on our grid of times."""
        return self._states(
            replace(self._sda_spec, likelihood="sda", gamma=0.1, sampler=PLAIN, n_steps=2 * self.n_steps), seen, noise
        )

    def sda_gaussian(self, seen: Seen, noise: Noise) -> Tensor:
        """SDA with the Gaussian of the weights alone."""
        scheme = self._build(self._sda_spec)
        assert isinstance(scheme, Sda)
        alone = replace(scheme, known=replace(scheme.known, network=None))
        return alone.draw(seen.measurement(alone.known, SHAPE), SHAPE, _keyed(noise, "gaussian", seen))

    def pdediff(self, seen: Seen, noise: Noise) -> Tensor:
        """PDEDiff: the first window from its observations, then on from its last frame."""
        step = PdediffSpec(n_steps=self.n_steps, sampler=SAMPLER, weights=str(self.weights))
        scheme, first = self._build(step), self._build(self._sda_spec)
        assert isinstance(scheme, Pdediff) and isinstance(first, Sda)
        shape = (FIRST[seen.backgrounds is None], *LAYOUT.state_shape)
        frames = first.draw(seen.measurement(first.known, shape), shape, _keyed(noise, "pdediff", seen))
        rows = tuple(range(len(seen.windows)))
        return scheme.continue_from(frames, seen.parts_of(scheme.known), FRAMES, noise, rows)

    def watch(self, passes: Passes) -> None:
        """Count steps of the transition from now on, and of no earlier counter."""
        evaluated = self._prior.evaluated
        assert evaluated is not None
        evaluated._forward_hooks.clear()
        passes.watch(evaluated)

    @property
    def _sda_spec(self) -> SdaSpec:
        return SdaSpec(weights=str(self.weights), n_steps=self.n_steps, sampler=SAMPLER)

    @cached_property
    def _prior(self) -> WindowPrior:
        return self._sda_spec.build(SchemeContext(LAYOUT)).known

    def _build(self, spec: SdaSpec | SoadSpec | PdediffSpec) -> Sda | Soad | Pdediff:
        # One prior for all: its Gaussians are kept, and the steps of its transition counted.
        return replace(spec.build(SchemeContext(LAYOUT)), known=self._prior)

    def _states(self, spec: SdaSpec, seen: Seen, noise: Noise) -> Tensor:
        scheme = self._build(spec)
        assert isinstance(scheme, Sda)
        guess = self._guess(seen, noise) if spec.start == "background" else None
        return scheme.draw(seen.measurement(scheme.known, SHAPE), SHAPE, _keyed(noise, "sda", seen), guess=guess)

    def _augmented(self, spec: SoadSpec, seen: Seen, noise: Noise) -> Tensor:
        scheme = self._build(spec)
        assert isinstance(scheme, Soad)
        every = [Observations(tuple(b for some in window for b in some.batches), LAYOUT) for window in seen.windows]
        used = scheme.augmented.fields_of(every[0])
        shape = (FRAMES, len(LAYOUT.channels) + len(used), *LAYOUT.grid.shape)
        parts = together([scheme.augmented.parts(window, TIMES, used, shape) for window in every])
        guess = self._guess(seen, noise) if spec.start == "background" else None
        known = seen.background_parts(shape)
        windows = scheme.draw(parts, known, used, shape, _keyed(noise, "soad", seen), guess=guess)
        return windows[:, :, : len(LAYOUT.channels)]

    def _guess(self, seen: Seen, noise: Noise) -> Guess:
        """Every background with an error of its own, carried through the window; errors are known to be small."""
        assert seen.backgrounds is not None
        xi = _keyed(noise, "guess", seen).normal("error", seen.backgrounds.shape[1:], step=0)
        return Guess(carried(self._prior, seen.backgrounds + ERROR * xi, FRAMES), LEAST_RATIO)


def _keyed(noise: Noise, stream: str, seen: Seen) -> MemberNoise:
    return MemberNoise(noise, tuple(range(len(seen.windows))), stream, torch.float32)
