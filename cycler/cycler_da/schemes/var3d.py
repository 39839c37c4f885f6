"""3D-Var: the background corrected with a fixed covariance, for every member.

With B = beta B_0, where B_0 is a calibrated covariance (`b`) or the climatology of the forecast model,
    x_a,i = argmin (x - x_i)^T B^-1 (x - x_i) + (y + e_i - h(x))^T R^-1 (y + e_i - h(x)),   e_i from N(0, R), re-centred
`members: perturbed_observations` gives an ensemble of 3D-Vars, whose spread follows the errors; `members: mean`
moves all members by the increment of their mean. One member is the deterministic 3D-Var. The solvers (`dense`, `cg` in
observation space, `control` in control space) are those of `variational`; `control` alone takes a nonlinear h.

beta is `factor`; with `adapt` = a > 0 it follows the innovations from cycle to cycle, as E|y - H x_b|^2 = tr(H B H^T +
R) asks for, weighted with R^-1:
    beta <- (1 - a) beta + a beta q,   q = (d^T R^-1 d - p) / tr(R^-1 H B H^T), held to [1/2, 2] (0.5 where negative)
and is carried in `carry`. q itself is reported as `background_variance_ratio`: 1 on average where B and R are right.

`std: predicted` takes B_0 = D K D instead: K the stationary correlation of a learned transition, applied through its
spectrum, D the standard deviation that it predicts for this cycle from place to place (root mean square over members).
Source: Lorenc (1986), Q. J. R. Meteorol. Soc. 112; ensemble: Houtekamer et al. (1996), Mon. Wea. Rev. 124; tuning by
innovations: Dee (1995), Mon. Wea. Rev. 123, 1128 (with one parameter, in its moment form).

Limits: B does not change with the flow, D of `std: predicted` excepted, which is that of one model step: what the last
analysis did not know is left to `factor`. Observation errors are uncorrelated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.advected import AdvectedPrediction, AdvectedTransition
from cycler_da.generative.climatology import StateCovariance
from cycler_da.generative.local_covariance import LocalCovariance
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.ensemble.perturbed_observations import perturbations
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import innovation_diagnostics
from cycler_da.schemes.frame.settings import require, require_share
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.minimisation.solver import Solver
from cycler_da.schemes.minimisation.static_covariance import (
    CLIMATOLOGICAL_FACTOR,
    MultipliedCovariance,
    static_covariance,
)
from cycler_da.schemes.minimisation.variational import Minimum, VariationalProblem
from cycler_da.schemes.transition.last_step import last_step

if TYPE_CHECKING:
    from torch import Tensor

MEMBERS = ("perturbed_observations", "mean")
STDS = ("static", "predicted")
#: Name of the carried factor, and how far one cycle may change it.
FACTOR = "var3d.factor"
LEAST_CHANGE, MOST_CHANGE = 0.5, 2.0


@register("scheme", "var3d")
@dataclass(frozen=True, kw_only=True)
class Var3dSpec(Spec):
    """Options of 3D-Var."""

    b: str | None = None  # B file of `cycler calibrate-b`; None: the forecast model's climatology
    b_sha256: str | None = None  # refuse any other file; a prefix of 8 or more digits is enough
    std: str = "static"  # that of the covariance; or predicted, by a learned transition from place to place
    factor: float | None = None  # beta; None: 1 for a B file or a predicted std, 0.1 for a climatology
    adapt: float = 0.0  # share of a cycle's innovations in the next factor; 0: fixed
    members: str = "perturbed_observations"  # or mean
    solver: str = "dense"  # or cg, control
    max_observations: int = 10000  # of the dense solver: its matrix then takes 0.8 GB
    most_loops: int = 10  # Gauss-Newton loops of the control solver

    def __post_init__(self) -> None:
        is_positive = self.factor is None or self.factor > 0
        require(is_positive, "factor", self.factor, expected="a positive number", scheme="var3d")
        require_share("adapt", self.adapt, scheme="var3d")
        require(self.std in STDS, "std", self.std, expected=" or ".join(STDS), scheme="var3d")
        is_one = self.std == "static" or self.b is None
        require(
            is_one, "b", self.b, expected="no file with std: predicted, whose correlation is learned", scheme="var3d"
        )
        require(self.members in MEMBERS, "members", self.members, expected=" or ".join(MEMBERS), scheme="var3d")
        self.solver_within_limits()

    def solver_within_limits(self) -> Solver:
        """The solver; raises ConfigError for one that cannot be."""
        return Solver(self.solver, self.max_observations, self.most_loops, "var3d")

    def build(self, context: SchemeContext) -> Var3d | PredictedVar3d:
        """Build the scheme; raises ConfigError when there is neither a B file nor a climatology.

        For `std: predicted` it raises ConfigError unless the transition's spread differs from place to place.
        """
        if self.std == "predicted":
            _require_local_transition(context)
            return PredictedVar3d(self, context.layout)
        static = static_covariance(context, b=self.b, b_sha256=self.b_sha256, factor=self.factor, scheme="var3d")
        return Var3d(self, context.layout, static.covariance, static.factor, static.digest)


@dataclass(frozen=True)
class Var3d:
    """3D-Var with a fixed covariance, `factor` times `covariance`."""

    settings: Var3dSpec
    layout: Layout
    covariance: StateCovariance
    factor: float | None = None  # None: that of the settings
    covariance_digest: str = ""

    @property
    def needs(self) -> Needs:
        """Linear operators, except in control space."""
        return self.settings.solver_within_limits().needs(n_members=1)

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed for an operator that is not linear (but with solver control), too many observations for
        the dense solver, and numbers that are not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        factor = self._factor(carry)
        background = prior.background
        states = background.latest.to(torch.float64)
        innovations, found = self._minimum(background.members, states, observations, factor=factor, noise=noise)
        # One row moves all members alike, or there is a row for each after that of the mean.
        moved = (states + found.increments[-len(states) :]).to(background.values.dtype)
        require_finite(moved, layout=self.layout, scheme="var3d")
        report = innovation_diagnostics(innovations, torch.zeros_like(innovations), observations=observations)
        report |= minimum_diagnostics(found) | {"factor": factor}
        return conclude(background, moved, carry=self._carried(carry, factor, found), report=report)

    def _minimum(
        self, members: tuple[int, ...], states: Tensor, observations: Observations, *, factor: float, noise: Noise
    ) -> tuple[Tensor, Minimum]:
        """Innovations of the mean, and the minimum: the mean's row, then those of the members if they have any."""
        finite_hx(states, observations, scheme="var3d")
        values = observations.values.to(states.device)
        rows, targets = states.mean(dim=0, keepdim=True), values[None]
        if self.settings.members == "perturbed_observations":
            r = observations.error_variance.to(states.device)
            errors = perturbations(r, members=members, noise=noise, stream="var3d.observations")
            rows, targets = torch.cat([rows, states]), torch.cat([targets, values + errors])
        covariance = MultipliedCovariance(self.covariance, factor)
        solver = self.settings.solver_within_limits()
        found = VariationalProblem(covariance, observations, self.layout, noise, solver).minimise(rows, targets)
        return values - observations.hx(rows[:1])[0], found

    def _factor(self, carry: Mapping[str, Tensor]) -> float:
        if self.settings.adapt > 0 and FACTOR in carry:
            return float(carry[FACTOR])
        given = self.factor if self.factor is not None else self.settings.factor
        return CLIMATOLOGICAL_FACTOR if given is None else given

    def _carried(self, carry: Mapping[str, Tensor], factor: float, found: Minimum) -> Mapping[str, Tensor]:
        if self.settings.adapt == 0:
            return carry
        change = min(max(found.variance_ratio, LEAST_CHANGE), MOST_CHANGE)
        following = factor * (1 - self.settings.adapt + self.settings.adapt * change)
        return {**carry, FACTOR: torch.tensor(following, dtype=torch.float64)}


