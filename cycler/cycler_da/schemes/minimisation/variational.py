"""The minimum of the variational cost function, in observation space or in control space.

    J(x) = (x - x_b)^T B^-1 (x - x_b) / 2 + (y - h(x))^T R^-1 (y - h(x)) / 2,      B = U U^T

dense     x = x_b + B H^T (H B H^T + R)^-1 (y - h(x_b)), the matrix formed and factored; h linear
cg        the same with (I + R^-1/2 H B H^T R^-1/2) solved by conjugate gradients; h linear
control   x = x_b + U c, J(c) = c^T c / 2 + ...: Gauss-Newton, each loop linearised at its last state x_k,
              (I + U^T H_k^T R^-1 H_k U) c = U^T H_k^T R^-1 (y - h(x_k) + H_k (x_k - x_b))
          by conjugate gradients, with steps halved until J falls; a linear h takes one loop
All three give the same minimum where h is linear. B appears as `apply`, U and U^T only, and is never a matrix.
Source: Lorenc (1986), Q. J. R. Meteorol. Soc. 112; observation space: Cohn et al. (1998), Mon. Wea. Rev. 126;
incremental, control variable: Courtier, Thepaut and Hollingsworth (1994), Q. J. R. Meteorol. Soc. 120.

Reported for the first row: d^T (H B H^T + R)^-1 d / p, the trace of H K, and the ratio of the innovations' variance to
the one B promises, (d^T d / r - p) / tr(R^-1/2 H B H^T R^-1/2), which is 1 on average where B and R are right. Traces
are exact with `dense`; else estimated with random signs z, E z^T A z = tr A.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.climatology import StateCovariance
from cycler_da.generative.conjugate_gradients import solve
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.minimisation.linearised import Linearised
from cycler_da.schemes.minimisation.solver import Solver

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)

#: Observations whose columns B H^T e_j are formed together.
COLUMNS_AT_ONCE = 64
#: Random vectors for traces without a matrix: with p observations a trace is off by about p^-1/2, as innovations are.
N_PROBES = 2
#: Relative residual of conjugate gradients: increments then agree with the dense solution to about 1e-11.
TOLERANCE = 1e-12
#: Gauss-Newton ends when no row's control vector moves by more than this, relative to its length.
LOOP_TOLERANCE = 1e-6
#: A step that is halved this often is not taken.
MOST_HALVINGS = 12


@dataclass(frozen=True)
class Minimum:
    """Increments of every row, and how the first one fits."""

    increments: Float[Tensor, "row channel *space"]
    chi_square: float
    dof_signal: float
    variance_ratio: float  # observed over promised variance of the innovations' background part
    n_loops: int = 1
    last_step: float = 0.0  # of the control vector, relative; 0 where h is linear


@dataclass(frozen=True)
class VariationalProblem:
    """B, the observations, and keyed noise for traces."""

    covariance: StateCovariance
    observations: Observations
    layout: Layout
    noise: Noise
    solver: Solver

    def minimise(self, states: Float[Tensor, "row channel *space"], targets: Float[Tensor, "row obs"]) -> Minimum:
        """Minimise J for every row: background `states` (float64) and observed values `targets`.

        Raises AnalysisFailed when the solver cannot take the observations, and when conjugate gradients do not
        converge. Gauss-Newton cut off by `most_loops` has still lowered J: it warns and reports its last step.
        """
        self.solver.require_fitting(self.observations)
        if self.solver.name == "control":
            return self._in_control_space(states, targets)
        departures = (targets - self.observations.hx(states)) / self.root_r
        solved = self._dense(departures) if self.solver.name == "dense" else self._conjugate(departures)
        weights, dof, trace = solved
        increments = self.covariance.apply(self.observations.adjoint(weights / self.root_r))
        chi = float((departures[0] * weights[0]).sum()) / len(self.root_r)
        return Minimum(increments, chi, dof, _ratio(departures[0], trace))

    @cached_property
    def root_r(self) -> Float[Tensor, "obs"]:
        """Standard deviations of the observation errors."""
        return self.observations.error_variance.sqrt()

    # In observation space, with departures and weights divided by the errors' standard deviation

    def _whitened(self, w: Tensor) -> Tensor:
        """R^-1/2 H B H^T R^-1/2 w for rows w."""
        moved = self.covariance.apply(self.observations.adjoint(w / self.root_r))
        return Linearised(self.observations, moved).forward(moved) / self.root_r

    def _dense(self, departures: Tensor) -> tuple[Tensor, float, float]:
        units = torch.eye(departures.shape[1], dtype=torch.float64, device=departures.device)
        signal = torch.cat([self._whitened(part) for part in units.split(COLUMNS_AT_ONCE)])
        signal = (signal + signal.mT) / 2
        try:
            factor = torch.linalg.cholesky(signal + units)
        except torch.linalg.LinAlgError as error:
            raise AnalysisFailed(
                f"{self.solver.scheme}: H B H^T + R cannot be factored ({error}); expected a positive definite matrix. "
                "Look for numbers that are not finite in B and for errors far smaller than the background's."
            ) from error
        dof = float(torch.cholesky_solve(signal, factor).trace())
        return torch.cholesky_solve(departures.mT, factor).mT, dof, float(signal.trace())

    def _conjugate(self, departures: Tensor) -> tuple[Tensor, float, float]:
        z = self._probes(departures)
        rows = torch.cat([departures, z])
        solution = _solve(lambda v: v + self._whitened(v), rows)
        kept, probed = solution[: len(departures)], solution[len(departures) :]
        dof = departures.shape[1] - float((z * probed).sum(dim=1).mean())
        return kept, dof, float((z * self._whitened(z)).sum(dim=1).mean())

    def _probes(self, like: Tensor) -> Tensor:
        z = self.noise.shared_normal(f"{self.solver.scheme}.trace", (N_PROBES, like.shape[1]), dtype=torch.float64)
        return z.sign().to(like.device)

    # In control space

    def _in_control_space(self, states: Tensor, targets: Tensor) -> Minimum:
        control = torch.zeros((len(states), self._n_control), dtype=torch.float64, device=states.device)
        x, n_loops, last_step = states, 0, 0.0
        while n_loops < self.solver.most_loops:
            n_loops += 1
            here = Linearised(self.observations, x)
            departures = (targets - self.observations.hx(x) + here.forward(x - states)) / self.root_r
            newton = self._solve_linearised(departures, here)
            if self.observations.is_linear:
                control = newton
                break
            step = self._shortened(control, newton - control, states, targets)
            control = control + step
            x = states + self._to_states(control)
            last_step = float((step.norm(dim=1) / control.norm(dim=1).clamp(min=1e-300)).max())
            if last_step <= LOOP_TOLERANCE:
                break
        else:
            log.warning("scheme=%s last_step=%.1e: not converged in %d loops", self.solver.scheme, last_step, n_loops)
        increments = self._to_states(control)
        fit = departures[0] - here.forward(increments)[0] / self.root_r
        chi = float((departures[0] * fit).sum()) / len(self.root_r)
        dof, trace = self._traces(Linearised(self.observations, here.states[:1].expand(N_PROBES, *x.shape[1:])), fit)
        return Minimum(increments, chi, dof, _ratio(departures[0], trace), n_loops, last_step)

    def _solve_linearised(self, departures: Tensor, here: Linearised) -> Tensor:
        def hessian(c: Tensor) -> Tensor:
            moved = here.forward(self._to_states(c)) / self.root_r
            return c + self._to_control(here.transpose(moved / self.root_r))

        right = self._to_control(here.transpose(departures / self.root_r))
        return _solve(hessian, right)

    def _shortened(self, control: Tensor, step: Tensor, states: Tensor, targets: Tensor) -> Tensor:
        """The step of every row, halved until its cost falls; zero where it never does."""
        cost = self._cost(control, states, targets)
        share = torch.ones((len(control), 1), dtype=torch.float64, device=control.device)
        for _ in range(MOST_HALVINGS):
            is_worse = ~(self._cost(control + share * step, states, targets) <= cost * (1 + 1e-14))
            if not is_worse.any():
                return share * step
            share = torch.where(is_worse[:, None], share / 2, share)
        return torch.where(is_worse[:, None], torch.zeros_like(step), share * step)

    def _cost(self, control: Tensor, states: Tensor, targets: Tensor) -> Tensor:
        misfit = (targets - self.observations.hx(states + self._to_states(control))) / self.root_r
        return 0.5 * (control.square().sum(dim=1) + misfit.square().sum(dim=1))

    def _traces(self, here: Linearised, like: Tensor) -> tuple[float, float]:
        """Traces of H K and of R^-1/2 H B H^T R^-1/2 at the linearisation of the first row, by random signs."""
        z = self._probes(like[None])
        gathered = self._to_control(here.transpose(z / self.root_r))
        solved = self._solve_linearised(z, here)
        fitted = here.forward(self._to_states(solved)) / self.root_r
        return float((z * fitted).sum(dim=1).mean()), float(gathered.square().sum(dim=1).mean())

    @property
    def _noise_shape(self) -> tuple[int, ...]:
        return tuple(self.covariance.noise_shape(self.layout.state_shape))

    @property
    def _n_control(self) -> int:
        return torch.Size(self._noise_shape).numel()

    def _to_states(self, control: Tensor) -> Tensor:
        return self.covariance.color(control.unflatten(1, self._noise_shape)).to(torch.float64)

    def _to_control(self, v: Tensor) -> Tensor:
        return self.covariance.gather(v).flatten(1).to(torch.float64)


def _solve(system: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
    return solve(system, right, diagonal=torch.ones_like(right), tolerance=TOLERANCE)


def _ratio(departures: Tensor, trace: float) -> float:
    return (float(departures.square().sum()) - len(departures)) / max(trace, torch.finfo(torch.float64).tiny)
