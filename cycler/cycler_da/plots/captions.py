"""The sidecar of a cycle's figures: for each file its title, size and a text for those who cannot see it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cycler_da.layout import Layout
from cycler_da.plots.fields import CycleFields, VariableFields
from cycler_da.plots.style import number_text, title_times, unit_text
from cycler_da.times import iso_time

FILE_NAME = "captions.json"


@dataclass(frozen=True)
class Caption:
    """What a figure shows. `kind` is map, lines or departures; `safe_file` holds the colour-blind-safe twin."""

    file: str
    kind: str
    title: str
    alt: str
    width: int
    height: int
    variable: str = ""
    safe_file: str = ""


def write_captions(out: Path, captions: list[Caption], fields: CycleFields) -> Path:
    """Write `captions.json` beside the figures."""
    facts = fields.facts
    content = {
        "valid_time": iso_time(facts.valid),
        "init_time": iso_time(facts.init),
        "times": title_times(facts.init, facts.valid),
        "variables": _variables(fields.layout),
        "figures": [asdict(caption) for caption in captions],
    }
    path = out / FILE_NAME
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def map_text(fields: CycleFields, part: VariableFields) -> str:
    """Describe the maps of one variable in two or three sentences."""
    units = unit_text(part.variable.units)
    layers = [name.replace("_", " ") for name in _LAYERS if getattr(part, name) is not None]
    sentences = [f"Maps of {part.variable.long_name} ({part.variable.name}): {_listed(layers)}."]
    sentences.append(title_times(fields.facts.init, fields.facts.valid).replace("  |  ", ", ") + ".")
    numbers = [
        f"{name} {number_text(rms(values))} {units}".strip()
        for name, values in (
            ("RMS increment", part.increment),
            ("RMS analysis spread", part.analysis_spread),
            ("analysis RMSE", part.analysis_error),
        )
        if values is not None
    ]
    if numbers:
        sentences.append(f"{_listed(numbers)}.")
    if part.variable.name in fields.observations:
        counts = fields.observations[part.variable.name].counts()
        sentences.append(f"Observations: {_listed([f'{n} {kind}' for kind, n in counts.items()])}.")
    return " ".join(sentences)


_LAYERS = ("background", "background_spread", "analysis", "analysis_spread", "increment", "truth", "analysis_error")


def rms(values: np.ndarray) -> float:
    """Root mean square over what is not missing; NaN when all is."""
    present = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(present**2))) if present.size else float("nan")


def _variables(layout: Layout) -> list[dict[str, str]]:
    return [
        {"name": variable.name, "units": unit_text(variable.units), "long_name": variable.long_name}
        for variable in layout.variables
    ]


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