@dataclass(frozen=True)
class PredictedVar3d:
    """3D-Var whose B is made anew in every cycle, from the spread that the transition predicts."""

    settings: Var3dSpec
    layout: Layout

    @property
    def needs(self) -> Needs:
        """Those of 3D-Var, and the previous analysis, from which the spread is predicted."""
        return replace(self.settings.solver_within_limits().needs(n_members=1), previous=True)

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed without a previous analysis, and as `Var3d.analyse`.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        model, frames = last_step(prior, noise, scheme="var3d")
        prediction = model.transition.predict(frames)
        assert isinstance(prediction, AdvectedPrediction)  # checked when the scheme was built
        residual = prediction.residual
        std = residual.std.to(torch.float64).square().mean(dim=0, keepdim=True).sqrt()
        covariance = LocalCovariance(std, residual.correlation)
        factor = 1.0 if self.settings.factor is None else self.settings.factor
        of_this_cycle = Var3d(self.settings, self.layout, covariance, factor)
        return of_this_cycle.analyse(prior, observations, noise=noise, carry=carry)


def _require_local_transition(context: SchemeContext) -> None:
    transition = getattr(context.model, "transition", None)
    if context.model is not None and not isinstance(transition, AdvectedTransition):
        raise ConfigError(
            "scheme var3d: std is predicted, which needs a learned transition whose spread differs from place to place "
            f"(weights of kind advected); got {type(transition or context.model).__name__}. Leave std out"
        )


def minimum_diagnostics(found: Minimum) -> dict[str, float]:
    """What the solver says about the analysis."""
    return {
        "innovation_chi_square": found.chi_square,
        "dof_signal": found.dof_signal,
        "background_variance_ratio": found.variance_ratio,
        "loops": float(found.n_loops),
        "last_step": found.last_step,
    }
