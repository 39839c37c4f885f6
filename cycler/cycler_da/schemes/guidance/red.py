"""Variational guidance by denoising: the endpoint of every member as a minimum (`generative.red_guidance`).

    weight   precision: exact where the residual is Gaussian; snr: the published weight, which over-fits
    spread   full: prior and observations perturbed, draws of the posterior where the residual is Gaussian;
             observations: they alone are perturbed, too little spread; none: all members at the minimum

Each iteration passes the network forward four times. The tau grid is not used. Limit: linear operators.
Source: `generative.red_guidance`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.guidance import ConjugateDraw
from cycler_da.generative.localisation import MemberNoise, localise
from cycler_da.generative.prediction import ResidualObservation
from cycler_da.generative.red_guidance import SILENT, WEIGHTS, ConjugateKind, RedDraw
from cycler_da.registry import Spec, register
from cycler_da.schemes.guidance.base import Guided

if TYPE_CHECKING:
    from torch import Tensor


@register("guidance", "red")
@dataclass(frozen=True, kw_only=True)
class RedSpec(Spec):
    """Options."""

    iterations: int = 5
    weight: str = "precision"
    spread: str = "full"

    def __post_init__(self) -> None:
        for name, value, valid in (("weight", self.weight, WEIGHTS), ("spread", self.spread, tuple(SILENT))):
            if value not in valid:
                raise ConfigError(f"guidance red: {name} is {value!r}; valid: {', '.join(valid)}")
        if self.iterations < 1:
            raise ConfigError(f"guidance red: iterations is {self.iterations}; expected 1 or more")

    def build(self) -> Red:
        """Make the guidance."""
        return Red(self)


@dataclass(frozen=True)
class Red:
    """The guidance with fixed settings."""

    options: RedSpec
    linear_only: bool = True

    def residual(self, guided: Guided) -> Tensor:
        """The minimum of every member."""
        noise = replace(guided.noise, silent=SILENT[self.options.spread])
        draw = RedDraw(self._conjugate(guided, noise), guided.noise, self.options.iterations, self.options.weight)
        return localise(draw, (0.0,), like=guided.prediction.blank(torch.float64), noise=guided.noise)

    def _conjugate(self, guided: Guided, noise: MemberNoise) -> ConjugateKind:
        if guided.gram is not None:
            seen = ResidualObservation(guided.prediction, guided.observations)
            return ConjugateDraw(guided.prediction.endpoint, seen, noise, guided.gram)
        draw = guided.prediction.guided(guided.observations, noise)
        if not isinstance(draw, ConjugateKind):
            raise ConfigError(f"guidance red cannot wrap the {type(draw).__name__} of this transition; use conjugate")
        return draw
