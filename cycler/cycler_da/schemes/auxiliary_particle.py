"""Auxiliary particle filter: ancestors are drawn by how well their forecasts fit, then forecast anew.

With mu_i the background member, a forecast of previous member i, and w_i equal weights,
    ancestors      k_j with probability proportional to p(y | mu_k)^a
    x_j            drawn from the forecast model, from previous member k_j, with new noise
    weights        proportional to p(y | x_j) / p(y | mu_k_j)^a, by which members are drawn once more
mu may be any value that tells what becomes of an ancestor, and a any exponent: they change the variance, not the limit.
a is `look_ahead`. 1 is the published form, whose second weights have heavy tails where one step's noise passes the
observation error (mu is far, x is near), more so as mu is here a draw and not the mean; 1/2 is the default. Exact
for large ensembles whatever the dynamics; of use where the noise of one step is small beside the spread of the
ancestors, when most of a bootstrap filter's forecasts would be thrown away.
Source: Pitt and Shephard (1999), J. Am. Stat. Assoc. 94, 590-599. The optimal proposal is `optimal_particle`.

Limits: every member is forecast twice. The model must have noise: without it copies of an ancestor stay copies. Global
weights, for few observations; history frames are not drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.generative.resampling import RESAMPLING, effective_share, log_evidence, n_ancestors, resample
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import innovation_diagnostics
from cycler_da.schemes.frame.settings import require, require_share
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.particle import log_likelihood

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=True, previous=True, n_members=2, resamples=True)
NAME = "auxiliary_particle"
_SEEDS = 2**62


@register("scheme", NAME)
@dataclass(frozen=True, kw_only=True)
class AuxiliaryParticleSpec(Spec):
    """Options of the auxiliary particle filter."""

    look_ahead: float = 0.5  # exponent of the first weights; 1 as published, 0 a bootstrap filter
    resampling: str = "systematic"  # or stratified, residual

    def __post_init__(self) -> None:
        require_share("look_ahead", self.look_ahead, scheme=NAME)
        expected = " or ".join(RESAMPLING)
        require(self.resampling in RESAMPLING, "resampling", self.resampling, expected=expected, scheme=NAME)

    def build(self, context: SchemeContext) -> AuxiliaryParticle:
        """Build the scheme for a layout."""
        return AuxiliaryParticle(self, context.layout)


@dataclass(frozen=True)
class AuxiliaryParticle:
    """The auxiliary particle filter with fixed settings."""

    settings: AuxiliaryParticleSpec
    layout: Layout
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Draw ancestors, forecast them, and draw once more; without observations return the background.

        Raises AnalysisFailed without the previous analysis and the model, and when H(x) or the result is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme=NAME)
        report = innovation_diagnostics(observations.values - hx.mean(dim=0), hx.var(dim=0), observations=observations)
        first = self.settings.look_ahead * log_likelihood(hx, observations)
        ancestors = self._draw(first, noise, "ancestors")
        states = self._forecast(prior, ancestors, noise=noise)
        second = log_likelihood(finite_hx(states, observations, scheme=NAME), observations) - first[ancestors]
        report["effective_share"] = effective_share(first)
        report["second_effective_share"] = effective_share(second)
        report["log_evidence"] = log_evidence(first) + log_evidence(second)
        kept = self._draw(second, noise, "members")
        report["ancestors"] = n_ancestors(ancestors[kept])
        analysed = states[kept].to(background.values.dtype)
        require_finite(analysed, layout=self.layout, scheme=NAME)
        ratio = observations.hx(analysed.to(torch.float64)).var(dim=0) / observations.error_variance
        report["dof_signal"] = float(ratio.clamp_max(1).sum())
        return conclude(background, analysed, carry=carry, report=report)

    def _draw(self, log_weights: Tensor, noise: Noise, what: str) -> Tensor:
        return resample(log_weights, how=self.settings.resampling, generator=noise.generator(f"{NAME}.{what}"))

    def _forecast(self, prior: Prior, ancestors: Tensor, *, noise: Noise) -> Tensor:
        """Forecast the ancestors to the analysis time, with noise that the background has not had."""
        if prior.previous is None or prior.model is None:
            raise AnalysisFailed(f"{NAME}: needs the previous analysis and the forecast model; got neither or one")
        start: Ensemble = replace(prior.previous, values=prior.previous.values[ancestors])
        fresh = Noise(int(noise.generator(f"{NAME}.forecast").integers(_SEEDS)), noise.cycle)
        return prior.model.forecast(start, prior.background.valid_times[-1:], noise=fresh).latest
