"""Settings of the quality control, as written in a config under `quality_control`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cycler_da.errors import ConfigError
from cycler_da.obs.qc_clutter import ClutterSettings
from cycler_da.registry import Spec
from cycler_da.times import parse_duration


@dataclass(frozen=True, kw_only=True)
class MissingAsZero(Spec):
    """When a box without any echo is taken for an outage (see `qc_radar`)."""

    echo: float  # smallest value that is echo, units of the observed variable
    box: int = 16  # cells a side
    share: float = 0.8  # of the observations of a box, at which the background has echo
    least: int = 10  # observations of a box, below which nothing is said

    def __post_init__(self) -> None:
        if self.box < 2 or self.least < 2 or not 0 < self.share <= 1:
            raise ConfigError(
                f"quality control: missing_as_zero needs box and least of 2 or more and 0 < share <= 1, got {self}"
            )


@dataclass(frozen=True, kw_only=True)
class QCSettings(Spec):
    """Limits of the quality control; everything off is `None`, an empty list or 0."""

    #: A bound may be .inf, open on its side, and .nan mark what is missing.
    __pydantic_config__: ClassVar[dict[str, Any]] = {**Spec.__pydantic_config__, "allow_inf_nan": True}

    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # variable: [min, max], its units
    missing_values: tuple[float, ...] = (-99.0, -999.0, -9999.0, 1e20)
    background_check: float | None = 5.0  # standard deviations
    duplicate_distance: float = 0.01  # grid cells, along every axis
    duplicate_time: str = "1min"
    blacklist: tuple[str, ...] = ()  # station names
    thinning_box: float | None = None  # edge of a box in units of the grid axes
    withheld_fraction: float = 0.0
    stream_check: float | None = 3.0  # times the usual deviation of the stream as a whole
    stream_check_above: Mapping[str, float] = field(default_factory=dict)  # variable: least value that is an event
    clutter: ClutterSettings | None = None  # of radars: speckle, range rings, spikes
    missing_as_zero: MissingAsZero | None = None  # of radars: outages written as no echo

    def __post_init__(self) -> None:
        for name, (low, high) in self.bounds.items():
            if not low < high:
                raise ConfigError(f"quality control: bounds of {name}: got [{low}, {high}], expected min < max")
        if self.background_check is not None and not self.background_check > 0:
            raise ConfigError(f"quality control: got background_check {self.background_check}, expected > 0 or null")
        if self.stream_check is not None and not self.stream_check > 1:
            raise ConfigError(f"quality control: got stream_check {self.stream_check}, expected > 1 or null")
        if not 0 <= self.duplicate_distance <= 1:
            raise ConfigError(
                f"quality control: got duplicate_distance {self.duplicate_distance}, expected 0 to 1 grid cells"
            )
        if self.thinning_box is not None and not self.thinning_box > 0:
            raise ConfigError(f"quality control: got thinning_box {self.thinning_box}, expected > 0 or null")
        if not 0 <= self.withheld_fraction < 1:
            raise ConfigError(
                f"quality control: got withheld_fraction {self.withheld_fraction}, expected 0 <= fraction < 1"
            )
        parse_duration(self.duplicate_time)

    def require_variables(self, valid: Iterable[str]) -> None:
        """Raise ConfigError when a setting by variable names something that is not among the observed variables."""
        valid = sorted(valid)
        for name in ("bounds", "stream_check_above"):
            unknown = sorted(set(getattr(self, name)) - set(valid))
            if unknown:
                raise ConfigError(
                    f"quality control: {name} of unknown variable {', '.join(unknown)}; valid: {', '.join(valid)}"
                )
