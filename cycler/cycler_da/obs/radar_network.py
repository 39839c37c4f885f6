"""The cells that one weather radar sees: within reach, not behind an obstacle, while it runs.

    seen      d <= reach, and not: azimuth in a blocked sector and d >= its `beyond`     d distance from the site
    error     e (1 + (d / error_doubles_at)^2): the beam widens and rises with distance

Azimuths are in degrees clockwise from the y axis (north on maps). Several radars are several streams; where they see
the same cell, quality control keeps the observation with the smaller error, as a composite does.
Limits: two horizontal axes that do not wrap around; no bins along the beam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.networks import Sites, channels_of, random_part, require_part, sites_at_cells
from cycler_da.registry import Spec, register
from cycler_da.times import parse_time

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


@register("network_of_sites", "radar")
@dataclass(frozen=True, kw_only=True)
class RadarSpec(Spec):
    """Cells around a radar."""

    site: tuple[float, float]  # (y, x), units of the axes
    reach: float  # units of the axes
    blocked: tuple[tuple[float, float, float], ...] = ()  # sectors: azimuth from, to (degrees), beyond (axis units)
    outages: tuple[tuple[str, str], ...] = ()  # (from, to): nothing is seen after from, up to and at to
    error_doubles_at: float | None = None  # distance, units of the axes; None: the same error everywhere
    fraction: float = 1.0  # of the cells seen, drawn anew in each window
    variables: tuple[str, ...] = ()  # empty: all

    def __post_init__(self) -> None:
        require_part("radar", self.fraction)
        if not self.reach > 0:
            raise ConfigError(f"network radar: got reach {self.reach}, expected > 0")
        if self.error_doubles_at is not None and not self.error_doubles_at > 0:
            raise ConfigError(f"network radar: got error_doubles_at {self.error_doubles_at}, expected > 0 or null")
        for start, stop in self.outages:
            if not parse_time(start) < parse_time(stop):
                raise ConfigError(f"network radar: outage [{start}, {stop}] does not end after it begins")

    def build(self, layout: Layout) -> Radar:
        """Make the network; raises ConfigError without two axes, or when the radar sees no cell of the grid."""
        if len(layout.grid.shape) != 2:
            raise ConfigError(
                f"network radar: needs a grid with two axes, {layout.system} has {len(layout.grid.shape)}"
            )
        radar = Radar(layout, channels_of(layout, self.variables), self)
        if not radar.covers().any():
            raise ConfigError(f"network radar: site {self.site} with reach {self.reach} sees no cell of the grid")
        return radar


@dataclass(frozen=True)
class Radar:
    """The same cells in every window but for outages and a drawn part."""

    layout: Layout
    channels: tuple[int, ...]
    spec: RadarSpec

    def sites(self, valid_time: np.datetime64, *, noise: Noise, stream: str) -> Sites:
        """Cells of the window, in array order."""
        seen = np.flatnonzero(self.covers() & ~self.is_out(valid_time))
        chosen = []
        for channel in self.channels:
            generator = noise.generator(f"{stream}.sites.{self.layout.channels[channel]}")
            chosen.append((channel, random_part(seen, self.spec.fraction, generator)))
        doubling = self.spec.error_doubles_at
        if doubling is None:
            return sites_at_cells(self.layout, chosen)
        factor = 1.0 + (self._polar()[0].ravel() / doubling) ** 2
        return sites_at_cells(self.layout, chosen, error_factor=factor)

    def covers(self) -> Bool[np.ndarray, "y x"]:
        """Cells in reach that no obstacle hides."""
        distance, azimuth = self._polar()
        seen = distance <= self.spec.reach
        for start, stop, beyond in self.spec.blocked:
            is_behind = np.mod(azimuth - start, 360.0) <= np.mod(stop - start, 360.0)
            seen &= ~(is_behind & (distance >= beyond))
        return seen

    def is_out(self, valid_time: np.datetime64) -> bool:
        """True during an outage."""
        return any(parse_time(start) < valid_time <= parse_time(stop) for start, stop in self.spec.outages)

    def _polar(self) -> tuple[Float[np.ndarray, "y x"], Float[np.ndarray, "y x"]]:
        """Distance (axis units) and azimuth (degrees) of all cell centres."""
        y, x = (axis.centres() - at for axis, at in zip(self.layout.grid.axes, self.spec.site, strict=True))
        north, east = np.meshgrid(y, x, indexing="ij")
        return np.hypot(north, east), np.mod(np.rad2deg(np.arctan2(east, north)), 360.0)
