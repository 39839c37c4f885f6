"""Observations only: optimal interpolation of the observations of one window from climatology.

The background is used for nothing but its members' ids: the baseline that says what the forecast is worth.
With the climatological mean m and covariance B,
    S = H B H^T + R,   mean of the analysis = m + B H^T S^-1 (y - H m)
    x_i = m + b_i + B H^T S^-1 (y + e_i - H (m + b_i)),   b_i from N(0, B), e_i from N(0, R)
The second line draws from the posterior N(mean, B - B H^T S^-1 H B) (Matheron's rule). b_i and e_i are
re-centred over the members, so that the ensemble mean is the first line exactly.
Source: Daley (1991), Atmospheric Data Analysis, ch. 4; Doucet (2010), "A note on efficient conditional
simulation of Gaussian distributions".

H must be linear. S is dense: memory grows with the square of the number of observations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import innovation_diagnostics
from cycler_da.schemes.frame.settings import require
from cycler_da.schemes.free_run import keep_background

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Observations whose columns B H^T e_j are formed together.
COLUMNS_AT_ONCE = 64


@runtime_checkable
class CovarianceOperator(Protocol):
    """A covariance B of states that can be applied and drawn from."""

    def apply(self, x: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """B x."""
        ...

    def color(self, z: Float[Tensor, "batch channel *noise"]) -> Float[Tensor, "batch channel *space"]:
        """B^1/2 z: draws from N(0, B) made from standard normal z."""
        ...

    def noise_shape(self, state_shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of one member's z, for states of shape `(channel, *space)`; a state's own for a square root."""
        ...


class Climatology(Protocol):
    """Mean and covariance of the states of a system."""

    mean: Float[Tensor, "channel"]
    covariance: CovarianceOperator


NEEDS = Needs(couples_members=True, linear_operators=True, n_members=2)


@register("scheme", "observations_only")
@dataclass(frozen=True, kw_only=True)
class ObservationsOnlySpec(Spec):
    """Options of the observations-only analysis."""

    max_observations: int = 10000  # the dense S of 10000 observations takes 0.8 GB

    def __post_init__(self) -> None:
        name, most = "observations_only", self.max_observations
        require(most >= 1, "max_observations", most, expected="a whole number from 1", scheme=name)

    def build(self, context: SchemeContext) -> ObservationsOnly:
        """Build the scheme; raises ConfigError when the forecast model brings no climatology."""
        climatology: Climatology | None = getattr(context.model, "climatology", None)
        if climatology is None:
            raise ConfigError(
                "scheme observations_only: needs a climatological mean and covariance; got a forecast model "
                f"without one ({type(context.model).__name__}). Expected a model with `climatology` (mean, "
                "covariance): use a learned interpolant, or leave this scheme out."
            )
        return ObservationsOnly(context.layout, climatology, self.max_observations)


@dataclass(frozen=True)
class ObservationsOnly:
    """Optimal interpolation with a fixed covariance, and draws from its posterior."""

    layout: Layout
    climatology: Climatology
    max_observations: int
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Draw the posterior of climatology and observations; without observations return the background.

        Raises AnalysisFailed for more observations than `max_observations` and for a result that is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        self._require_fitting(observations)
        draws, errors = self._draws(observations, members=background.members, noise=noise)
        mean = self._mean(draws.device)
        hbht = self._observed_covariance(observations, device=draws.device)
        gain = torch.linalg.cholesky(hbht + torch.diag(observations.error_variance))
        states = mean + draws
        difference = observations.values + errors - observations.hx(states)
        analysed = states + self._to_states(torch.cholesky_solve(difference.mT, gain).mT, observations)
        require_finite(analysed, layout=self.layout, scheme="observations_only")
        report = innovation_diagnostics(
            observations.values - observations.hx(mean)[0], hbht.diagonal(), observations=observations
        )
        report["dof_signal"] = float(torch.cholesky_solve(hbht, gain).trace())
        latest = analysed.to(background.values.dtype)
        return conclude(background, latest, carry=carry, report=report)

    def _require_fitting(self, observations: Observations) -> None:
        if len(observations) > self.max_observations:
            raise AnalysisFailed(
                f"observations_only: {len(observations)} observations; expected at most {self.max_observations}, "
                "because S is dense. Thin the observations in quality control, or raise max_observations."
            )

    def _mean(self, device: torch.device) -> Tensor:
        mean = self.climatology.mean.to(device=device, dtype=torch.float64)
        return mean.reshape(1, -1, *[1] * len(self.layout.grid.axes)).expand(1, *self.layout.state_shape)

    def _draws(self, observations: Observations, *, members: tuple[int, ...], noise: Noise) -> tuple[Tensor, Tensor]:
        """Draws of N(0, B) and N(0, R), re-centred over members and scaled to keep their covariance."""
        device, n_members = observations.values.device, len(members)
        shape = self.climatology.covariance.noise_shape(self.layout.state_shape)
        z = noise.normal("observations_only.state", shape, members=members, dtype=torch.float64)
        e = noise.normal("observations_only.error", (len(observations),), members=members, dtype=torch.float64)
        scale = (n_members / (n_members - 1)) ** 0.5
        z, e = scale * (z - z.mean(dim=0)), scale * (e - e.mean(dim=0))
        draws = self.climatology.covariance.color(z.to(device)).to(torch.float64)
        return draws, e.to(device) * observations.error_variance.sqrt()

    def _observed_covariance(self, observations: Observations, *, device: torch.device) -> Tensor:
        """H B H^T, column by column; symmetric by construction."""
        units = torch.eye(len(observations), dtype=torch.float64, device=device).split(COLUMNS_AT_ONCE)
        # H may be affine: its value at zero is no part of the covariance.
        zero = torch.zeros((1, *self.layout.state_shape), dtype=torch.float64, device=device)
        columns = [observations.hx(self._to_states(part, observations)) - observations.hx(zero) for part in units]
        hbht = torch.cat(columns)
        return (hbht + hbht.mT) / 2

    def _to_states(self, v: Tensor, observations: Observations) -> Tensor:
        """B H^T v for rows v `(batch, obs)`."""
        return self.climatology.covariance.apply(observations.adjoint(v)).to(torch.float64)
