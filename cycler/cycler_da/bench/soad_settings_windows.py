"""Window schemes of the benchmark `soad_settings`, each drawing nine frames of one window for a few members."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.bench.guidance_cost import Passes
from cycler_da.bench.soad_settings_cases import ERROR, FRAMES, LAYOUT, TIMES
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.pdediff import Pdediff, PdediffSpec
from cycler_da.schemes.sda import Sda, SdaSpec
from cycler_da.schemes.soad import Soad, SoadSpec
from cycler_da.schemes.window_measurement import EntryPart, Part, WindowMeasurement, frame_part, state_part

if TYPE_CHECKING:
    from torch import Tensor

#: Of the composition of nine frames from windows of five.
STRIDE = 2
SHAPE = (FRAMES, *LAYOUT.state_shape)


@dataclass(frozen=True)
class WindowMethods:
    """All window methods on the same weights; each takes observations, a scaled background or None, and noise."""

    weights: Path
    members: int
    n_steps: int
    published_steps: int

    def soad(self, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        """SOAD, corrected."""
        return self._augmented(
            SoadSpec(weights=str(self.weights), stride=STRIDE, n_steps=self.n_steps), seen, known, noise
        )

    def soad_published(self, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        """SOAD, Algorithm 1."""
        spec = SoadSpec(variant="published", weights=str(self.weights), stride=STRIDE, n_steps=self.published_steps)
        return self._augmented(spec, seen, known, noise)

    def sda(self, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        """SDA with C_t of every wave."""
        return self._states(self._sda_spec, seen, known, noise)

    def sda_gamma(self, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        """SDA with the published likelihood, on our grid of times."""
        spec = replace(self._sda_spec, likelihood="sda", gamma=0.1)
        return self._states(spec, seen, known, noise)

    def sda_gaussian(self, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        """SDA without the network of the weights."""
        scheme = self._build(self._sda_spec)
        assert isinstance(scheme, Sda)
        alone = replace(scheme, known=_without_network(scheme.known))
        return alone.draw(_measurement(seen, known, alone.known, SHAPE), SHAPE, self._keyed(noise, "gaussian"))

    def pdediff(self, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        """PDEDiff: the first window from its observations, then on from its last frame."""
        step = PdediffSpec(n_steps=self.n_steps, weights=str(self.weights))
        scheme, first = self._build(step), self._build(replace(self._sda_spec, schedule="cosine"))
        assert isinstance(scheme, Pdediff) and isinstance(first, Sda)
        shape = (scheme.known.frames, *LAYOUT.state_shape)
        measurement = _measurement(seen[: shape[0]], known, first.known, shape)
        frames = first.draw(measurement, shape, self._keyed(noise, "pdediff"))
        return scheme.continue_from(frames, seen, TIMES, noise, tuple(range(self.members)))

    def watch(self, passes: Passes) -> None:
        """Count passes of the network from now on, and of no earlier counter."""
        network = self._prior.network
        assert network is not None
        network._forward_hooks.clear()
        passes.watch(network)

    def share(self, frames: Tensor) -> float:
        """Windows of the network in a pass of the whole batch, for one member."""
        return len(range(0, FRAMES - self._prior.frames + 1, STRIDE))

    @property
    def _sda_spec(self) -> SdaSpec:
        return SdaSpec(weights=str(self.weights), stride=STRIDE, n_steps=self.n_steps)

    @cached_property
    def _prior(self) -> WindowPrior:
        scheme = self._build(self._sda_spec)
        assert isinstance(scheme, Sda)
        return scheme.known

    def _build(self, spec: SdaSpec | SoadSpec | PdediffSpec) -> Sda | Soad | Pdediff:
        built = spec.build(SchemeContext(LAYOUT))
        # One prior for all: its Gaussians are kept, and the passes of its network counted.
        known = self.__dict__.get("_prior", built.known)
        return replace(built, known=known)

    def _states(self, spec: SdaSpec, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        scheme = self._build(spec)
        assert isinstance(scheme, Sda)
        return scheme.draw(_measurement(seen, known, scheme.known, SHAPE), SHAPE, self._keyed(noise, "sda"))

    def _augmented(self, spec: SoadSpec, seen: list[Observations], known: Tensor | None, noise: Noise) -> Tensor:
        scheme = self._build(spec)
        assert isinstance(scheme, Soad)
        everything = Observations(tuple(batch for some in seen for batch in some.batches), LAYOUT)
        used = scheme.fields_of(everything)
        shape = (FRAMES, len(LAYOUT.channels) + len(used), *LAYOUT.grid.shape)
        parts = scheme.parts(everything, TIMES, used, shape)
        windows = scheme.draw(parts, _background(known, shape), used, shape, self._keyed(noise, "soad"))
        return windows[:, :, : len(LAYOUT.channels)]

    def _keyed(self, noise: Noise, stream: str) -> MemberNoise:
        return MemberNoise(noise, range(self.members), stream, torch.float32)


def _measurement(
    seen: list[Observations], known: Tensor | None, prior: WindowPrior, shape: tuple[int, ...]
) -> WindowMeasurement:
    parts: list[Part] = [state_part(f, some, prior.scaling, shape) for f, some in enumerate(seen) if len(some)]
    return WindowMeasurement((*_background(known, shape), *parts))


def _background(known: Tensor | None, shape: tuple[int, ...]) -> tuple[EntryPart, ...]:
    if known is None:
        return ()
    return frame_part(0, known, torch.full((len(LAYOUT.channels),), ERROR**2, dtype=torch.float64), shape)


def _without_network(prior: WindowPrior) -> WindowPrior:
    return replace(prior, network=None)
