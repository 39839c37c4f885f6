"""What the figures of a forecast need of `forecast.nc` and `forecast_products.nc`, as plain numpy arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

from cycler_da.layout import Layout, Variable, layout_from_description
from cycler_da.plots import style
from cycler_da.plots.limits import experiment_folder
from cycler_da.times import time_stamp

MEMBERS, PRODUCTS = "forecast.nc", "forecast_products.nc"
MOST_PLACES = 3
MOST_EARLIER = 3


@dataclass(frozen=True)
class Forecast:
    """What the figures of one variable show; leads include 0, the analysis, but for members."""

    variable: Variable
    layout: Layout
    reference: np.datetime64
    leads: np.ndarray  # minutes
    matched: np.ndarray  # (time, y, x)
    percentiles: np.ndarray  # (percentile, time, y, x)
    levels: np.ndarray  # percent
    thresholds: np.ndarray
    within: np.ndarray | None  # (radius, threshold, time, y, x)
    radii: np.ndarray  # km
    members: np.ndarray  # (member, time without the analysis, y, x)
    places: dict[str, tuple[int, int]]  # cells of the meteogram

    @property
    def event(self) -> int:
        """Position of the threshold that maps show."""
        return min(2, len(self.thresholds) - 1)

    def lead_text(self, row: int) -> str:
        """A lead in words: +30 min."""
        return style.lead_text(np.timedelta64(round(60 * float(self.leads[row])), "s"))


def read_forecasts(folder: Path) -> Iterator[Forecast]:
    """The forecast of every variable with thresholds; none where the cycle has no forecast or one axis."""
    if not (folder / PRODUCTS).is_file() or not (folder / MEMBERS).is_file():
        return
    with netCDF4.Dataset(folder / PRODUCTS) as products, netCDF4.Dataset(folder / MEMBERS) as ensemble:
        layout = layout_from_description(json.loads(products.getncattr("cycler_layout")))
        if len(layout.grid.axes) != 2:
            return
        reference = np.datetime64(int(products["forecast_reference_time"][...]), "s")
        for variable in layout.variables:
            name = variable.name
            if f"{name}_probability" not in products.variables:
                continue
            of_event = products[f"{name}_probability"].dimensions[0]
            has_radius = f"{name}_probability_within" in products.variables
            yield Forecast(
                variable=variable,
                layout=layout,
                reference=reference,
                leads=np.asarray(products["leadtime"][:]) / 60.0,
                matched=_values(products[f"{name}_matched"][:]),
                percentiles=_values(products[f"{name}_percentile"][:]),
                levels=np.asarray(products["percentile"][:]),
                thresholds=np.asarray(products[of_event][:]),
                within=_values(products[f"{name}_probability_within"][:]) if has_radius else None,
                radii=np.asarray(products["radius"][:]) if has_radius else np.zeros(0),
                members=_values(ensemble[name][:]),
                places=_places(products, _values(products[f"{name}_matched"][0])),
            )


def earlier_analyses(
    folder: Path, forecast: Forecast, *, most: int = MOST_EARLIER
) -> list[tuple[np.datetime64, np.ndarray]]:
    """Times and matched means of the analyses of the cycles just before, oldest first; [] outside an experiment.

    A gap of more than a step of the forecasts ends the row.
    """
    if experiment_folder(folder) is None or len(forecast.leads) < 2:
        return []
    step = np.timedelta64(round(60 * float(forecast.leads[1] - forecast.leads[0])), "s")
    name, found = f"{forecast.variable.name}_matched", []
    for k in range(1, most + 1):
        time = forecast.reference - k * step
        path = folder.resolve().parents[1] / "cycles" / time_stamp(time) / PRODUCTS
        if not path.is_file():
            break
        with netCDF4.Dataset(path) as products:
            if name not in products.variables:
                break
            found.append((time, _values(products[name][0])))
    return found[::-1]


def _values(masked: np.ma.MaskedArray | np.ndarray) -> np.ndarray:
    """Values with NaN where the file has none."""
    return np.ma.filled(np.ma.asarray(masked).astype(np.float64), np.nan)


def _places(products: netCDF4.Dataset, analysis: np.ndarray) -> dict[str, tuple[int, int]]:
    """Cells of the points that the config names; without any the strongest cells of the analysis."""
    named = json.loads(getattr(products, "cycler_points", "{}"))
    if not named or "lat" not in products.variables:
        return {f"cell y {i} x {j}": (i, j) for i, j in _strongest(analysis)}
    latitude, longitude = np.asarray(products["lat"][:]), np.asarray(products["lon"][:])
    found = {}
    for name, (north, east) in list(named.items())[:MOST_PLACES]:
        away = (latitude - north) ** 2 + ((longitude - east) * np.cos(np.deg2rad(north))) ** 2
        i, j = np.unravel_index(int(away.argmin()), away.shape)
        found[name] = (int(i), int(j))
    return found


def _strongest(values: np.ndarray, *, count: int = 3, apart: int = 15) -> list[tuple[int, int]]:
    left, found = values.copy(), []
    for _ in range(count):
        i, j = np.unravel_index(int(np.nanargmax(left)), left.shape)
        found.append((int(i), int(j)))
        left[max(0, i - apart) : i + apart + 1, max(0, j - apart) : j + apart + 1] = -np.inf
    return found
