"""Coupling before a window is drawn: first frames are moved by what their forecasts say of the window's observations.

The posterior of a window has two factors for every member,

    p(x_0 .. x_T | y) ~ p(y | x_0) p(x_1 .. x_T | x_0, y)

and a window that is guided from a given first frame is the second alone. By the first the members are moved, with the
local transform of the LETKF: weights from the forecasts of the window at the observations' own times, applied to the
states that the forecasts began at (a smoother). The forecasts have the noise of their model, so that it is in what is
weighed; y enters both factors and is not counted twice. Exact for linear-Gaussian systems and large ensembles.
Sources: Evensen and van Leeuwen (2000), Mon. Wea. Rev. 128 (ensemble smoother); Hunt et al. (2007), Physica D 230.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.layout import Layout
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Prior
from cycler_da.schemes.frame.checks import finite_window_hx, require_finite
from cycler_da.schemes.letkf import Letkf, LetkfSpec

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class WindowCouplingSpec:
    """Options, as those of the LETKF: a Gaspari-Cohn half-width in km or in grid cells, and the inflation of x_0."""

    localization_radius_km: float | None = None
    localization_radius_cells: float | None = None
    inflation: float = 1.02
    weight_stride: int = 1

    def __post_init__(self) -> None:
        self._letkf()  # checks the options

    def build(self, layout: Layout) -> WindowCoupling:
        """Build it for a layout; raises ConfigError where the radius does not fit the grid."""
        settings = self._letkf()
        return WindowCoupling(Letkf(settings, layout, settings.radius(layout)))

    def _letkf(self) -> LetkfSpec:
        return LetkfSpec(
            localization_radius_km=self.localization_radius_km,
            localization_radius_cells=self.localization_radius_cells,
            inflation=self.inflation,
            weight_stride=self.weight_stride,
        )


@dataclass(frozen=True)
class WindowCoupling:
    """Moves first frames, with fixed settings."""

    letkf: Letkf

    def moved(
        self,
        windows: Float[Tensor, "member frame channel *space"],
        prior: Prior,
        observations: Observations,
        *,
        scheme: str,
    ) -> Float[Tensor, "member frame channel *space"]:
        """Frames of windows that the background goes through, physical, given the observations of the window.

        Raises AnalysisFailed where a forecast or a moved state is not finite.
        """
        hx = finite_window_hx(prior.background, observations, scheme=scheme)
        transform = self.letkf.transform(hx, observations, self.letkf.settings.inflation)
        moved = transform.apply(windows, mapper=prior.mapper)
        for frame in moved.unbind(dim=1):
            require_finite(frame, layout=prior.background.layout, scheme=scheme)
        return moved
