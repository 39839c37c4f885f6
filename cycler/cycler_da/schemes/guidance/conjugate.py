"""Conjugate and Gauss-Newton guidance: the endpoint's Gaussian is updated by y, exactly where h is linear.

    conjugate      e ~ N(m, C) given y = H e + r at every tau (Matheron's rule); nonlinear h as `gauss_newton`
    gauss_newton   h linearised `iterations` times about the conditional mode of every member, linear or not

Network passes forward alone: one for each point of the tau grid. Nothing to tune. Where h is much flatter beside the
mode than at it, `caution` > 1 widens the R of the linearised likelihood.
Source: `generative.guidance`, `generative.gauss_newton`. Limit: Gauss-Newton keeps (member, observation, state)
numbers; where these would be many, curves of linear observations are drawn the same without (`curved_guidance`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.curved_guidance import linearise_curves
from cycler_da.generative.gauss_newton import GaussNewtonDraw
from cycler_da.generative.guidance import ConjugateDraw
from cycler_da.generative.localisation import EndpointDraw, localise
from cycler_da.generative.prediction import CurvedResidualObservation, ResidualObservation
from cycler_da.obs.curves import CurvedObservations, is_curved
from cycler_da.registry import Spec, register
from cycler_da.schemes.guidance.base import Guided

if TYPE_CHECKING:
    from torch import Tensor

#: Most numbers of a dense slope (member, observation, state): 1 GB in float64.
MOST_SLOPES = 2**27
#: Above this curves of linear observations are guided without dense slopes.
FEW_SLOPES = 2**22


@register("guidance", "gauss_newton")
@dataclass(frozen=True, kw_only=True)
class GaussNewtonSpec(Spec):
    """Options."""

    iterations: int = 2  # 1: linearised at the endpoint's mean
    caution: float = 1.0  # factor on R in the linearised likelihood

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> GaussNewton:
        """Make the guidance."""
        return make_gauss_newton(self.iterations, self.caution)


@register("guidance", "conjugate")
@dataclass(frozen=True, kw_only=True)
class ConjugateSpec(Spec):
    """Options, for nonlinear operators alone."""

    iterations: int = 2
    caution: float = 1.0

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> Conjugate:
        """Make the guidance."""
        return Conjugate(make_gauss_newton(self.iterations, self.caution))


@dataclass(frozen=True)
class GaussNewton:
    """Every member's own linearisation."""

    iterations: int
    caution: float
    linear_only: bool = False

    def residual(self, guided: Guided) -> Tensor:
        """Draw; raises AnalysisFailed when the slopes would not fit into memory."""
        blank = guided.prediction.blank(torch.float64)
        n_numbers = blank.numel() * len(guided.observations)
        if n_numbers > FEW_SLOPES and is_curved(guided.observations):
            return self._through_curves(guided, blank)
        way_out = "Thin the observations, or use an operator that is linear"
        require_room(blank, len(guided.observations), where="guidance gauss_newton", way_out=way_out)
        draw = GaussNewtonDraw(
            guided.prediction.endpoint,
            ResidualObservation(guided.prediction, guided.observations),
            guided.noise,
            iterations=self.iterations,
            caution=self.caution,
        )
        return localise(draw, guided.taus, like=blank, noise=guided.noise)

    def _through_curves(self, guided: Guided, blank: Tensor) -> Tensor:
        seen = CurvedResidualObservation(guided.prediction, CurvedObservations.of(guided.observations))
        draw = GaussNewtonDraw(
            guided.prediction.endpoint,
            seen,
            guided.noise,
            iterations=self.iterations,
            caution=self.caution,
            linearised=linearise_curves,
        )
        return localise(draw, guided.taus, like=blank, noise=guided.noise)


@dataclass(frozen=True)
class Conjugate:
    """The transition's own exact guidance where operators are linear, else Gauss-Newton."""

    nonlinear: GaussNewton
    linear_only: bool = False

    def residual(self, guided: Guided) -> Tensor:
        """Draw from N(m_y, C_y) at every tau."""
        if not guided.observations.is_linear:
            return self.nonlinear.residual(guided)
        blank = guided.prediction.blank(torch.float64)
        return localise(self._draw(guided), guided.taus, like=blank, noise=guided.noise)

    @staticmethod
    def _draw(guided: Guided) -> EndpointDraw:
        if guided.gram is None:
            return guided.prediction.guided(guided.observations, guided.noise)
        seen = ResidualObservation(guided.prediction, guided.observations)
        return ConjugateDraw(guided.prediction.endpoint, seen, guided.noise, guided.gram)


def make_gauss_newton(iterations: int, caution: float) -> GaussNewton:
    """Check the options; raises ConfigError for one below 1, and for a caution without bound."""
    if iterations < 1 or not 1.0 <= caution < math.inf:
        raise ConfigError(f"guidance: iterations is {iterations}, caution {caution}; both are 1 or more, and finite")
    return GaussNewton(iterations, caution)


def require_room(blank: Tensor, n_observations: int, *, where: str, way_out: str) -> None:
    """Raise AnalysisFailed where dense slopes of so many observations would not fit into memory; `blank` as drawn."""
    n_numbers = blank.numel() * n_observations
    if n_numbers > MOST_SLOPES:
        raise AnalysisFailed(
            f"{where}: {n_observations} observations of {len(blank)} members of {blank[0].numel()} values need "
            f"{n_numbers} numbers; expected at most {MOST_SLOPES}. {way_out}"
        )


def linearised_guidance(guidance: object) -> GaussNewton | None:
    """How a guidance linearises h; None for one that does not."""
    if isinstance(guidance, Conjugate):
        return guidance.nonlinear
    return guidance if isinstance(guidance, GaussNewton) else None
