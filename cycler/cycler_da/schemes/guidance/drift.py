"""Guidance of the drift SDE, as FlowDAS and its relatives do it: many steps, with gradients through the network.

    monte_carlo       J guessed endpoints, softmax weights, step size zeta (the published form)
    dps               misfit of the endpoint mean, step size zeta
    moment_matching   misfit of the endpoint's Gaussian: exact for Gaussian transitions, nothing to tune

The same guides as in scheme `flowdas`, for the comparison inside `interpolant_filter`, whose coupling gives them the
factor p(y | x_i) that they lack. They run over `n_steps` of interpolant time in the whitened residual, which a filter
draws; the tau grid is not used.
Source and limits: `schemes.flowdas`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.registry import Spec, register
from cycler_da.schemes.flowdas import Flowdas, FlowdasSpec
from cycler_da.schemes.guidance.base import Guided
from cycler_da.schemes.transition.scaled_observation import climatological_scale, observe_residual

if TYPE_CHECKING:
    from torch import Tensor


@register("guidance", "monte_carlo")
@dataclass(frozen=True, kw_only=True)
class MonteCarloSpec(Spec):
    """Options, as in scheme `flowdas`."""

    step_size: float = 0.5  # zeta
    n_steps: int = 100
    n_endpoints: int = 25  # J
    order: int = 2
    objective: str = "squared"
    endpoint_spread: str = "released"
    fallback_from: float = 0.9

    def __post_init__(self) -> None:
        self._options()

    def build(self) -> DriftGuidance:
        """Make the guidance."""
        return DriftGuidance(self._options())

    def _options(self) -> FlowdasSpec:
        return FlowdasSpec(
            guidance="monte_carlo",
            coordinates="residual",
            step_size=self.step_size,
            n_steps=self.n_steps,
            n_endpoints=self.n_endpoints,
            order=self.order,
            objective=self.objective,
            endpoint_spread=self.endpoint_spread,
            fallback_from=self.fallback_from,
        )


@register("guidance", "dps")
@dataclass(frozen=True, kw_only=True)
class DpsSpec(Spec):
    """Options, as in scheme `flowdas`."""

    step_size: float = 0.5  # zeta
    n_steps: int = 100
    s_from: float = 0.04

    def __post_init__(self) -> None:
        self._options()

    def build(self) -> DriftGuidance:
        """Make the guidance."""
        return DriftGuidance(self._options())

    def _options(self) -> FlowdasSpec:
        return FlowdasSpec(
            guidance="dps",
            coordinates="residual",
            step_size=self.step_size,
            n_steps=self.n_steps,
            s_from=self.s_from,
        )


@register("guidance", "moment_matching")
@dataclass(frozen=True, kw_only=True)
class MomentMatchingSpec(Spec):
    """Options, as in scheme `flowdas`."""

    n_steps: int = 20
    covariance: str = "shared"

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> DriftGuidance:
        """Make the guidance."""
        spec = FlowdasSpec(
            guidance="moment_matching", coordinates="residual", covariance=self.covariance, n_steps=self.n_steps
        )
        return DriftGuidance(spec)


@dataclass(frozen=True)
class DriftGuidance:
    """The guided drift SDE of scheme `flowdas`."""

    options: FlowdasSpec

    @property
    def linear_only(self) -> bool:
        """Moment matching alone has a linear H."""
        return self.options.guidance == "moment_matching"

    def residual(self, guided: Guided) -> Tensor:
        """One guided path of every member."""
        scale = climatological_scale(guided.climatology, guided.observations)
        seen = observe_residual(guided.prediction, guided.observations, scale)
        return Flowdas(self.options).sample_residual(guided.prediction, seen, guided.noise)
