"""LETKF: local ensemble transform Kalman filter.

Every grid point has its own Kalman analysis in the space of the members, from the observations near it,
whose error variances grow with distance (R-localization, Gaspari-Cohn). The equations are in
`ensemble_transform`. All variables at a grid point share one transform unless `cross_channel_factor` < 1.
Source: Hunt, Kostelich and Szunyogh (2007), Physica D 230, 112-126.

Order: background anomalies are inflated inside the transform (by one factor, or by factors that adapt in every grid
point: `adaptive_inflation`), then RTPP, RTPS, inflation of the analysis, and rotation of the analysis anomalies.
Published settings of DAPPER inflate and rotate the analysis. Settings that served: two-layer QG 64x64 with 5 % of
the values observed: 16-32 members, half-width 3-4 grid spacings, inflation 1.02-1.05, weights on every second grid
point. Lorenz-96: 10 members, half-width 7.3, 1.02.
Observations are used at their own times where the background has frames inside the window (`window_hx`): 4D-LETKF.
`linearisation: regression` gives curved observations the weight that they can bear (`statistical_linearisation`).
Limits: observation errors are uncorrelated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.curves import uncurved
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.ensemble.adaptive_inflation import (
    AdaptiveInflationSpec,
    InflationField,
    Innovations,
    read_inflation,
    update_inflation,
)
from cycler_da.schemes.ensemble.ensemble_transform import LocalTransform, transform_weights
from cycler_da.schemes.ensemble.inflation import inflate_moved, relax_to_prior_perturbations, relax_to_prior_spread
from cycler_da.schemes.ensemble.localization import full_weight, gaspari_cohn
from cycler_da.schemes.ensemble.rotation import rotate
from cycler_da.schemes.ensemble.statistical_linearisation import linear_part, require_linearisation
from cycler_da.schemes.frame.checks import finite_window_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_signal, innovation_diagnostics
from cycler_da.schemes.free_run import keep_background

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=True, n_members=2, own_times=True)


@register("scheme", "letkf")
@dataclass(frozen=True, kw_only=True)
class LetkfSpec(Spec):
    """Options of the LETKF.

    The localization radius is the Gaspari-Cohn half-width (an observation reaches twice as far), in km or,
    on any grid of equal spacings, in grid cells. Neither: no localization, the global ETKF. With `localization: domain`
    it is the radius of the domain, whose observations count in full.
    """

    localization_radius_km: float | None = None
    localization_radius_cells: float | None = None
    localization: Literal["observation", "domain"] = "observation"
    inflation: float = 1.05  # factor on background anomalies; where an adaptive one starts
    adaptive_inflation: AdaptiveInflationSpec | None = None
    rtpp: float = 0.0
    rtps: float = 0.0
    analysis_inflation: float = 1.0  # factor on analysis anomalies, where an observation was in reach
    rotation: bool = False  # of the analysis anomalies, random, keeps mean and covariance
    weight_stride: int = 1  # weights on every n-th grid point, linear between
    cross_channel_factor: float = 1.0  # taper between an observation and the other variables
    least_taper: float = 0.0  # observations with this taper or less are left out; DAPPER has 1e-3
    linearisation: str = "members"  # or regression: only what of h is linear in the observed value counts as signal

    def __post_init__(self) -> None:
        for name in ("localization_radius_km", "localization_radius_cells"):
            radius = getattr(self, name)
            _require(radius is None or radius > 0, name, radius, "a positive number or null")
        is_one_unit = self.localization_radius_km is None or self.localization_radius_cells is None
        _require(is_one_unit, "localization radius", "both km and cells", "one of them")
        for name in ("inflation", "analysis_inflation"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive factor, 1 for none")
        is_known = self.localization in ("observation", "domain")
        _require(is_known, "localization", self.localization, "observation or domain")
        require_linearisation(self.linearisation, scheme="letkf")
        _require(self.weight_stride >= 1, "weight_stride", self.weight_stride, "a whole number from 1")
        for name in ("rtpp", "rtps", "cross_channel_factor", "least_taper"):
            amount = getattr(self, name)
            _require(0 <= amount <= 1, name, amount, "a number from 0 to 1")

    def radius(self, layout: Layout) -> float | None:
        """Half-width in the units of the grid axes, None without localization.

        Raises ConfigError when the unit asked for does not fit the grid.
        """
        axes = layout.grid.axes
        if self.localization_radius_km is not None:
            units = sorted({axis.units for axis in axes})
            hint = f"axes in m, not {', '.join(units)}; use localization_radius_cells"
            _require(units == ["m"], "localization_radius_km", self.localization_radius_km, hint)
            return 1000.0 * self.localization_radius_km
        if self.localization_radius_cells is not None:
            spacings = sorted({axis.spacing for axis in axes})
            hint = f"equal spacings on all axes, not {spacings}; use localization_radius_km"
            _require(len(spacings) == 1, "localization_radius_cells", self.localization_radius_cells, hint)
            return spacings[0] * self.localization_radius_cells
        return None

    def build(self, context: SchemeContext) -> Letkf:
        """Build the scheme for a layout."""
        needs = NEEDS if self.linearisation == "members" else replace(NEEDS, n_members=3)
        return Letkf(self, context.layout, self.radius(context.layout), needs)


@dataclass(frozen=True)
class Letkf:
    """The local ensemble transform Kalman filter with fixed settings."""

    settings: LetkfSpec
    layout: Layout
    radius: float | None  # as in the settings, axis units
    needs: Needs = NEEDS

    @property
    def half_width(self) -> float | None:
        """Half of the reach of an observation, axis units."""
        is_domain = self.settings.localization == "domain"
        return 0.5 * self.radius if is_domain and self.radius is not None else self.radius

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_window_hx(background, observations, scheme="letkf")
        innovations = observations.values.to(hx.device) - hx.mean(dim=0)
        report = innovation_diagnostics(innovations, hx.var(dim=0), observations=observations)
        known = self._known_inflation(carry)
        inflation = self.settings.inflation if known is None else known.factor
        frames = self._transform(background, hx, observations, inflation).apply(background.values, mapper=prior.mapper)
        moved = frames[:, -1]
        require_finite(moved, layout=self.layout, scheme="letkf")
        report["dof_signal"] = dof_signal(observations.hx(moved.to(torch.float64)), observations.error_variance)
        if known is not None:
            report.update(known.diagnostics())
            carry = {**carry, **self._learn(known, hx, observations).carried()}
        analysed = self._finish(moved, background.latest, noise)
        return conclude(background, analysed, carry=carry, report=report, earlier=frames[:, :-1])

    def _transform(
        self, background: Ensemble, hx: Tensor, observations: Observations, inflation: float | Tensor
    ) -> LocalTransform:
        if self.settings.linearisation == "members":
            return self.transform(hx, observations, inflation)
        inner = finite_window_hx(background, uncurved(observations), scheme="letkf")
        signal, rest = linear_part(hx, inner)
        return self.transform(signal, observations, inflation, extra_variance=rest)

    def transform(
        self,
        hx: Tensor,
        observations: Observations,
        inflation: float | Tensor,
        *,
        extra_variance: float | Tensor = 0.0,
    ) -> LocalTransform:
        """Transform of the members given `hx (member, obs)` and inflation, with this scheme's localization.

        `extra_variance` is added to that of the observation errors.
        """
        return transform_weights(
            hx,
            observations.values,
            error_variance=observations.error_variance.to(hx.device) + extra_variance,
            positions=observations.positions,
            channels=observations.channels,
            layout=self.layout,
            radius=self.half_width,
            taper=gaspari_cohn if self.settings.localization == "observation" else full_weight,
            weight_stride=self.settings.weight_stride,
            inflation=inflation,
            cross_channel=self.settings.cross_channel_factor,
            least_taper=self.settings.least_taper,
        )

    def _known_inflation(self, carry: Mapping[str, Tensor]) -> InflationField | None:
        """Factors that were carried here, or the first ones; None when they do not adapt."""
        settings = self.settings.adaptive_inflation
        if settings is None:
            return None
        n_fields = 1 if self.settings.cross_channel_factor == 1 else len(self.layout.channels)
        return read_inflation(carry, settings, start=self.settings.inflation, layout=self.layout, n_fields=n_fields)

    def _learn(self, known: InflationField, hx: Tensor, observations: Observations) -> InflationField:
        """Factors for the next cycle."""
        assert self.settings.adaptive_inflation is not None
        return update_inflation(
            known,
            Innovations.of(hx, observations),
            self.settings.adaptive_inflation,
            layout=self.layout,
            radius=self.half_width,
            cross_channel=self.settings.cross_channel_factor,
        )

    def _finish(self, analysed: Tensor, background: Tensor, noise: Noise) -> Tensor:
        moved = analysed
        analysed = relax_to_prior_perturbations(analysed, background, amount=self.settings.rtpp)
        analysed = relax_to_prior_spread(analysed, background, amount=self.settings.rtps)
        analysed = inflate_moved(analysed, self.settings.analysis_inflation, is_moved=moved != background)
        return rotate(analysed, noise=noise, stream="letkf.rotation") if self.settings.rotation else analysed


def _require(is_valid: bool, name: str, got: object, expected: str) -> None:
    if not is_valid:
        raise ConfigError(f"scheme letkf: {name} is {got}; expected {expected}")
