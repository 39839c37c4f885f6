"""State-observation augmented diffusion: fields of observations are diffused beside the states, so that h is linear.

A window holds states and, behind them, what nonlinear operators would see at every cell, without error. Observations
are then single entries of it: a likelihood score for linear observations is enough, and several states for one value
are several modes of the prior. Operators that are linear anyway are taken through their own H; nothing is learned for
them.

    published   sigma epsilon + clip(likelihood with variance R + s^2 r^2 / (s^2 + r^2)), 5 Langevin moves with a stale
                score, 256 steps; observed entries and the background at the first frame are replaced while r > their
                error (forward-diffusion corrector); the background enters in no other way
    corrected   C_t of every wave in the likelihood (`known_covariance`) and in the reverse chain (`redrawn`, 8 steps
                on a grid in log(sigma / mu)), the background in the likelihood, nothing replaced, no moves

Source: arXiv:2407.21314 (J. Comput. Phys. 2025), Algorithm 1 and eqs. 38-42; the corrections and their reasons are in
docs/decisions. `variant` sets what is left at None. A departure in both: the clip holds each member by itself.
Limits: weights must have been trained with the very operator and settings (refused otherwise), at cell centres; what
the network does not know of the relation of state and observation is not enforced. The released weights know it by
regression over the climate alone: a sine that folds there, 1.5 sin(3 x), is as good as not observed, also near a
background where it would tell much (benchmark `soad_grid`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.diffusion.corrector import ForwardDiffusion
from cycler_da.generative.diffusion.sampler import Replacement
from cycler_da.generative.diffusion.schedule import Schedule
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.fields import ObservedField, observed_fields, operator_words, same_operator, scaled_fields
from cycler_da.obs.points import PointOperator
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.stream_checks import field_names, require_known_fields
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.window.cells import EntryPart
from cycler_da.schemes.window.measurement import (
    Part,
    WindowMeasurement,
    cells_of,
    entry_part,
    frame_part,
    is_at_cells,
    merged,
    split_by_frame,
)
from cycler_da.schemes.window.options import SCALAR, require_options, require_stride
from cycler_da.schemes.window.prior import first_guess, read_prior, require_transition, window_needs, window_of
from cycler_da.schemes.window.sampling import (
    Sampling,
    guided,
    require_likelihood,
    require_start,
    sampler_of,
    window_analysis,
)
from cycler_da.schemes.window.state_part import state_part

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

REPLACEMENTS = ("none", "observed", "observed_and_background")
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "published": {
        "likelihood": "soad",
        "clip": 1.0,
        "replaced": "observed_and_background",
        "sampler": "exponential",
        "times": "linear",
        "n_steps": 256,
        "corrector_steps": 5,
        "score": "stale",
    },
    "corrected": {
        "likelihood": "known_covariance",
        "clip": None,
        "replaced": "none",
        "times": "ratio",
        "corrector_steps": 0,
        "score": "fresh",
    },
}


@register("scheme", "soad")
@dataclass(frozen=True, kw_only=True)
class SoadSpec(Spec):
    """Options; None: that of the variant."""

    variant: str = "corrected"
    weights: str | None = (
        None  # folder of window weights; None: a Gaussian with the model's climatology, linear operators
    )
    sha256: str | None = None
    correlation: float = 0.9  # of that Gaussian, from frame to frame
    likelihood: str | None = None
    prior_std: float = 1.0  # s of likelihood soad
    gamma: float = 0.01  # of likelihood sda
    clip: float | None = None
    replaced: str | None = None  # none | observed | observed_and_background (then in no likelihood)
    background_error: float | None = None  # climatological standard deviations; None: the ensemble's spread
    start: str = "noise"  # or background: members carried through the window, with noise (weights with a transition)
    stride: int = 1
    sampler: str | None = None
    times: str | None = None
    n_steps: int | None = None
    corrector_steps: int | None = None
    score: str | None = None
    tau: float = 0.25

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ConfigError(f"scheme soad: variant is {self.variant!r}; valid: {', '.join(VARIANTS)}")
        whole = self.resolved()
        likelihood, moves = str(whole.likelihood), int(whole.corrector_steps or 0)
        require_likelihood(likelihood, scheme="soad")
        require_options(self, likelihood=likelihood, corrector_steps=moves, scheme="soad")
        if whole.clip is not None and likelihood not in SCALAR:
            raise ConfigError(
                f"scheme soad: variant {self.variant} bounds the likelihood's score, and likelihood {likelihood} takes "
                f"no bound; expected likelihood {', '.join(SCALAR)}. Set it to one of these, or take variant corrected "
                "with the options that are to be as published"
            )
        require_start(self.start, scheme="soad")
        if self.start == "background" and whole.times != "ratio":
            raise ConfigError(f"scheme soad: start background goes with times ratio, got {whole.times}")
        if whole.replaced not in REPLACEMENTS:
            raise ConfigError(f"scheme soad: replaced is {whole.replaced!r}; valid: {', '.join(REPLACEMENTS)}")
        if whole.replaced != "none" and whole.sampler != "exponential":
            raise ConfigError(
                f"scheme soad: replaced {whole.replaced} goes with sampler exponential, got {whole.sampler}"
            )
        whole.sampling()

    def resolved(self) -> SoadSpec:
        """The options with those of the variant filled in."""
        missing = {name: value for name, value in VARIANTS[self.variant].items() if getattr(self, name) is None}
        whole = {**self.__dict__, **missing}
        whole["sampler"], whole["n_steps"] = sampler_of(
            whole["sampler"], whole["n_steps"], likelihood=whole["likelihood"], scheme="soad"
        )
        filled = object.__new__(SoadSpec)
        for name, value in whole.items():
            object.__setattr__(filled, name, value)
        return filled

    def sampling(self) -> Sampling:
        """How windows are drawn."""
        whole = self.resolved()
        return Sampling(
            sampler=str(whole.sampler),
            times=str(whole.times),
            n_steps=int(whole.n_steps or 0),
            corrector_steps=int(whole.corrector_steps or 0),
            tau=self.tau,
            score=str(whole.score),
        )

    def build(self, context: SchemeContext) -> Soad:
        """Build the scheme; raises ConfigError for an operator that the weights do not know."""
        known = read_prior(self.weights, self.sha256, self.correlation, context, scheme="soad")
        require_stride(self.stride, known, scheme="soad")
        fields = observed_fields(known.observed, context.layout)
        _require_known(context, fields, self.weights)
        if self.start == "background":
            require_transition(known, scheme="soad")
        return Soad(self.resolved(), known, fields, window_needs(known))


@dataclass(frozen=True)
class Soad:
    """The scheme with its prior and the fields it knows."""

    settings: SoadSpec
    known: WindowPrior
    fields: tuple[ObservedField, ...]
    needs: Needs

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Draw windows and keep the states of their last frames; without observations the background, bit for bit.

        Raises AnalysisFailed for observations of a field that the weights do not know or between cells, for a window
        that they do not cover, and for a result that is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        window = window_of(prior, self.known, background_error=self.settings.background_error, scheme="soad")
        used = self.fields_of(observations)
        n_states = self.known.n_states
        shape = (window.n_frames, n_states + len(used), *prior.background.layout.grid.shape)
        parts = self.parts(observations, window.times, used, shape)
        background = frame_part(0, window.mean, window.variance, shape)
        dtype = torch.float32 if self.known.network is not None else prior.background.values.dtype
        keyed = MemberNoise(noise, prior.background.members, "soad", dtype)
        guess = first_guess(prior, self.known, window.n_frames) if self.settings.start == "background" else None
        windows = self.draw(parts, background, used, shape, keyed, guess=guess)
        states, scaling = windows[:, :, :n_states], self.known.scaling
        return window_analysis(prior, observations, states, window.times, scaling, carry=carry, scheme="soad")

    def fields_of(self, observations: Observations) -> tuple[int, ...]:
        """Which fields are observed, by their place in the card; all variables of an operator together."""
        kinds = {
            field.kind
            for field in self.fields
            for batch in observations.batches
            if not batch.operator.is_linear and bool(field.sees(batch).any())
        }
        return tuple(i for i, field in enumerate(self.fields) if field.kind in kinds)

    def parts(
        self, observations: Observations, times: np.ndarray, used: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[Part, ...]:
        """Observations as parts of the measurement, entries wherever they are values of a channel.

        What several streams say of one entry is averaged.
        """
        found: list[Part] = []
        for frame, some in enumerate(split_by_frame(observations, times)):
            for batch in some.batches:
                found += self._parts_of(frame, batch, some, used, shape)
        entries = merged([part for part in found if isinstance(part, EntryPart)])
        return (*entries, *(part for part in found if not isinstance(part, EntryPart)))

    def draw(
        self,
        parts: tuple[Part, ...],
        background: tuple[EntryPart, ...],
        used: tuple[int, ...],
        shape: tuple[int, ...],
        noise: MemberNoise,
        *,
        guess: Float[Tensor, "member frame state y x"] | None = None,
    ) -> Float[Tensor, "member frame channel y x"]:
        """Windows given parts and a background (which may be empty), scaled; one for every member.

        `guess`: of the states, from which the windows begin; their fields are what the operators see of it.
        """
        settings, sampling = self.settings, self.settings.sampling()
        law = sampling.law
        denoiser = self.known.denoiser(law, shape[0], observed=used, stride=settings.stride, maps=self._maps(used))
        is_replaced = settings.replaced == "observed_and_background"
        posterior = guided(
            denoiser,
            law,
            WindowMeasurement(parts if is_replaced else (*background, *parts)),
            likelihood=str(settings.likelihood),
            gamma=settings.gamma,
            prior_std=settings.prior_std,
            clip=settings.clip,
        )
        entries = [part for part in parts if isinstance(part, EntryPart)]
        if is_replaced:
            entries += background
        replacement = None if settings.replaced == "none" else replace_entries(entries, shape, law, noise)
        whole = None if guess is None else self._with_fields(guess, used)
        return sampling.draw(posterior, shape, noise, replacement=replacement, dtype=noise.dtype, guess=whole)

    def _with_fields(self, states: Tensor, used: tuple[int, ...]) -> Tensor:
        if not used:
            return states
        fields = self._maps(used)(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        return torch.cat([states, fields.to(states.dtype)], dim=2)

    def _maps(self, used: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        mean, std = ([values[i] for i in used] for values in (self.known.observed_mean, self.known.observed_std))
        return scaled_fields([self.fields[i] for i in used], self.known.scaling.to_physical, mean, std)

    def _parts_of(
        self, frame: int, batch: ObsBatch, all_of: Observations, used: tuple[int, ...], shape: tuple[int, ...]
    ) -> list[Part]:
        if batch.operator.is_linear:
            return self._linear_parts(frame, batch, all_of, shape)
        cells = _cells(batch, all_of, shape)
        found: list[Part] = []
        rest = torch.ones(len(batch), dtype=torch.bool)
        for place, i_field in enumerate(used):
            here = self.fields[i_field].sees(batch)
            rest = rest & ~here
            if bool(here.any()):
                mean, std = self.known.observed_mean[i_field], self.known.observed_std[i_field]
                values, variance = (batch.values[here] - mean) / std, (batch.error[here] / std) ** 2
                found.append(entry_part(frame, self.known.n_states + place, cells[here], values, variance, shape))
        if bool(rest.any()):
            raise AnalysisFailed(
                f"soad: {int(rest.sum())} observations of stream {batch.stream} through "
                f"{operator_words(batch.operator)} are of "
                f"no field that the weights know ({field_names(self.fields)}); take those weights' operators and "
                "variables, or scheme sda"
            )
        return found

    def _linear_parts(self, frame: int, batch: ObsBatch, all_of: Observations, shape: tuple[int, ...]) -> list[Part]:
        if not isinstance(batch.operator, PointOperator) or not is_at_cells(batch, all_of):
            return [state_part(frame, replace(all_of, batches=(batch,)), self.known.scaling, shape)]
        cells, found = _cells(batch, all_of, shape), []
        for channel in range(self.known.n_states):
            here = batch.where.channel == channel
            if bool(here.any()):
                std, mean = self.known.scaling.std[channel], self.known.scaling.mean[channel]
                values, variance = (batch.values[here] - mean) / std, (batch.error[here] / std) ** 2
                found.append(entry_part(frame, channel, cells[here], values, variance, shape))
        return list(found)


def replace_entries(
    entries: list[EntryPart], shape: tuple[int, ...], schedule: Schedule, noise: MemberNoise
) -> Replacement:
    """The forward-diffusion corrector of all entries; of what is known of one of them several times, the average."""
    entries = list(merged(entries))
    lead = torch.broadcast_shapes(*(part.values.shape[:-1] for part in entries)) if entries else ()
    values, variance = torch.zeros(*lead, *shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)
    seen = torch.zeros(shape, dtype=torch.bool)
    for part in entries:
        values.view(*lead, -1)[..., part.cells.places] = part.values
        variance.view(-1)[part.cells.places] = part.error_variance
        seen.view(-1)[part.cells.places] = True
    return ForwardDiffusion(schedule, noise, "replaced", values, variance, seen)


def _cells(batch: ObsBatch, observations: Observations, shape: tuple[int, ...]) -> Tensor:
    """Flat cell of every observation; raises AnalysisFailed for positions between cells."""
    if not is_at_cells(batch, observations):
        raise AnalysisFailed(
            f"soad: observations of stream {batch.stream} through {batch.operator.name} lie between cells; expected "
            "cell centres, where the weights know the field. Move them to cells, or take scheme sda"
        )
    return cells_of(batch, observations) % (shape[-1] * shape[-2])


def _require_known(context: SchemeContext, fields: tuple[ObservedField, ...], weights: str | None) -> None:
    for operator in context.operators:
        if not operator.is_linear and not any(same_operator(field.operator, operator) for field in fields):
            raise ConfigError(
                f"scheme soad: weights {weights or '(none: a Gaussian)'} were not made for the operator "
                f"{operator_words(operator)}; they know {field_names(fields)}. Set the operator's options to these, "
                "train weights with it (data.observed), or take scheme sda, which needs none"
            )
    curved = [stream for stream in context.streams if not stream.operator.is_linear]
    require_known_fields(curved, fields, context.layout, scheme="soad", other="scheme sda")
