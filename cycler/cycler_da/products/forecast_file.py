"""The file of forecast products: for every variable what `forecast_statistics` makes of the members, by valid time.

    <name>_mean, _spread, _maximum, _matched    (time, y, x), units of the variable
    <name>_percentile                           (percentile, time, y, x)
    <name>_probability                          (threshold, time, y, x), 1
    <name>_probability_within                   (radius, threshold, time, y, x), 1
The first valid time is that of the analysis (lead 0). Thresholds and radii stand in the coordinates `threshold` (units
of the variable) and `radius` (km). Variables without thresholds have no probabilities; one-dimensional grids and grids
that are not in metres have none within a radius.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Layout, Variable
from cycler_da.products import conventions
from cycler_da.products.atomic import write_atomically
from cycler_da.products.conventions import FileFacts
from cycler_da.products.forecast_statistics import probability, probability_matched_mean, probability_within
from cycler_da.products.gridfile import create_file, define_field, define_grid, define_times


@dataclass(frozen=True)
class ForecastProducts:
    """Which products are made."""

    thresholds: Mapping[str, Sequence[float]]  # by variable, its units
    radii_km: Sequence[float]
    percentiles: Sequence[float]


def write_forecast_products(path: Path, ensemble: Ensemble, asked: ForecastProducts, *, facts: FileFacts) -> None:
    """Write the products of an ensemble at its valid times; one set of thresholds for each variable.

    Raises CannotWrite when the file system refuses; `path` then stays as it was.
    """

    def write(private: Path) -> None:
        with create_file(private) as dataset:
            dataset.setncatts(conventions.global_attributes(facts, ensemble.layout, ensemble.valid_times))
            dataset.setncattr("cycler_n_members", np.int32(ensemble.n_members))
            define_times(dataset, ensemble.valid_times, facts.reference_time)
            define_grid(dataset, ensemble.layout)
            _coordinate(dataset, "percentile", asked.percentiles, "1", "percentile of the members")
            for channel, variable in enumerate(ensemble.layout.variables):
                values = ensemble.values[:, :, channel].numpy()
                _Writer(dataset, ensemble.layout, variable, values).write(asked)

    write_atomically(Path(path), write)


@dataclass(frozen=True)
class _Writer:
    """Writes the products of one variable; values are (member, time, *space)."""

    dataset: netCDF4.Dataset
    layout: Layout
    variable: Variable
    values: np.ndarray

    def write(self, asked: ForecastProducts) -> None:
        members = self.values
        self._put("mean", members.mean(axis=0, dtype=np.float64), "ensemble mean", "realization: mean")
        spread = members.std(axis=0, ddof=1, dtype=np.float64)
        self._put("spread", spread, "ensemble spread (denominator n - 1)", "realization: standard_deviation")
        self._put("maximum", members.max(axis=0), "largest member", "realization: maximum")
        matched = np.stack([probability_matched_mean(frame) for frame in members.swapaxes(0, 1)])
        self._put("matched", matched, "probability-matched ensemble mean", None)
        levels = np.percentile(members, list(asked.percentiles), axis=0)
        self._put("percentile", levels, "percentile of the members", None, leading=("percentile",))
        limits = asked.thresholds.get(self.variable.name, ())
        if limits:
            self._probabilities(limits, asked.radii_km)

    def _probabilities(self, limits: Sequence[float], radii_km: Sequence[float]) -> None:
        # Dimensions belong to one variable: its thresholds are in its units.
        name = "threshold" if len(self.layout.variables) == 1 else f"{self.variable.name}_threshold"
        _coordinate(self.dataset, name, limits, self.variable.units, f"threshold of {self.variable.name}")
        frames = self.values.swapaxes(0, 1)
        at = np.stack([np.stack([probability(frame, limit) for frame in frames]) for limit in limits])
        self._put("probability", at, "share of members at or above the threshold", None, leading=(name,), units="1")
        spacing = _spacing_km(self.layout)
        if spacing is None or not radii_km:
            return
        if "radius" not in self.dataset.dimensions:
            _coordinate(self.dataset, "radius", radii_km, "km", "radius of the neighbourhood")
        within = np.stack(
            [
                np.stack([[probability_within(f, limit, radius=r / spacing) for f in frames] for limit in limits])
                for r in radii_km
            ]
        )
        what = "share of members at or above the threshold anywhere within the radius"
        self._put("probability_within", within, what, None, leading=("radius", name), units="1")

    def _put(
        self,
        suffix: str,
        values: np.ndarray,
        what: str,
        cell_methods: str | None,
        *,
        leading: tuple[str, ...] = (),
        units: str | None = None,
    ) -> None:
        name, dtype = f"{self.variable.name}_{suffix}", np.dtype(np.float32)
        stored = define_field(self.dataset, name, (*leading, "time"), dtype=dtype, layout=self.layout)
        attributes = conventions.variable_attributes(self.variable, "forecast_products")
        attributes["long_name"] = f"{what} of {attributes['long_name']}"
        if units is not None:  # a probability is not the quantity itself
            attributes = {k: v for k, v in attributes.items() if k not in ("standard_name", "comment")}
            attributes["units"] = units
        if cell_methods is not None:
            attributes["cell_methods"] = cell_methods
        stored.setncatts(attributes)
        stored[...] = values.astype(dtype)


def _spacing_km(layout: Layout) -> float | None:
    """Spacing of a grid of two equal axes in metres; None for any other."""
    axes = layout.grid.axes
    if len(axes) != 2 or any(axis.units != "m" for axis in axes) or axes[0].spacing != axes[1].spacing:
        return None
    return axes[0].spacing / 1000.0


def _coordinate(dataset: netCDF4.Dataset, name: str, values: Sequence[float], units: str, what: str) -> None:
    dataset.createDimension(name, len(values))
    variable = dataset.createVariable(name, "f8", (name,), fletcher32=True)
    variable.setncatts({"long_name": what, "units": units or "1", "coverage_content_type": "coordinate"})
    variable[:] = np.asarray(values, dtype=np.float64)
