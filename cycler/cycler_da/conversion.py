"""Radar files as CF NetCDF of the project: SEVIR and SEVIR-LR events, and NetCDF sequences of other radars.

What comes out is a nature run, VIL in kg m-2 on the patch's map, missing pixels with the fill value, which
`nature: {kind: file}` and every NetCDF reader take.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import write_observed_field
from cycler_da.systems.radar_netcdf import read_frames
from cycler_da.systems.sevir import SevirNature, SevirNatureSpec, at_size, sevir_layout
from cycler_da.times import parse_duration


def convert_event(spec: SevirNatureSpec, out: Path, *, attributes: Mapping[str, str] | None = None) -> int:
    """Write one event; returns the number of frames. Raises MissingInput or DataError as reading an event does."""
    return _write(spec.build(), out, attributes)


def convert_sequence(path: Path, variable: str, spec: SevirNatureSpec, out: Path) -> int:
    """Write a variable of a NetCDF sequence of another radar, on the grid and at the place and step of `spec`.

    Returns the number of frames; raises what reading the sequence raises.
    """
    step = parse_duration(spec.step)
    frames = read_frames(path, variable).every(step)
    corner, origin = spec.place()
    nature = SevirNature(
        codes=at_size(frames.codes, spec.size, coarsen=spec.coarsen, path=str(path)),
        valid_times=frames.times,
        layout=sevir_layout(spec.size, step, corner=corner, georeference=origin),
        attributes={"quantity": frames.quantity, "event": f"{path.name} {variable}", "georeference": origin},
    )
    return _write(nature, out)


def _write(nature: SevirNature, out: Path, attributes: Mapping[str, str] | None = None) -> int:
    states = nature.states(nature.valid_times)
    said = {name: value for name, value in nature.attributes.items() if name != "source"}
    facts = FileFacts("nature", nature.valid_times[0], attributes={**said, **(attributes or {})})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_observed_field(out, states, nature.valid_times, nature.layout, facts=facts)
    return len(nature.valid_times)
