"""EnKF: the stochastic ensemble Kalman filter, with perturbed observations.

With N members, A the anomalies of the state (inflated), Y those of H(x), and e_i perturbations of N(0, R):
    x_a,i = x_i + P_xy (P_yy + R)^-1 (y + e_i - H(x_i)),   P_xy = A^T Y / (N - 1),   P_yy = Y^T Y / (N - 1)
Without localization and with S = Y R^-1/2 / sqrt(N - 1), the smaller of two equal systems is solved:
    P_xy (P_yy + R)^-1 v = A^T (I + S S^T)^-1 S R^-1/2 v / sqrt(N - 1)          (N x N; else obs x obs)
With a localization radius the covariances are tapered by the Gaspari-Cohn function of distance (B-localization):
    K = (rho_xy o P_xy) (rho_yy o P_yy + R)^-1
Source: Evensen (1994), J. Geophys. Res. 99; Burgers, van Leeuwen and Evensen (1998), Mon. Wea. Rev. 126;
localization: Houtekamer and Mitchell (2001), Mon. Wea. Rev. 129.

Order: background anomalies are inflated everywhere, then the analysis, then RTPP, then RTPS, then the inflation of the
analysis anomalies.
`update: serial` takes one observation after the other (`serial_update`), in their order: no matrix is formed, and
localization of any size fits. It is the batch update in expectation, and exactly for perturbations without sampling
error; with localization it depends a little on the order.
Observations are used at their own times where the background has frames inside the window (`window_hx`).
Limits: localization of the batch forms dense matrices (state x obs, obs x obs) and is refused above `MOST_NUMBERS`;
for more use the serial update or the LETKF. Observation errors are uncorrelated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.ensemble.inflation import (
    inflate,
    inflate_moved,
    relax_to_prior_perturbations,
    relax_to_prior_spread,
)
from cycler_da.schemes.ensemble.localization import gaspari_cohn, grid_distance, grid_points, taper_between
from cycler_da.schemes.ensemble.perturbed_observations import perturbations
from cycler_da.schemes.ensemble.serial_update import Tapers, serial_update
from cycler_da.schemes.frame.checks import finite_window_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_signal, innovation_diagnostics
from cycler_da.schemes.frame.settings import axis_radius, require, require_inflation, require_share
from cycler_da.schemes.free_run import keep_background

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=True, n_members=2, own_times=True)
#: Most numbers of a dense localized matrix (state x obs): 0.5 GB in float64.
MOST_NUMBERS = 2**26


@register("scheme", "enkf")
@dataclass(frozen=True, kw_only=True)
class EnkfSpec(Spec):
    """Options of the EnKF; the localization radius is a Gaspari-Cohn half-width, in km or in grid cells."""

    localization_radius_km: float | None = None
    localization_radius_cells: float | None = None
    inflation: float = 1.05  # factor on background anomalies
    rtpp: float = 0.0
    rtps: float = 0.0
    analysis_inflation: float = 1.0  # factor on analysis anomalies
    update: Literal["batch", "serial"] = "batch"  # all observations at once, or one after the other

    def __post_init__(self) -> None:
        require_inflation(self.inflation, scheme="enkf")
        require_inflation(self.analysis_inflation, scheme="enkf", name="analysis_inflation")
        is_known = self.update in ("batch", "serial")
        require(is_known, "update", self.update, expected="batch or serial", scheme="enkf")
        require_share("rtpp", self.rtpp, scheme="enkf")
        require_share("rtps", self.rtps, scheme="enkf")

    def build(self, context: SchemeContext) -> Enkf:
        """Build the scheme; raises ConfigError when the radius does not fit the grid."""
        km, cells = self.localization_radius_km, self.localization_radius_cells
        return Enkf(self, context.layout, axis_radius(context.layout, km=km, cells=cells, scheme="enkf"))


@dataclass(frozen=True)
class Enkf:
    """The stochastic EnKF with fixed settings."""

    settings: EnkfSpec
    layout: Layout
    radius: float | None  # Gaspari-Cohn half-width, axis units
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite, or localization would need too much memory.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        frames = background.with_values(inflate(background.values.to(torch.float64), self.settings.inflation))
        inflated, hx = frames.latest, finite_window_hx(frames, observations, scheme="enkf")
        r, values = observations.error_variance.to(hx.device), observations.values.to(hx.device)
        errors = perturbations(r, members=background.members, noise=noise, stream="enkf.observations")
        change = self._change if self.settings.update == "batch" else self._serial_change
        moves, trace = change(inflated, hx, values + errors - hx, observations=observations)
        moved = (inflated + moves).to(background.values.dtype)
        require_finite(moved, layout=self.layout, scheme="enkf")
        report = innovation_diagnostics(values - hx.mean(dim=0), hx.var(dim=0), observations=observations)
        report["dof_signal"] = trace
        analysed = relax_to_prior_perturbations(moved, background.latest, amount=self.settings.rtpp)
        analysed = relax_to_prior_spread(analysed, background.latest, amount=self.settings.rtps)
        is_moved = moved != background.latest
        analysed = inflate_moved(analysed, self.settings.analysis_inflation, is_moved=is_moved)
        return conclude(background, analysed, carry=carry, report=report)

    def _change(
        self, x: Tensor, hx: Tensor, differences: Tensor, *, observations: Observations
    ) -> tuple[Tensor, float]:
        """Increments of the members, and the trace of H K."""
        r = observations.error_variance.to(hx.device)
        anomalies = (x - x.mean(dim=0)).flatten(1)
        observed = hx - hx.mean(dim=0)
        if self.radius is None:
            change, trace = sample_increments(anomalies, observed, differences, error_variance=r)
        else:
            tapers = self._tapers(observations, device=hx.device)
            change, trace = localized_increments(anomalies, observed, differences, error_variance=r, tapers=tapers)
        return change.view(x.shape), trace

    def _serial_change(
        self, x: Tensor, hx: Tensor, differences: Tensor, *, observations: Observations
    ) -> tuple[Tensor, float]:
        """Increments of the members by one observation after the other, and an estimate of the trace of H K."""
        r = observations.error_variance.to(hx.device)
        tapers = None if self.radius is None else self._tapers_of_one(observations, device=hx.device)
        moved, seen = serial_update(x.flatten(1), hx, hx + differences, error_variance=r, tapers=tapers)
        return moved.view(x.shape) - x, dof_signal(seen, r)

    def _tapers_of_one(self, observations: Observations, *, device: torch.device) -> Tapers:
        """Tapers of one observation with all cells (repeated for every channel) and with all observations."""
        positions = observations.positions.to(device, torch.float64)
        axes, radius = self.layout.grid.axes, self.radius or 1.0
        cells = grid_points(axes).to(device)

        def tapers(j: int) -> tuple[Tensor, Tensor]:
            to_cells = gaspari_cohn(grid_distance(cells, positions[j], axes=axes), radius)
            between = gaspari_cohn(grid_distance(positions, positions[j], axes=axes), radius)
            return to_cells.repeat(len(self.layout.variables)), between

        return tapers

    def _tapers(self, observations: Observations, *, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tapers between cells and observations (repeated for every channel), and between observations."""
        positions = observations.positions.to(device, torch.float64)
        n_obs, n_state = len(positions), torch.Size(self.layout.state_shape).numel()
        if n_obs * max(n_state, n_obs) > MOST_NUMBERS:
            raise AnalysisFailed(
                f"enkf: localization of {n_obs} observations of a state of {n_state} values needs a dense matrix of "
                f"{n_obs * max(n_state, n_obs)} numbers; expected at most {MOST_NUMBERS}. Use scheme letkf, thin the "
                "observations, or set update: serial."
            )
        axes, radius = self.layout.grid.axes, self.radius or 1.0
        cells = grid_points(axes).to(device)
        to_cells = taper_between(cells, positions, axes=axes, half_width=radius)
        between = taper_between(positions, positions, axes=axes, half_width=radius)
        return to_cells.repeat(len(self.layout.variables), 1), between


