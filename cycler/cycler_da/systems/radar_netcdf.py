"""Sequences of other radars in NetCDF as frames of codes; the unit of the variable decides what is done to it.

    kg m-2    vertically integrated liquid: taken as it is
    dBZ       VIL = 3.44e-6 Z^(4/7) D,   Z = 10^(dBZ / 10) mm6 m-3, at most 56 dBZ (hail), the same over D = 5 km
    mm h-1    the same with Z = 300 R^1.4

Sources: Greene and Clark (1972), Mon. Wea. Rev. 100, 548; Z(R) of the WSR-88D for convection, Fulton et al. (1998),
Wea. Forecasting 13. From reflectivity or rain rate comes a VIL-like proxy: places, motion, growth and decay are real,
kg m-2 are not; `quantity` of the nature run says so.

Variables are (time, y, x), told by the names of their dimensions; a y that falls is turned, so that row 0 is the
southern row. Values outside the range of codes saturate, what is not finite or filled is missing. Grids are 128 cells
of 3 km or 384 of 1 km; of larger ones cut a patch first. Times need a variable with units `... since ...` along time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.errors import DataError, MissingInput
from cycler_da.systems.sevir_codec import encode
from cycler_da.times import iso_time
from cycler_da.trial_read import require_harmless

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

AXES = ("time", "y", "x")
DEPTH, MOST_DBZ = 5000.0, 56.0  # m; dBZ
SIZES = (128, 384)
#: What a unit is, by its spellings without spaces.
QUANTITIES = {
    "kgm-2": "VIL",
    "kg/m2": "VIL",
    "dbz": "VIL-like proxy from reflectivity",
    "mmh-1": "VIL-like proxy from rain rate",
    "mm/h": "VIL-like proxy from rain rate",
    "mm/hr": "VIL-like proxy from rain rate",
}


@dataclass(frozen=True)
class RadarFrames:
    """Frames of one file."""

    codes: UInt8[np.ndarray, "time y x"]
    times: np.ndarray  # datetime64[s], increasing
    quantity: str

    def every(self, step: np.timedelta64) -> RadarFrames:
        """The frames a step apart, from the first; raises DataError where one is absent."""
        wanted = np.arange(self.times[0], self.times[-1] + np.timedelta64(1, "s"), step)
        absent = wanted[~np.isin(wanted, self.times)]
        if len(absent) or len(wanted) < 2:
            gap = iso_time(absent[0]) if len(absent) else "all but the first"
            raise DataError(
                f"radar sequence from {iso_time(self.times[0])} to {iso_time(self.times[-1])}: no frame at {gap}; "
                "choose a step (--step) that its frames have, or cut the file at the gap"
            )
        return RadarFrames(self.codes[np.isin(self.times, wanted)], wanted, self.quantity)


def read_frames(path: Path, variable: str) -> RadarFrames:
    """Read a variable as codes; raises MissingInput, or DataError that says what was expected."""
    import netCDF4

    if not path.is_file():
        raise MissingInput(f"radar sequence {path} does not exist")
    require_harmless(path, what="radar sequence")
    try:
        with netCDF4.Dataset(path) as file:
            return _read(file, path, variable)
    except OSError as error:
        raise DataError(f"radar sequence {path} cannot be read as NetCDF ({error})") from error


def _read(file: Any, path: Path, variable: str) -> RadarFrames:
    if variable not in file.variables:
        raise DataError(f"radar sequence {path}: no variable {variable!r}; it has {', '.join(sorted(file.variables))}")
    found = file[variable]
    if tuple(found.dimensions) != AXES or found.shape[1] != found.shape[2] or found.shape[1] not in SIZES:
        raise DataError(
            f"radar sequence {path}: {variable} is {tuple(found.dimensions)} of shape {found.shape}, expected {AXES} "
            f"with {SIZES[0]} x {SIZES[0]} cells (3 km) or {SIZES[1]} x {SIZES[1]} (1 km)"
        )
    units = str(getattr(found, "units", ""))
    quantity = QUANTITIES.get(units.replace(" ", "").lower())
    if quantity is None:
        raise DataError(
            f"radar sequence {path}: {variable} is in {units!r}, expected kg m-2 (VIL), dBZ (reflectivity) or mm "
            "h-1 (rain)"
        )
    vil = liquid(np.ma.filled(np.ma.asarray(found[:]).astype(np.float64), np.nan), quantity)
    if not np.isfinite(vil).any():
        raise DataError(f"radar sequence {path}: every value of {variable} is missing")
    if "y" in file.variables and file["y"].shape[0] > 1 and file["y"][0] > file["y"][-1]:
        vil = vil[:, ::-1]
    return RadarFrames(encode(np.ascontiguousarray(vil)), _times(file, path), quantity)


def liquid(values: Float[np.ndarray, "*shape"], quantity: str) -> Float[np.ndarray, "*shape"]:
    """VIL in kg m-2 of values whose unit means `quantity`; NaN stays."""
    if quantity == "VIL":
        return np.maximum(values, 0.0)
    with np.errstate(divide="ignore"):  # no rain is minus infinity in dBZ, and no liquid
        is_rain = quantity.endswith("rain rate")
        dbz = 10.0 * np.log10(300.0 * np.maximum(values, 0.0) ** 1.4) if is_rain else values
    return 3.44e-6 * (10.0 ** (np.minimum(dbz, MOST_DBZ) / 10.0)) ** (4.0 / 7.0) * DEPTH


def _times(file: Any, path: Path) -> np.ndarray:
    import netCDF4

    for one in file.variables.values():
        if tuple(one.dimensions) == AXES[:1] and " since " in str(getattr(one, "units", "")):
            moments: Any = netCDF4.num2date(one[:], one.units, only_use_cftime_datetimes=False)
            times = np.array([np.datetime64(moment, "s") for moment in moments])
            if len(times) > 1 and not (np.diff(times) > np.timedelta64(0, "s")).all():
                raise DataError(
                    f"radar sequence {path}: times of {one.name} do not increase; sort it, one frame a time"
                )
            return times
    raise DataError(f"radar sequence {path}: no variable along time has units like `minutes since 2020-01-01`")
