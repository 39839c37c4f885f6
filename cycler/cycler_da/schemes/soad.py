"""State-observation augmented diffusion: fields of observations are diffused beside the states, so that h is linear.

A window holds states and, behind them, what nonlinear operators would see at every cell, without error. Observations
are then single entries of it: a likelihood score for linear observations is enough, and several states for one value
are several modes of the prior. Operators that are linear anyway are taken through their own H; nothing is learned for
them.

    published   sigma epsilon + clip(likelihood with variance R + s^2 r^2 / (s^2 + r^2)), 5 Langevin moves with a stale
                score, 256 steps; observed entries and the background at the first frame are replaced while r > their
                error (forward-diffusion corrector); the background enters in no other way
    corrected   C_t of every wave in the likelihood (`known_covariance`) and in the reverse chain (`redrawn`, 8 steps
                on a grid in log(sigma / mu)), the background in the likelihood, nothing replaced, no moves; states and
                fields tied by the mean slope of h at the present noise (`relation: linearised`)

Source: arXiv:2407.21314 (J. Comput. Phys. 2025), Algorithm 1 and eqs. 38-42; the corrections and their reasons are in
docs/decisions. `variant` sets what is left at None. A departure in both: the clip holds each member by itself.
Limits: weights must have been trained with the very operator and settings (refused otherwise), at cell centres. What is
known of the relation of state and field: `learned`, what the network learned over the climate, for which a sine that
folds there tells nothing, also near a background; `linearised`, the mean slope of h over what is left at the present
noise (`window.linearised_fields`, decision 0042), for fields that are curves of the value in their cell. Where no
background or other sensor tells which branch of a fold holds, neither does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.denoiser import Denoiser
from cycler_da.generative.diffusion.schedule import Schedule
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.fields import ObservedField, observed_fields, operator_words, same_operator
from cycler_da.obs.nonlinear import CurveOperator
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.stream_checks import field_names, require_known_fields
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.window.augmented import Augmented, replace_entries
from cycler_da.schemes.window.background import background_form, require_background
from cycler_da.schemes.window.cells import EntryPart
from cycler_da.schemes.window.coupling import WindowCouplingSpec
from cycler_da.schemes.window.guess import Beginning, Guess, beginning_of, require_start
from cycler_da.schemes.window.linearised_fields import Curves, FieldValues, LinearisedFields, without_fields
from cycler_da.schemes.window.mean_slope import require_operators, require_slope
from cycler_da.schemes.window.measurement import (
    Part,
    WindowMeasurement,
)
from cycler_da.schemes.window.options import SCALAR, require_options, require_stride
from cycler_da.schemes.window.prior import background_parts, read_prior, window_needs, window_of
from cycler_da.schemes.window.sampling import (
    MOST_ITERATIONS,
    SOLVED,
    Sampling,
    guided,
    require_likelihood,
    sampler_of,
    window_analysis,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Of states and observed fields: the mean slope of h at the present noise, or what the network learned.
RELATIONS = ("linearised", "learned")
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
    relation: str | None = None  # linearised | learned; None: linearised where fields and options allow it
    likelihood: str | None = None
    prior_std: float = 1.0  # s of likelihood soad
    gamma: float = 0.01  # of likelihood sda
    clip: float | None = None
    replaced: str | None = None  # none | observed | observed_and_background (then in no likelihood)
    background: str | None = None  # cells | waves | none; None: waves where grid and options allow it
    background_error: float | None = None  # climatological standard deviations; None: the ensemble's spread
    start: str | None = None  # noise | background, carried through the window; None: this where weights can carry it
    coupling: WindowCouplingSpec | None = None  # of the carried members by the window's observations; None: none
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
        require_background(
            self.background, self.background_error, likelihood=likelihood, replaced=str(whole.replaced), scheme="soad"
        )
        if whole.clip is not None and likelihood not in SCALAR:
            raise ConfigError(
                f"scheme soad: variant {self.variant} bounds the likelihood's score, and likelihood {likelihood} takes "
                f"no bound; expected likelihood {', '.join(SCALAR)}. Set it to one of these, or take variant corrected "
                "with the options that are to be as published"
            )
        self._require_relation(whole)
        require_start(self.start, str(whole.times), self.coupling, scheme="soad")
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
            whole["sampler"],
            whole["n_steps"],
            likelihood=whole["likelihood"],
            scheme="soad",
            is_coupled=self.coupling is not None,
        )
        if whole["relation"] is None:
            may = _may_linearise(whole["likelihood"], whole["replaced"])
            whole["relation"] = "linearised" if may else "learned"
        filled = object.__new__(SoadSpec)
        for name, value in whole.items():
            object.__setattr__(filled, name, value)
        return filled

    def _require_relation(self, whole: SoadSpec) -> None:
        if whole.relation not in RELATIONS:
            raise ConfigError(f"scheme soad: relation is {whole.relation!r}; valid: {', '.join(RELATIONS)}")
        if whole.relation == "linearised" and not _may_linearise(str(whole.likelihood), str(whole.replaced)):
            raise ConfigError(
                "scheme soad: relation linearised goes with likelihood known_covariance and replaced none, got "
                f"likelihood {whole.likelihood} and replaced {whole.replaced}; set these, or relation learned"
            )

    def background_form(self, grid: tuple[int, ...]) -> str:
        """How the background is taken on a grid; raises ConfigError for waves where they cannot be."""
        whole = self.resolved()
        return background_form(
            self.background,
            self.background_error,
            grid,
            likelihood=str(whole.likelihood),
            replaced=str(whole.replaced),
            scheme="soad",
        )

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
        self.background_form(context.layout.grid.shape)
        fields = observed_fields(known.observed, context.layout)
        _require_known(context, fields, self.weights)
        settings = self._for(fields)
        beginning = beginning_of(settings, known, context.layout, scheme="soad")
        if settings.relation == "linearised":
            require_operators("mean_slope", context, known.scaling, "soad")
            for field in fields:
                if isinstance(field.operator, CurveOperator):
                    require_slope(field.operator, known.scaling.std[field.channel], "soad")
        return Soad(settings, known, fields, window_needs(known), beginning)

    def _for(self, fields: tuple[ObservedField, ...]) -> SoadSpec:
        """The options for these fields; raises ConfigError where they are to be linearised and are no curves."""
        if self.relation == "linearised" and not fields:
            raise ConfigError(
                "scheme soad: relation linearised is for observed fields, and the weights know none; leave it out, or "
                "take weights that were trained with data.observed"
            )
        other = [field.kind for field in fields if not isinstance(field.operator, CurveOperator)]
        if not other:
            return self.resolved()
        if self.relation == "linearised":
            raise ConfigError(
                f"scheme soad: relation linearised is for operators that are curves of one value, got {other[0]}; set "
                "relation to learned"
            )
        return replace(self, relation="learned").resolved()


@dataclass(frozen=True)
class Soad:
    """The scheme with its prior and the fields it knows."""

    settings: SoadSpec
    known: WindowPrior
    fields: tuple[ObservedField, ...]
    needs: Needs
    beginning: Beginning

    @property
    def augmented(self) -> Augmented:
        """Windows of states and fields."""
        return Augmented(self.known, self.fields)

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Draw windows and keep the states of their last frames; without observations the background, bit for bit.

        Raises AnalysisFailed for observations of a field that the weights do not know or between cells, for a window
        that they do not cover, and for a result that is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        window = window_of(
            prior, self.known, self.needs, background_error=self.settings.background_error, scheme="soad"
        )
        used = self.augmented.fields_of(observations)
        n_states = self.known.n_states
        shape = (window.n_frames, n_states + len(used), *prior.background.layout.grid.shape)
        parts = self.augmented.parts(observations, window.times, used, shape)
        background = background_parts(window, self.known, shape, form=self.settings.background_form(shape[2:]))
        dtype = torch.float32 if self.known.network is not None else prior.background.values.dtype
        keyed = MemberNoise(noise, prior.background.members, "soad", dtype)
        guess = self.beginning.guess(prior, self.known, observations, window.n_frames, scheme="soad")
        windows = self.draw(parts, background, used, shape, keyed, guess=guess)
        states, scaling = windows[:, :, :n_states], self.known.scaling
        return window_analysis(prior, observations, states, window.times, scaling, carry=carry, scheme="soad")

    def draw(
        self,
        parts: tuple[Part, ...],
        background: tuple[Part, ...],
        used: tuple[int, ...],
        shape: tuple[int, ...],
        noise: MemberNoise,
        *,
        guess: Guess | None = None,
    ) -> Float[Tensor, "member frame channel y x"]:
        """Windows given parts and a background (which may be empty), scaled; one for every member.

        `guess`: of the states, from which the windows begin; their fields are what the operators see of it.
        """
        settings, sampling = self.settings, self.settings.sampling()
        law, is_replaced = sampling.law, settings.replaced == "observed_and_background"
        known = parts if is_replaced else (*background, *parts)
        if used and settings.relation == "linearised":
            posterior: Denoiser = self._linearised(known, used, shape, law)
        else:
            posterior = self._learned(known, used, shape, law)
        replacement = None
        if settings.replaced != "none":
            replaced = (*parts, *background) if is_replaced else parts
            entries = [part for part in replaced if isinstance(part, EntryPart)]
            replacement = replace_entries(entries, shape, law, noise)
        whole = None if guess is None else replace(guess, windows=self.augmented.with_fields(guess.windows, used))
        return sampling.draw(posterior, shape, noise, replacement=replacement, dtype=noise.dtype, guess=whole)

    def _learned(
        self, parts: tuple[Part, ...], used: tuple[int, ...], shape: tuple[int, ...], law: Schedule
    ) -> Denoiser:
        settings, maps = self.settings, self.augmented.maps(used)
        return guided(
            self.known.denoiser(law, shape[0], observed=used, stride=settings.stride, maps=maps),
            law,
            WindowMeasurement(parts),
            likelihood=str(settings.likelihood),
            gamma=settings.gamma,
            prior_std=settings.prior_std,
            clip=settings.clip,
        )

    def _linearised(
        self, parts: tuple[Part, ...], used: tuple[int, ...], shape: tuple[int, ...], law: Schedule
    ) -> LinearisedFields:
        n_states = self.known.n_states
        return LinearisedFields(
            self.known.denoiser(law, shape[0], stride=self.settings.stride),
            Curves(self.augmented.maps(used), tuple(self.fields[i].channel for i in used)),
            without_fields(parts, n_states, shape),
            FieldValues.of(parts, n_states, shape),
            SOLVED,
            MOST_ITERATIONS,
        )


def _may_linearise(likelihood: str, replaced: str) -> bool:
    return likelihood == "known_covariance" and replaced == "none"


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
