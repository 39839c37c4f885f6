"""Guided draws with exact weights whatever h, the law of the errors and the members' covariances.

    draw       r of every member by Gauss-Newton guidance, as if errors were Gaussian with R times `caution`
    weight     log p(y | r, x) + what `generative.path_weights` says of the draw, of law and h as they are

The mean weight is p(y | x) of the discretised model; weights divided by the probability with which members were
chosen are those of an auxiliary particle filter. Errors with fatter tails than a Gaussian's (Laplace) or none
(uniform) leave uneven weights: `caution` above 1 helps the first. Slopes are dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.gauss_newton import GaussNewtonDraw
from cycler_da.generative.localisation import MemberNoise, localise
from cycler_da.generative.path_weights import RecordedEndpoint, path_weights
from cycler_da.generative.prediction import Prediction, ResidualObservation
from cycler_da.obs.base import Observations
from cycler_da.obs.error_laws import ErrorLaw
from cycler_da.schemes.guidance.conjugate import require_room
from cycler_da.schemes.particle import log_likelihood

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class WeightedDraws:
    """Fixed settings of the draws."""

    taus: tuple[float, ...]
    law: ErrorLaw
    iterations: int
    caution: float

    def __call__(
        self, prediction: Prediction, observations: Observations, noise: MemberNoise
    ) -> tuple[Float[Tensor, "member channel *space"], Float[Tensor, "member"]]:
        """Next states and their log weights; raises AnalysisFailed where slopes would not fit into memory."""
        blank, seen = prediction.blank(torch.float64), ResidualObservation(prediction, observations)
        require_room(blank, len(observations), where="exact weights of draws", way_out="Thin the observations")
        recorded = RecordedEndpoint(prediction.endpoint)
        draw = GaussNewtonDraw(recorded, seen, noise, iterations=self.iterations, caution=self.caution)
        residual = localise(draw, self.taus, like=blank, noise=noise)
        weights = path_weights(
            recorded, residual, log_likelihood=lambda r: log_likelihood(seen(r), observations, self.law)
        )
        return prediction.to_state(residual), weights
