"""Names and attributes of the files people open: CF-1.11 and ACDD-1.3, and ours behind `cycler_`.

Valid limits of a variable are not written as CF `valid_min`/`valid_max`: to a CF reader a value outside
them is missing, and an ensemble member may overshoot them. They stand in `cycler_layout`; what a file
really spans stands in `actual_range`.

Sources: CF Metadata Conventions 1.11; ESIP Attribute Convention for Data Discovery 1.3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cycler_da.layout import Axis, Layout, Variable
from cycler_da.products.provenance import code_version
from cycler_da.times import format_duration, iso_time, time_stamp

CONVENTIONS = "CF-1.11, ACDD-1.3"
STANDARD_NAME_TABLE = "CF Standard Name Table v93"
TIME_UNITS = "seconds since 1970-01-01T00:00:00"
PREFIX = "cycler_"

KINDS = {
    "background": "background ensemble (forecast used as prior)",
    "analysis": "analysis ensemble",
    "forecast": "forecast ensemble from the analysis",
    "forecast_products": "products of the forecast ensemble from the analysis",
    "increment": "analysis increment (analysis mean minus background mean)",
    "truth": "truth of the twin experiment",
    "nature": "nature run",
    "covariance": "background-error covariance",
    "whatif": "what-if analysis ensemble, from changed observations",
    "whatif_difference": "what-if analysis minus archived analysis, member by member",
    "feedback": "observations with their quality control and model equivalents",
}

#: Names from the CF table for our variables, by name and units, with what must be said beside them.
STANDARD_NAMES = {
    ("vil", "kg m-2"): (
        "atmosphere_mass_content_of_liquid_precipitation",
        "estimated from radar reflectivity; ice in the column makes it too high",
    ),
    **{
        (name, "s-1"): (
            "ocean_relative_vorticity",
            "quasi-geostrophic potential vorticity has no standard name; it is the relative vorticity that a column "
            "takes on when it is brought to the rest thickness of its layer",
        )
        for name in ("q1", "q2")
    },
}

# ACDD attributes a config may set; everything else a caller gives is written with our prefix.
_DISCOVERY = (
    "acknowledgement comment contributor_name contributor_role creator_email creator_institution creator_name "
    "creator_type creator_url geospatial_bounds id institution keywords keywords_vocabulary license "
    "metadata_link naming_authority processing_level product_version program project publisher_email "
    "publisher_institution publisher_name publisher_type publisher_url references source summary title"
)
DISCOVERY = frozenset(_DISCOVERY.split())


@dataclass(frozen=True)
class FileFacts:
    """What a file says about itself beyond its values.

    `kind` is one of `KINDS`; `reference_time` is the time the forecast started from (an analysis: its own
    valid time). `attributes` holds ACDD attributes (title, license, ...) under their own names; other keys,
    such as seed or config_sha256, are written with the prefix `cycler_`. None values are left out.
    """

    kind: str
    reference_time: np.datetime64
    experiment: str = ""
    chain: str = ""
    scheme: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


def global_attributes(facts: FileFacts, layout: Layout, valid_times: np.ndarray) -> dict[str, Any]:
    """All global attributes of a file, in writing order."""
    attributes: dict[str, Any] = {"Conventions": CONVENTIONS}
    attributes.update(_discovery(facts, layout, valid_times))
    attributes.update(_coverage(valid_times))
    attributes.update(_ours(facts, layout))
    for name, value in facts.attributes.items():
        if value is not None:
            known = name in DISCOVERY or name.startswith(PREFIX)
            attributes[name if known else PREFIX + name] = as_attribute(value)
    return attributes


def as_attribute(value: Any) -> Any:
    """A value that a NetCDF attribute can hold: text, number, or JSON for anything structured."""
    if isinstance(value, bool | np.bool_):
        return np.int32(value)
    if isinstance(value, np.datetime64):
        return iso_time(value)
    if isinstance(value, int):
        # Attributes are stored in 32 bits where they fit, which every reader understands.
        return np.int32(value) if -(2**31) <= value < 2**31 else np.int64(value)
    if isinstance(value, str | float | np.generic | np.ndarray):
        return value
    return json.dumps(value, sort_keys=True, default=str)


def variable_attributes(variable: Variable, kind: str) -> dict[str, Any]:
    """Attributes of a field variable in a file of some kind."""
    long_name = variable.long_name or variable.name
    if kind == "increment":
        long_name = f"analysis increment of {long_name}"
    attributes = {"long_name": long_name, "units": variable.units or "1", "coverage_content_type": "modelResult"}
    if (variable.name, variable.units) in STANDARD_NAMES:
        standard_name, comment = STANDARD_NAMES[variable.name, variable.units]
        attributes |= {"standard_name": standard_name, "comment": comment}
    return attributes


def mean_attributes(variable: Variable, kind: str) -> dict[str, Any]:
    """Attributes of the ensemble mean of a variable."""
    attributes = variable_attributes(variable, kind)
    attributes["long_name"] = f"ensemble mean of {attributes['long_name']}"
    return attributes | {"cell_methods": "realization: mean"}


def spread_attributes(variable: Variable, kind: str) -> dict[str, Any]:
    """Attributes of the ensemble spread (standard deviation, denominator n - 1) of a variable."""
    attributes = variable_attributes(variable, kind)
    attributes["long_name"] = f"ensemble spread (standard deviation, denominator n - 1) of {attributes['long_name']}"
    return attributes | {"cell_methods": "realization: standard_deviation"}


def axis_attributes(axis: Axis, is_projected: bool) -> dict[str, Any]:
    """Attributes of a grid coordinate."""
    attributes: dict[str, Any] = {"units": axis.units or "1", "coverage_content_type": "coordinate"}
    if is_projected and axis.name in ("x", "y"):
        attributes["standard_name"] = f"projection_{axis.name}_coordinate"
        attributes["axis"] = axis.name.upper()
    if axis.units in _GEOGRAPHIC:
        attributes["standard_name"] = _GEOGRAPHIC[axis.units]
    distance = "position along" if axis.units not in ("", "1") else "index along"
    attributes["long_name"] = f"{distance} the {axis.name} axis of the grid, cell centres"
    return attributes | {"cycler_periodic": np.int32(axis.periodic)}


_GEOGRAPHIC = {"degrees_north": "latitude", "degrees_east": "longitude"}

TIME_ATTRIBUTES = {
    "standard_name": "time",
    "long_name": "valid time",
    "units": TIME_UNITS,
    "calendar": "standard",
    "units_metadata": "leap_seconds: none",
    "axis": "T",
    "coverage_content_type": "coordinate",
}
REFERENCE_ATTRIBUTES = {
    "standard_name": "forecast_reference_time",
    "long_name": "time the forecast started from",
    "units": TIME_UNITS,
    "calendar": "standard",
    "units_metadata": "leap_seconds: none",
    "coverage_content_type": "coordinate",
}
LEAD_ATTRIBUTES = {
    "standard_name": "forecast_period",
    "long_name": "time since the forecast reference time",
    "units": "s",
    "coverage_content_type": "coordinate",
}
MEMBER_ATTRIBUTES = {
    "standard_name": "realization",
    "long_name": "ensemble member",
    "units": "1",
    "coverage_content_type": "coordinate",
}


def history_line(action: str) -> str:
    """One line of the `history` attribute."""
    return f"{_now()} cycler {code_version()}: {action}"


def _discovery(facts: FileFacts, layout: Layout, valid_times: np.ndarray) -> dict[str, Any]:
    what = KINDS.get(facts.kind, facts.kind)
    names = ", ".join(variable.long_name or variable.name for variable in layout.variables)
    run = "/".join(part for part in (facts.experiment, facts.chain) if part)
    stamp = f"/{time_stamp(valid_times[-1])}" if len(valid_times) else ""
    return {
        "id": f"{run or layout.system}/{facts.kind}{stamp}",
        "title": f"{layout.system}: {what}" + (f" of {run}" if run else ""),
        "summary": f"{what.capitalize()} of {layout.system} on a grid of {'x'.join(map(str, layout.grid.shape))} "
        f"cells, holding {names}.",
        "keywords": f"data assimilation, ensemble, {facts.kind}, {layout.system}",
        "source": f"cycler-da {code_version()}" + (f", scheme {facts.scheme}" if facts.scheme else ""),
        "history": history_line(f"wrote {facts.kind}"),
        "processing_level": what,
        "product_version": code_version(),
        "standard_name_vocabulary": STANDARD_NAME_TABLE,
        "date_created": _now(),
        "cdm_data_type": "Grid",
    }


def _coverage(valid_times: np.ndarray) -> dict[str, Any]:
    if len(valid_times) == 0:
        return {}
    first, last = valid_times[0], valid_times[-1]
    attributes = {
        "time_coverage_start": iso_time(first),
        "time_coverage_end": iso_time(last),
        "time_coverage_duration": _iso_duration(last - first),
    }
    if len(valid_times) > 1:
        attributes["time_coverage_resolution"] = _iso_duration(valid_times[1] - first)
    return attributes


def _ours(facts: FileFacts, layout: Layout) -> dict[str, Any]:
    ours = {
        "kind": facts.kind,
        "experiment": facts.experiment,
        "chain": facts.chain,
        "scheme": facts.scheme,
        "layout_digest": layout.digest,
        "layout": json.dumps(layout.describe(), sort_keys=True),
        "model_step": format_duration(layout.step),
        "code_version": code_version(),
    }
    return {PREFIX + name: value for name, value in ours.items()}


def _iso_duration(length: np.timedelta64) -> str:
    return f"PT{int(length / np.timedelta64(1, 's'))}S"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
