"""Networks of sites: where a twin experiment observes, window by window.

Every network is a function of the valid time and of keyed noise, so the sites of a window are the same in
every run, and the sites of a fixed network are the same in every window. Sites have names, which become the
stations of the observation file.

    random_fraction   a random part of all grid values, drawn for each variable by itself
    stride            every n-th cell along each axis
    stations          sites at random positions between the cells, fixed
    swath             the cells below a satellite: bands that move across the grid from window to window
    radar             the cells that a weather radar sees (`obs.radar_network`)

Swath: with the cross-track coordinate c = x cos(a) + y sin(a) (a = inclination of the track from the y axis)
and the distance L between neighbouring tracks, a cell is seen when (c - c0 - precession * n) mod L < width,
n being the number of model steps since 1970. A 1-D grid has a = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations
from cycler_da.registry import Spec, register
from cycler_da.times import epoch_seconds

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Sites:
    """Where one window is observed, and the station name of each place."""

    where: Locations
    names: np.ndarray  # str
    error_factor: Float[np.ndarray, "obs"] | None = None  # on the error of the stream; None: 1 everywhere

    def __len__(self) -> int:
        return len(self.names)


@runtime_checkable
class SiteNetwork(Protocol):
    """Chooses the sites of a window; `stream` keys its noise, so that two streams differ."""

    def sites(self, valid_time: np.datetime64, *, noise: Noise, stream: str) -> Sites:
        """Sites of the window that ends at `valid_time`; `noise` is that of the cycle."""
        ...


@register("network_of_sites", "random_fraction")
@dataclass(frozen=True, kw_only=True)
class RandomFractionSpec(Spec):
    """A random part of all grid values, for each variable by itself."""

    fraction: float
    variables: tuple[str, ...] = ()  # empty: all
    is_fixed: bool = False  # True: the same cells in every window

    def __post_init__(self) -> None:
        require_part("random_fraction", self.fraction)

    def build(self, layout: Layout) -> RandomFraction:
        """Make the network; raises ConfigError for a variable the layout does not have."""
        return RandomFraction(layout, channels_of(layout, self.variables), self.fraction, self.is_fixed)


@dataclass(frozen=True)
class RandomFraction:
    """The nearest whole number of cells to a fraction, drawn without replacement for each variable."""

    layout: Layout
    channels: tuple[int, ...]
    fraction: float
    is_fixed: bool

    def sites(self, valid_time: np.datetime64, *, noise: Noise, stream: str) -> Sites:
        """Cells of the window, in array order."""
        chosen = []
        for channel in self.channels:
            key = f"{stream}.sites.{self.layout.channels[channel]}"
            source = _fixed(noise) if self.is_fixed else noise
            chosen.append((channel, _random_cells(self.layout, self.fraction, source.generator(key))))
        return sites_at_cells(self.layout, chosen)


@register("network_of_sites", "stride")
@dataclass(frozen=True, kw_only=True)
class StrideSpec(Spec):
    """Every n-th cell along each axis, starting at `offset`."""

    stride: int
    offset: int = 0
    variables: tuple[str, ...] = ()  # empty: all

    def __post_init__(self) -> None:
        if self.stride < 1 or not 0 <= self.offset < self.stride:
            raise ConfigError(
                f"network stride: got stride {self.stride} and offset {self.offset}, expected 0 <= offset < stride"
            )

    def build(self, layout: Layout) -> Stride:
        """Make the network; raises ConfigError for a variable the layout does not have."""
        return Stride(layout, channels_of(layout, self.variables), self.stride, self.offset)


@dataclass(frozen=True)
class Stride:
    """The same regular subset of cells in every window."""

    layout: Layout
    channels: tuple[int, ...]
    stride: int
    offset: int

    def sites(self, valid_time: np.datetime64, *, noise: Noise, stream: str) -> Sites:
        """Cells of the window, in array order."""
        is_seen = np.zeros(self.layout.grid.shape, dtype=bool)
        is_seen[tuple(slice(self.offset, None, self.stride) for _ in self.layout.grid.axes)] = True
        cells = np.flatnonzero(is_seen)
        return sites_at_cells(self.layout, [(channel, cells) for channel in self.channels])


@register("network_of_sites", "stations")
@dataclass(frozen=True, kw_only=True)
class StationsSpec(Spec):
    """Fixed sites at random positions, each of which measures all chosen variables."""

    count: int
    variables: tuple[str, ...] = ()  # empty: all

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"network stations: got count {self.count}, expected 1 or more")

    def build(self, layout: Layout) -> Stations:
        """Make the network; raises ConfigError for a variable the layout does not have."""
        return Stations(layout, channels_of(layout, self.variables), self.count)


@dataclass(frozen=True)
class Stations:
    """Sites spread evenly at random over the grid, between its outermost cell centres."""

    layout: Layout
    channels: tuple[int, ...]
    count: int

    def sites(self, valid_time: np.datetime64, *, noise: Noise, stream: str) -> Sites:
        """The sites, variable by variable; station number i is at the same place for any count above i."""
        axes = self.layout.grid.axes
        part = _fixed(noise).generator(f"{stream}.sites").random((self.count, len(axes)))
        reach = np.asarray([axis.length if axis.periodic else axis.length - axis.spacing for axis in axes])
        position = np.asarray([axis.origin for axis in axes]) + part * reach
        names = np.asarray([f"{stream}-{i:05d}" for i in range(self.count)], dtype=np.str_)
        return _sites(
            np.tile(position, (len(self.channels), 1)),
            np.repeat(self.channels, self.count),
            np.tile(names, len(self.channels)),
        )


@register("network_of_sites", "swath")
@dataclass(frozen=True, kw_only=True)
class SwathSpec(Spec):
    """Bands of cells that move across the grid, as the ground track of a satellite does."""

    width: float  # across the track, units of the grid axes
    precession: float  # shift across the track in one model step, units of the grid axes
    inclination: float = 10.0  # degrees from the last axis but one (y)
    track_distance: float | None = None  # between neighbouring tracks; None: as wide as the grid, so one track
    fraction: float = 1.0  # of the cells in the band, drawn anew in each window
    variables: tuple[str, ...] = ()  # empty: all

    def __post_init__(self) -> None:
        require_part("swath", self.fraction)
        if not self.width > 0:
            raise ConfigError(f"network swath: got width {self.width}, expected > 0")
        if self.track_distance is not None and not self.track_distance > 0:
            raise ConfigError(f"network swath: got track_distance {self.track_distance}, expected > 0 or null")

    def build(self, layout: Layout) -> Swath:
        """Make the network; raises ConfigError for a variable the layout does not have."""
        return Swath(layout, channels_of(layout, self.variables), self)


@dataclass(frozen=True)
class Swath:
    """The cells under the band; where it starts is drawn once for each run and stream."""

    layout: Layout
    channels: tuple[int, ...]
    spec: SwathSpec

    def sites(self, valid_time: np.datetime64, *, noise: Noise, stream: str) -> Sites:
        """Cells under the band in this window, in array order."""
        under = np.flatnonzero(self.covers(valid_time, noise=noise, stream=stream))
        chosen = []
        for channel in self.channels:
            generator = noise.generator(f"{stream}.sites.{self.layout.channels[channel]}")
            chosen.append((channel, random_part(under, self.spec.fraction, generator)))
        return sites_at_cells(self.layout, chosen)

    def covers(self, valid_time: np.datetime64, *, noise: Noise, stream: str) -> Bool[np.ndarray, "*space"]:
        """True where a cell centre is under the band."""
        axes = self.layout.grid.axes
        angle = np.deg2rad(self.spec.inclination) if len(axes) > 1 else 0.0
        along = np.meshgrid(*(axis.spacing * np.arange(axis.size) for axis in axes[-2:]), indexing="ij")
        across = along[-1] * np.cos(angle) + (along[-2] * np.sin(angle) if len(axes) > 1 else 0.0)
        reach = axes[-1].length * abs(np.cos(angle)) + (axes[-2].length * abs(np.sin(angle)) if len(axes) > 1 else 0.0)
        distance = self.spec.track_distance or reach
        step = self.layout.step / np.timedelta64(1, "s")
        first = _fixed(noise).generator(f"{stream}.track").random() * distance
        moved = self.spec.precession * (epoch_seconds(valid_time) / step)
        return np.broadcast_to(np.mod(across - first - moved, distance) < self.spec.width, self.layout.grid.shape)


def _fixed(noise: Noise) -> Noise:
    return Noise(noise.seed)


def _random_cells(layout: Layout, fraction: float, generator: np.random.Generator) -> Int[np.ndarray, "obs"]:
    return random_part(np.arange(int(np.prod(layout.grid.shape))), fraction, generator)


def random_part(cells: np.ndarray, fraction: float, generator: np.random.Generator) -> Int[np.ndarray, "obs"]:
    """The nearest whole number of cells to a fraction of them, in array order."""
    return np.sort(generator.permutation(cells)[: int(np.floor(fraction * len(cells) + 0.5))])


def sites_at_cells(
    layout: Layout, chosen: list[tuple[int, np.ndarray]], *, error_factor: Float[np.ndarray, "cell"] | None = None
) -> Sites:
    """Sites at the centres of cells chosen by channel; a cell is a station named by its indices.

    `error_factor` is given for all cells of the grid, in array order.
    """
    cells = np.concatenate([cells for _, cells in chosen])
    channel = np.concatenate([np.full(len(cells), channel) for channel, cells in chosen])
    indices = np.unravel_index(cells, layout.grid.shape)
    axes = layout.grid.axes
    position = np.stack([axis.centres()[index] for axis, index in zip(axes, indices, strict=True)], axis=-1)
    rows = zip(*(index.tolist() for index in indices), strict=True)
    names = ["".join(f"{axis.name}{i:04d}" for axis, i in zip(axes, row, strict=True)) for row in rows]
    factor = None if error_factor is None else error_factor[cells]
    return _sites(position, channel, np.asarray(names, dtype=np.str_), factor)


def _sites(
    position: Float[np.ndarray, "obs axis"],
    channel: np.ndarray,
    names: np.ndarray,
    error_factor: Float[np.ndarray, "obs"] | None = None,
) -> Sites:
    where = Locations(torch.from_numpy(position.astype(np.float64)), torch.from_numpy(channel.astype(np.int64)))
    return Sites(where, names, error_factor)


def channels_of(layout: Layout, variables: tuple[str, ...]) -> tuple[int, ...]:
    """Channels of the named variables, all when none is named; raises ConfigError for one that is not there."""
    unknown = [name for name in variables if name not in layout.channels]
    if unknown:
        raise ConfigError(
            f"network of sites: unknown variable {', '.join(unknown)}; valid: {', '.join(layout.channels)}"
        )
    return tuple(layout.channels.index(name) for name in variables or layout.channels)


def require_part(kind: str, fraction: float) -> None:
    """Raise ConfigError unless a fraction is above 0 and at most 1."""
    if not 0 < fraction <= 1:
        raise ConfigError(f"network {kind}: got fraction {fraction}, expected 0 < fraction <= 1")
