"""The page of an experiment: one static `index.html` over all its chains.

It works from a disk without a server: data, style and script are in the file, figures and products are
links relative to it. It is written anew after a cycle, in one step, from what is in the store.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from cycler_da.plots import style
from cycler_da.plots.archive import ChainRecord, CycleRecord, read_chains
from cycler_da.plots.captions import FILE_NAME as CAPTIONS
from cycler_da.plots.scoretable import SCORES, score_rows
from cycler_da.times import iso_time

#: Ranges of the closing table: name on the page and what it pools.
_RANGES: dict[str, dict[str, Any]] = {
    "all cycles": {},
    "later half": {"half": True},
    "last 10 cycles": {"newest": 10},
}


def write_page(experiment_folder: Path) -> Path:
    """Write `<experiment>/index.html` from the complete cycles of all chains; returns its path.

    An experiment without any complete cycle gets a page that says so. Damaged JSON of a cycle is left out
    with a warning in the log; a file system that refuses the write raises OSError.
    """
    folder = Path(experiment_folder)
    content = page_content(folder)
    page = _template().render(
        title=content["experiment"]["name"],
        data=content,
        written=content["written"],
        has_cycles=any(chain["cycles"] for chain in content["chains"]),
    )
    path = folder / "index.html"
    draft = folder / f".index.html.{os.getpid()}"
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def page_content(folder: Path) -> dict[str, Any]:
    """Everything the page shows, as plain JSON; NaN and infinity become null."""
    chains = read_chains(folder)
    return {
        "experiment": _experiment(folder),
        "written": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "variables": _variables(chains),
        "chains": [_chain(chain, folder) for chain in chains],
        "score_names": list(SCORES),
        "tables": {
            name: [_finite(asdict(row)) for row in score_rows(chains, **choice)] for name, choice in _RANGES.items()
        },
        "colours": list(style.SERIES_COLOURS),
    }


def _experiment(folder: Path) -> dict[str, str]:
    path = folder / "experiment.yaml"
    facts = {"name": folder.name, "description": "", "config": path.name if path.is_file() else ""}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return facts
    if isinstance(config, dict):
        facts["description"] = str(config.get("description") or config.get("title") or "")
    return facts


def _variables(chains: list[ChainRecord]) -> list[dict[str, str]]:
    """Names and units of the variables, from the newest captions there are."""
    for chain in chains:
        for cycle in reversed(chain.cycles):
            try:
                return list(json.loads((cycle.folder / "plots" / CAPTIONS).read_text(encoding="utf-8"))["variables"])
            except (OSError, ValueError, KeyError):
                continue
    return []


def _chain(chain: ChainRecord, folder: Path) -> dict[str, Any]:
    return {
        "name": chain.name,
        "scheme": chain.attributes.get("scheme", chain.name),
        "model": chain.attributes.get("model_digest", ""),
        "members": chain.attributes.get("n_members", ""),
        "code": chain.attributes.get("code_version", ""),
        "n_complete": chain.n_complete,
        "cycles": [_cycle(cycle, folder) for cycle in chain.cycles],
    }


def _cycle(cycle: CycleRecord, folder: Path) -> dict[str, Any]:
    return {
        "time": iso_time(cycle.valid),
        "folder": cycle.folder.relative_to(folder).as_posix(),
        "scores": _finite(cycle.scores),
        "counts": dict(cycle.counts),
        "seconds": _finite(cycle.seconds),
        "degraded": list(cycle.degraded),
        "figures": [dict(figure) for figure in cycle.figures],
        "files": list(cycle.files),
    }


def _finite(value: Any) -> Any:
    """The same nest of mappings with numbers JSON can hold."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("cycler_da.plots", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # flags and stages keep their order
    return environment.get_template("index.html.j2")
