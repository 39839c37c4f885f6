"""Radar files as CF NetCDF of the project: SEVIR and SEVIR-LR events, and sequences of codes of other radars.

What comes out is a nature run, VIL in kg m-2 on the patch's map, missing pixels with the fill value, which
`nature: {kind: file}` and every NetCDF reader take.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cycler_da.products.conventions import FileFacts
from cycler_da.products.dataset import write_observed_field
from cycler_da.systems.sevir import SevirNatureSpec


def convert_event(spec: SevirNatureSpec, out: Path, *, attributes: Mapping[str, str] | None = None) -> int:
    """Write one event; returns the number of frames. Raises MissingInput or DataError as reading an event does."""
    nature = spec.build()
    states = nature.states(nature.valid_times)
    said = {name: value for name, value in nature.attributes.items() if name != "source"}
    facts = FileFacts("nature", nature.valid_times[0], attributes={**said, **(attributes or {})})
    out.parent.mkdir(parents=True, exist_ok=True)
    write_observed_field(out, states, nature.valid_times, nature.layout, facts=facts)
    return len(nature.valid_times)
