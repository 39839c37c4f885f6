"""ETKF: the global ensemble transform Kalman filter with the symmetric root.

With S = f Y R^-1/2 / sqrt(N - 1), Y the anomalies of H(x), A those of the state, f the inflation, d = y - mean H(x):
    w = f S (I + S^T S)^-1 R^-1/2 d / sqrt(N - 1),   T = (I + S S^T)^-1/2
    x_a,i = mean(x) + sum_j (f T_ij + w_j) A_j
and, if asked for, a random rotation of the analysis anomalies that keeps their mean and covariance (`rotation`).
The equations are those of the LETKF without localization (`ensemble_transform`): exactly the Kalman analysis of the
sample mean and covariance.
Source: Bishop, Etherton and Majumdar (2001), Mon. Wea. Rev. 129; symmetric root: Wang, Bishop and Julier (2004),
Mon. Wea. Rev. 132; rotation: Sakov and Oke (2008), Mon. Wea. Rev. 136.

Rotation matters in strongly nonlinear systems with more members than directions (Lorenz-63, N = 10); a rotated
member is not the same trajectory any more.
Limits: without localization, as many members are needed as there are growing directions. Observation errors are
uncorrelated. Observations are used at their own times where the background has frames inside the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.ensemble.ensemble_transform import transform_weights
from cycler_da.schemes.ensemble.inflation import inflate_moved
from cycler_da.schemes.ensemble.rotation import rotate
from cycler_da.schemes.frame.checks import finite_window_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_signal, innovation_diagnostics
from cycler_da.schemes.frame.settings import require_inflation
from cycler_da.schemes.free_run import keep_background

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=True, n_members=2, own_times=True)


@register("scheme", "etkf")
@dataclass(frozen=True, kw_only=True)
class EtkfSpec(Spec):
    """Options of the ETKF."""

    inflation: float = 1.05  # factor on background anomalies
    analysis_inflation: float = 1.0  # factor on analysis anomalies
    rotation: bool = False  # random, keeps mean and covariance

    def __post_init__(self) -> None:
        require_inflation(self.inflation, scheme="etkf")
        require_inflation(self.analysis_inflation, scheme="etkf", name="analysis_inflation")

    def build(self, context: SchemeContext) -> Etkf:
        """Build the scheme for a layout."""
        return Etkf(self, context.layout)


@dataclass(frozen=True)
class Etkf:
    """The global ensemble transform Kalman filter with fixed settings."""

    settings: EtkfSpec
    layout: Layout
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_window_hx(background, observations, scheme="etkf")
        transform = transform_weights(
            hx,
            observations.values,
            error_variance=observations.error_variance,
            positions=observations.positions,
            layout=self.layout,
            radius=None,
            inflation=self.settings.inflation,
        )
        frames = transform.apply(background.values)
        moved = frames[:, -1]
        require_finite(moved, layout=self.layout, scheme="etkf")
        innovations = observations.values.to(hx.device) - hx.mean(dim=0)
        report = innovation_diagnostics(innovations, hx.var(dim=0), observations=observations)
        report["dof_signal"] = dof_signal(observations.hx(moved.to(torch.float64)), observations.error_variance)
        is_moved = moved != background.latest
        moved = inflate_moved(moved, self.settings.analysis_inflation, is_moved=is_moved)
        if self.settings.rotation:
            moved = rotate(moved, noise=noise, stream="etkf.rotation")
        return conclude(background, moved, carry=carry, report=report, earlier=frames[:, :-1])