def sample_increments(
    anomalies: Float[Tensor, "member state"],
    observed: Float[Tensor, "member obs"],
    differences: Float[Tensor, "member obs"],
    *,
    error_variance: Float[Tensor, "obs"],
) -> tuple[Float[Tensor, "member state"], float]:
    """K applied to each row of `differences`, with the sample covariance; and the trace of H K."""
    n_members, n_obs = observed.shape
    s = observed / (error_variance * (n_members - 1)).sqrt()
    scaled = differences / error_variance.sqrt()
    small = s.mT @ s if n_obs <= n_members else s @ s.mT
    factor = torch.linalg.cholesky(small + torch.eye(len(small), dtype=small.dtype, device=small.device))
    trace = float(torch.cholesky_solve(small, factor).trace())
    states = anomalies / (n_members - 1) ** 0.5
    if n_obs <= n_members:
        return torch.cholesky_solve(scaled.mT, factor).mT @ (s.mT @ states), trace
    return torch.cholesky_solve(s @ scaled.mT, factor).mT @ states, trace


def localized_increments(
    anomalies: Float[Tensor, "member state"],
    observed: Float[Tensor, "member obs"],
    differences: Float[Tensor, "member obs"],
    *,
    error_variance: Float[Tensor, "obs"],
    tapers: tuple[Float[Tensor, "state obs"], Float[Tensor, "obs obs"]],
) -> tuple[Float[Tensor, "member state"], float]:
    """K applied to each row of `differences`, with tapered covariances; and the trace of H K."""
    to_state, between = tapers
    n_members = len(observed)
    p_xy = to_state * (anomalies.mT @ observed) / (n_members - 1)
    p_yy = between * (observed.mT @ observed) / (n_members - 1)
    factor = torch.linalg.cholesky(p_yy + torch.diag(error_variance))
    change = torch.cholesky_solve(differences.mT, factor).mT @ p_xy.mT
    return change, float(torch.cholesky_solve(p_yy, factor).trace())
