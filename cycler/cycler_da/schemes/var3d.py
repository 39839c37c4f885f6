"""3D-Var: optimal interpolation of the background with a fixed covariance, for every member.

With B = beta B_clim, the climatological covariance of the forecast model times a factor,
    x_a,i = x_i + B H^T (H B H^T + R)^-1 (y + e_i - H x_i),   e_i from N(0, R), re-centred
the minimum of (x - x_i)^T B^-1 (x - x_i) + (y + e_i - H x)^T R^-1 (y + e_i - H x), solved in observation space.
`members: perturbed_observations` gives an ensemble of 3D-Vars, whose spread follows the errors; `members: mean`
moves all members by the increment of their mean. One member is the deterministic 3D-Var.
`solver: dense` factors H B H^T + R; `solver: cg` solves (I + R^-1/2 H B H^T R^-1/2) by conjugate gradients.
Source: Lorenc (1986), Q. J. R. Meteorol. Soc. 112; observation space: Cohn et al. (1998), Mon. Wea. Rev. 126;
ensemble: Houtekamer et al. (1996), Mon. Wea. Rev. 124. beta is tuned so that E|y - H x_b|^2 = tr(H B H^T + R).

`innovation_chi_square` is d^T (H B H^T + R)^-1 d / p, from the whole matrix; with `cg`, `dof_signal` is an estimate.

Limits: H must be linear. B does not change with the flow. Observation errors are uncorrelated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.conjugate_gradients import solve
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.checks import finite_hx, require_finite
from cycler_da.schemes.diagnostics import field_diagnostics, innovation_diagnostics
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.perturbed_observations import perturbations
from cycler_da.schemes.settings import require

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=True, linear_operators=True, n_members=1)
MEMBERS = ("perturbed_observations", "mean")
SOLVERS = ("dense", "cg")
#: Observations whose columns H B H^T e_j are formed together.
COLUMNS_AT_ONCE = 64
#: Random vectors for the trace of H K with conjugate gradients.
N_PROBES = 8


@runtime_checkable
class AppliedCovariance(Protocol):
    """A covariance B of states that can be applied."""

    def apply(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """B x."""
        ...


@register("scheme", "var3d")
@dataclass(frozen=True, kw_only=True)
class Var3dSpec(Spec):
    """Options of 3D-Var."""

    factor: float = 0.1  # beta, of the climatological covariance
    members: str = "perturbed_observations"  # or mean
    solver: str = "dense"  # or cg
    max_observations: int = 10000  # of the dense solver: its matrix then takes 0.8 GB

    def __post_init__(self) -> None:
        require(self.factor > 0, "factor", self.factor, expected="a positive number", scheme="var3d")
        for name, known in (("members", MEMBERS), ("solver", SOLVERS)):
            got = getattr(self, name)
            require(got in known, name, got, expected=" or ".join(known), scheme="var3d")

    def build(self, context: SchemeContext) -> Var3d:
        """Build the scheme; raises ConfigError when the forecast model brings no climatology."""
        climatology = getattr(context.model, "climatology", None)
        if climatology is None:
            raise ConfigError(
                "scheme var3d: needs a climatological covariance; got a forecast model without one "
                f"({type(context.model).__name__}). Expected a model with `climatology` (mean, covariance): use a "
                "learned interpolant, or leave this scheme out."
            )
        return Var3d(self, context.layout, climatology.covariance)


@dataclass(frozen=True)
class Var3d:
    """3D-Var with a fixed covariance, `settings.factor` times `covariance`."""

    settings: Var3dSpec
    layout: Layout
    covariance: AppliedCovariance
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed for an operator that is not linear, too many observations for the dense solver, and
        numbers that are not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        self._require_fitting(observations)
        background = prior.background
        states = background.latest.to(torch.float64)
        hx = finite_hx(states, observations, scheme="var3d")
        r, values = observations.error_variance.to(hx.device), observations.values.to(hx.device)
        innovations = values - hx.mean(dim=0)
        right = innovations[None]
        if self.settings.members == "perturbed_observations":
            errors = perturbations(r, members=background.members, noise=noise, stream="var3d.observations")
            right = torch.cat([right, values - hx + errors])
        is_dense = self.settings.solver == "dense"
        solve_rows = self._solve_dense if is_dense else partial(self._solve_cg, noise=noise)
        solution, trace = solve_rows(right, observations)
        # One row moves all members alike, or there is a row for each after that of the mean.
        moved = (states + self._to_states(solution[-len(states) :], observations)).to(background.values.dtype)
        require_finite(moved, layout=self.layout, scheme="var3d")
        report = innovation_diagnostics(innovations, torch.zeros_like(r), observations=observations)
        report["innovation_chi_square"] = float((innovations * solution[0]).sum()) / len(r)
        report["dof_signal"] = trace
        fields = field_diagnostics(background.latest, moved, channels=self.layout.channels)
        result = torch.cat([background.values[:, :-1], moved.unsqueeze(1)], dim=1)
        return Analysis(background.with_values(result), carry, {**report, **fields})

    def _require_fitting(self, observations: Observations) -> None:
        if not observations.is_linear:
            names = sorted({batch.operator.name for batch in observations.batches if not batch.operator.is_linear})
            raise AnalysisFailed(
                f"var3d: the operators {', '.join(names)} are not linear; expected linear ones. Use another scheme."
            )
        limit = self.settings.max_observations
        if self.settings.solver == "dense" and len(observations) > limit:
            raise AnalysisFailed(
                f"var3d: {len(observations)} observations; expected at most {limit}, because the matrix is dense. "
                "Set solver: cg, thin the observations, or raise max_observations."
            )

    def _solve_dense(self, right: Tensor, observations: Observations) -> tuple[Tensor, float]:
        """(H B H^T + R)^-1 applied to each row, and the trace of H K."""
        r = observations.error_variance.to(right.device)
        hbht = self._observed_covariance(observations, device=right.device)
        factor = torch.linalg.cholesky(hbht + torch.diag(r))
        return torch.cholesky_solve(right.mT, factor).mT, float(torch.cholesky_solve(hbht, factor).trace())

    def _solve_cg(self, right: Tensor, observations: Observations, *, noise: Noise) -> tuple[Tensor, float]:
        """The same by conjugate gradients; the trace is estimated with random signs z: E z^T (I - W^-1) z."""
        root = observations.error_variance.to(right.device).sqrt()
        z = noise.shared_normal("var3d.trace", (N_PROBES, len(root)), dtype=torch.float64).sign().to(right.device)
        rows = torch.cat([right / root, z])
        solution = solve(
            lambda v: v + self._through(v / root, observations) / root, rows, diagonal=torch.ones_like(rows)
        )
        trace = len(root) - float((z * solution[len(right) :]).sum(dim=1).mean())
        return solution[: len(right)] / root, trace

    def _observed_covariance(self, observations: Observations, *, device: torch.device) -> Tensor:
        """H B H^T, column by column; symmetric by construction."""
        units = torch.eye(len(observations), dtype=torch.float64, device=device).split(COLUMNS_AT_ONCE)
        hbht = torch.cat([self._through(part, observations) for part in units])
        return (hbht + hbht.mT) / 2

    def _through(self, v: Tensor, observations: Observations) -> Tensor:
        """H B H^T v for rows v; an offset of H is no part of the covariance."""
        zero = torch.zeros((1, *self.layout.state_shape), dtype=torch.float64, device=v.device)
        return observations.hx(self._to_states(v, observations)) - observations.hx(zero)

    def _to_states(self, v: Tensor, observations: Observations) -> Tensor:
        """B H^T v for rows v `(batch, obs)`."""
        return self.settings.factor * self.covariance.apply(observations.adjoint(v)).to(torch.float64)
