"""EnVar: hybrid ensemble-variational analysis, a static B and the members' localized covariance in one cost function.

    B_h = g beta B_0 + (1 - g) rho o P
    mean(x_a) = argmin (x - mean(x))^T B_h^-1 (x - mean(x)) + (y - h(x))^T R^-1 (y - h(x))
g is `static_share`: 1 is 3D-Var, 0 a pure ensemble analysis (without localization the mean of the EnKF and the ETKF).
The members follow in one of two ways:
  members: letkf                   x_a,i = mean(x_a) + deviation of member i in the LETKF analysis (Hunt et al. 2007)
                                   with the same localization radius: an ensemble re-centred on the EnVar mean
  members: perturbed_observations  every member its own minimum with B_h and y + e_i: an ensemble of EnVars
The solvers are those of `variational` (`control` takes a nonlinear h); B_h is in `hybrid_covariance`.
Source: Hamill and Snyder (2000), Mon. Wea. Rev. 128; Lorenc (2003), Q. J. R. Meteorol. Soc. 129; Buehner (2005),
Q. J. R. Meteorol. Soc. 131; re-centring: Clayton, Lorenc and Barker (2013), Q. J. R. Meteorol. Soc. 139.

Order: background anomalies are inflated (in P and in the LETKF transform), then the analysis, then RTPP, then RTPS.
Limits: localization acts between model cells (B-localization), the LETKF's on observation errors. Observation errors
are uncorrelated; observations act at the background's last time: it is 3D-EnVar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.climatology import StateCovariance
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.ensemble.ensemble_transform import transform_weights
from cycler_da.schemes.ensemble.inflation import relax_to_prior_perturbations, relax_to_prior_spread
from cycler_da.schemes.ensemble.localization_root import LocalizationRoot, localization_root
from cycler_da.schemes.ensemble.perturbed_observations import perturbations
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import innovation_diagnostics
from cycler_da.schemes.frame.settings import axis_radius, require, require_inflation, require_share
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.minimisation.hybrid_covariance import EnsembleCovariance, hybrid_covariance
from cycler_da.schemes.minimisation.solver import Solver
from cycler_da.schemes.minimisation.static_covariance import MultipliedCovariance, static_covariance
from cycler_da.schemes.minimisation.variational import Minimum, VariationalProblem
from cycler_da.schemes.var3d import minimum_diagnostics

if TYPE_CHECKING:
    from torch import Tensor

MEMBERS = ("letkf", "perturbed_observations")


@register("scheme", "envar")
@dataclass(frozen=True, kw_only=True)
class EnvarSpec(Spec):
    """Options of the EnVar; the localization radius is a Gaspari-Cohn half-width, in km or in grid cells."""

    static_share: float = 0.5  # g
    b: str | None = None  # B file of `cycler calibrate-b`; None: the forecast model's climatology
    b_sha256: str | None = None  # refuse any other file; a prefix of 8 or more digits is enough
    factor: float | None = None  # beta; None: 1 for a B file, 0.1 for a climatology
    localization_radius_km: float | None = None
    localization_radius_cells: float | None = None
    inflation: float = 1.05  # factor on background anomalies
    rtpp: float = 0.0
    rtps: float = 0.0
    members: str = "letkf"  # or perturbed_observations
    weight_stride: int = 1  # of the LETKF's weights: on every n-th grid point, linear between
    solver: str = "cg"  # or dense, control
    max_observations: int = 10000  # of the dense solver: its matrix then takes 0.8 GB
    most_loops: int = 10  # Gauss-Newton loops of the control solver

    def __post_init__(self) -> None:
        is_positive = self.factor is None or self.factor > 0
        require(is_positive, "factor", self.factor, expected="a positive number", scheme="envar")
        for name in ("static_share", "rtpp", "rtps"):
            require_share(name, getattr(self, name), scheme="envar")
        require_inflation(self.inflation, scheme="envar")
        require(self.members in MEMBERS, "members", self.members, expected=" or ".join(MEMBERS), scheme="envar")
        expected = "a whole number from 1"
        require(self.weight_stride >= 1, "weight_stride", self.weight_stride, expected=expected, scheme="envar")
        self.solver_within_limits()

    def solver_within_limits(self) -> Solver:
        """The solver; raises ConfigError for one that cannot be."""
        return Solver(self.solver, self.max_observations, self.most_loops, "envar")

    def build(self, context: SchemeContext) -> Envar:
        """Build the scheme; raises ConfigError when it needs a static B and there is none."""
        km, cells = self.localization_radius_km, self.localization_radius_cells
        radius = axis_radius(context.layout, km=km, cells=cells, scheme="envar")
        root = localization_root(context.layout.grid, radius)
        if self.static_share == 0:
            return Envar(self, context.layout, radius, root, None)
        static = static_covariance(context, b=self.b, b_sha256=self.b_sha256, factor=self.factor, scheme="envar")
        multiplied = MultipliedCovariance(static.covariance, static.factor)
        return Envar(self, context.layout, radius, root, multiplied, static.digest)


@dataclass(frozen=True)
class Envar:
    """The hybrid analysis with fixed settings."""

    settings: EnvarSpec
    layout: Layout
    radius: float | None  # Gaspari-Cohn half-width, axis units
    localization: LocalizationRoot
    static: StateCovariance | None  # its factor included
    covariance_digest: str = ""

    @property
    def needs(self) -> Needs:
        """Linear operators, except in control space."""
        return self.settings.solver_within_limits().needs(n_members=2)

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed for an operator that is not linear (but with solver control), too many observations for
        the dense solver, and numbers that are not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        states = background.latest.to(torch.float64)
        hx = finite_hx(states, observations, scheme="envar")
        found = self._minimum(background.members, states, observations, noise=noise)
        moved = self._members(states, hx, found, observations).to(background.values.dtype)
        require_finite(moved, layout=self.layout, scheme="envar")
        innovations = observations.values.to(hx.device) - hx.mean(dim=0)
        report = innovation_diagnostics(innovations, hx.var(dim=0), observations=observations)
        report |= minimum_diagnostics(found)
        analysed = relax_to_prior_perturbations(moved, background.latest, amount=self.settings.rtpp)
        analysed = relax_to_prior_spread(analysed, background.latest, amount=self.settings.rtps)
        return conclude(background, analysed, carry=carry, report=report)

    def covariance(self, states: Tensor) -> StateCovariance:
        """B_h of a background ensemble `(member, channel, *space)`, float64."""
        anomalies = (states - states.mean(dim=0)) * (self.settings.inflation / (len(states) - 1) ** 0.5)
        ensemble = EnsembleCovariance(anomalies, self.localization)
        share = self.settings.static_share
        return hybrid_covariance(self.static, ensemble, share=share, state_shape=self.layout.state_shape)

    def _minimum(
        self, members: tuple[int, ...], states: Tensor, observations: Observations, *, noise: Noise
    ) -> Minimum:
        """The minimum: the mean's row, then those of the members where each has its own."""
        values = observations.values.to(states.device)
        rows, targets = states.mean(dim=0, keepdim=True), values[None]
        if self.settings.members == "perturbed_observations":
            r = observations.error_variance.to(states.device)
            errors = perturbations(r, members=members, noise=noise, stream="envar.observations")
            inflated = rows + self.settings.inflation * (states - rows)
            rows, targets = torch.cat([rows, inflated]), torch.cat([targets, values + errors])
        solver = self.settings.solver_within_limits()
        return VariationalProblem(self.covariance(states), observations, self.layout, noise, solver).minimise(
            rows, targets
        )

    def _members(self, states: Tensor, hx: Tensor, found: Minimum, observations: Observations) -> Tensor:
        mean = states.mean(dim=0)
        if self.settings.members == "perturbed_observations":
            return mean + self.settings.inflation * (states - mean) + found.increments[1:]
        transform = transform_weights(
            hx,
            observations.values,
            error_variance=observations.error_variance,
            positions=observations.positions,
            layout=self.layout,
            radius=self.radius,
            weight_stride=self.settings.weight_stride,
            inflation=self.settings.inflation,
        )
        transformed = transform.apply(states)
        return transformed - transformed.mean(dim=0) + mean + found.increments[0]
