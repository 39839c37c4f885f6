"""What a cycle folder holds, as plain numpy arrays: the only reader of NetCDF files for maps.

A cycle folder has `analysis.nc` and, where they exist, `background.nc`, `increment.nc`, `diag/truth.nc` and
`feedback/<stream>.nc`. Maps need means and spread, never members, and only the last time of a file, the
cycle's valid time. Missing values are NaN here. A layer that is not there is None.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np

from cycler_da.errors import DataError, MissingProduct
from cycler_da.layout import Layout, Variable, layout_from_description
from cycler_da.plots.feedback import ObsPoints, read_feedback_folder

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class CycleFacts:
    """What the files say about themselves."""

    experiment: str
    chain: str
    scheme: str
    model_digest: str
    n_members: int
    init: np.datetime64  # forecast reference time of the background
    valid: np.datetime64
    degraded: str = ""


@dataclass(frozen=True)
class VariableFields:
    """The layers of one variable at the valid time, physical units, `(*space)` each."""

    variable: Variable
    analysis: Float[np.ndarray, "*space"]
    analysis_spread: Float[np.ndarray, "*space"] | None = None
    background: Float[np.ndarray, "*space"] | None = None
    background_spread: Float[np.ndarray, "*space"] | None = None
    increment: Float[np.ndarray, "*space"] | None = None
    truth: Float[np.ndarray, "*space"] | None = None

    @property
    def analysis_error(self) -> Float[np.ndarray, "*space"] | None:
        """Analysis mean minus truth."""
        return None if self.truth is None else self.analysis - self.truth


@dataclass(frozen=True)
class CycleFields:
    """All layers of a cycle and its observations by variable."""

    folder: Path
    facts: CycleFacts
    layout: Layout
    variables: tuple[VariableFields, ...]
    observations: dict[str, ObsPoints] = field(default_factory=dict)

    @property
    def has_truth(self) -> bool:
        """True when there is a nature run to compare with."""
        return any(part.truth is not None for part in self.variables)


def read_cycle(folder: Path) -> CycleFields:
    """Read what maps need from a cycle folder.

    Raises MissingProduct without `analysis.nc`, DataError for a file that does not follow the contract.
    """
    analysis = folder / "analysis.nc"
    if not analysis.is_file():
        raise MissingProduct(f"maps of {folder}: there is no analysis.nc; run the cycle's product stage first")
    with netCDF4.Dataset(analysis) as source:
        layout = _layout(source, analysis)
        attributes = {name: source.getncattr(name) for name in source.ncattrs()}
        valid, init = _times(source, analysis)
    layers = {name: _layer(folder / file, suffix, layout) for name, (file, suffix) in _LAYERS.items()}
    background = folder / "background.nc"
    if background.is_file():
        with netCDF4.Dataset(background) as source:
            init = _times(source, background)[1]
    return CycleFields(
        folder=folder,
        facts=_facts(attributes, init=init, valid=valid),
        layout=layout,
        variables=tuple(
            VariableFields(
                variable,
                analysis=layers["analysis"][variable.name],
                **{name: layer.get(variable.name) for name, layer in layers.items() if name != "analysis"},
            )
            for variable in layout.variables
        ),
        observations=read_feedback_folder(folder / "feedback", layout),
    )


#: Layer: the file it is in and the ending of its variable's name.
_LAYERS = {
    "analysis": ("analysis.nc", "_mean"),
    "analysis_spread": ("analysis.nc", "_spread"),
    "background": ("background.nc", "_mean"),
    "background_spread": ("background.nc", "_spread"),
    "increment": ("increment.nc", ""),
    "truth": ("diag/truth.nc", ""),
}


def _layout(source: netCDF4.Dataset, path: Path) -> Layout:
    try:
        return layout_from_description(json.loads(source.getncattr("cycler_layout")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"maps of {path}: the global attribute cycler_layout is missing or damaged ({error}); "
            "it names variables and grid, write the file with cycler"
        ) from error


def _times(source: netCDF4.Dataset, path: Path) -> tuple[np.datetime64, np.datetime64]:
    """Valid time (the last) and forecast reference time; without the latter the valid time stands for it."""
    if "time" not in source.variables:
        raise DataError(f"maps of {path}: there is no time coordinate; expected seconds since 1970-01-01T00:00:00")
    valid = _as_time(source["time"], -1)
    has_reference = "forecast_reference_time" in source.variables
    return valid, _as_time(source["forecast_reference_time"], ()) if has_reference else valid


def _as_time(variable: netCDF4.Variable, index: Any) -> np.datetime64:
    moment = netCDF4.num2date(
        variable[index], variable.units, only_use_cftime_datetimes=False, only_use_python_datetimes=True
    )
    return np.datetime64(np.asarray(moment).item().replace(tzinfo=None), "s")


def _layer(path: Path, suffix: str, layout: Layout) -> dict[str, np.ndarray]:
    """Read one layer of every variable; a variable that the file lacks is left out."""
    if not path.is_file():
        return {}
    with netCDF4.Dataset(path) as source:
        names = {variable.name: variable.name + suffix for variable in layout.variables}
        found = {name: source[stored] for name, stored in names.items() if stored in source.variables}
        fields = {name: _last_time(stored, layout.grid.shape) for name, stored in found.items()}
    if suffix == "_mean" and len(fields) < len(names):
        raise DataError(f"maps of {path}: no mean of {sorted(names.keys() - fields.keys())}; expected {names}")
    for name, values in fields.items():
        if values.shape != layout.grid.shape:
            raise DataError(f"maps of {path}: {name} has shape {values.shape}, the layout says {layout.grid.shape}")
    return fields


def _last_time(stored: netCDF4.Variable, shape: tuple[int, ...]) -> np.ndarray:
    values = stored[-1] if stored.ndim == len(shape) + 1 else stored[:]
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)


def _facts(attributes: dict[str, Any], *, init: np.datetime64, valid: np.datetime64) -> CycleFacts:
    def text(name: str) -> str:
        return str(attributes.get(f"cycler_{name}", ""))

    degraded = text("degraded")
    return CycleFacts(
        experiment=text("experiment"),
        chain=text("chain"),
        scheme=text("scheme"),
        model_digest=text("model_digest"),
        n_members=int(attributes.get("cycler_n_members", 0)),
        init=init,
        valid=valid,
        degraded="" if degraded.lower() in ("", "0", "false", "no", "none", "[]") else degraded,
    )
