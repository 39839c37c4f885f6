"""The page of an experiment: one static `index.html` over all its chains.

It works from a disk without a server: data, style and script are in the file, figures and products are
links relative to it. It is written anew after a cycle, in one step, from what is in the store.
"""

from __future__ import annotations

import json
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
from cycler_da.plots.calibration import calibration_of
from cycler_da.plots.captions import FILE_NAME as CAPTIONS
from cycler_da.plots.scoretable import SCORES, Choice, after, all_cycles, later_half, score_rows
from cycler_da.products.atomic import write_atomically
from cycler_da.times import iso_time

#: The resolved config, stored beside the chains.
CONFIG = "experiment.yaml"

#: Written by the monitor of a service (operations/status.py), which is a floor above.
STATUS = "status.json"


def write_page(experiment_folder: Path) -> Path:
    """Write `<experiment>/index.html` from the complete cycles of all chains; returns its path.

    An experiment without any complete cycle gets a page that says so. Damaged JSON of a cycle is left out
    with a warning in the log. Raises CannotWrite when the file system refuses.
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
    write_atomically(path, lambda draft: _write_text(draft, page))
    return path


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def page_content(folder: Path) -> dict[str, Any]:
    """Everything the page shows, as plain JSON; NaN and infinity become null."""
    config = _config(folder)
    chains = _in_order(read_chains(folder), config)
    return {
        "experiment": _experiment(folder, config),
        "written": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stale_after": _stale_after(folder, config),
        "variables": _variables(chains),
        "chains": [_chain(chain, folder) for chain in chains],
        "score_names": list(SCORES),
        "tables": {
            name: [_finite(asdict(row)) for row in score_rows(chains, choose)]
            for name, choose in _ranges(config).items()
        },
        "colours": list(style.SERIES_COLOURS),
    }


def _config(folder: Path) -> dict[str, Any]:
    """The resolved config stored with the experiment; empty when there is none to read."""
    try:
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return config if isinstance(config, dict) else {}


def _experiment(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    return {
        "name": folder.name,
        "summary": str(config.get("summary") or ""),
        "config": CONFIG if (folder / CONFIG).is_file() else "",
    }


def _stale_after(folder: Path, config: dict[str, Any]) -> float | None:
    """Age (s) from which on the newest cycle of a served experiment is stale; None where nobody serves it."""
    if not (folder / STATUS).is_file():
        return None
    try:
        return float(json.loads((folder / STATUS).read_text(encoding="utf-8"))["max_age_seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _in_order(chains: list[ChainRecord], config: dict[str, Any]) -> list[ChainRecord]:
    """Chains in the order of the config; others follow as they came."""
    listed = [chain.get("name") for chain in config.get("chains") or () if isinstance(chain, dict)]
    return sorted(chains, key=lambda chain: listed.index(chain.name) if chain.name in listed else len(listed))


def _ranges(config: dict[str, Any]) -> dict[str, Choice]:
    """Ranges of the closing table; the first one is shown first."""
    ranges: dict[str, Choice] = {"all cycles": all_cycles, "later half": later_half}
    verification = config.get("verification")
    spin_up = verification.get("spin_up") if isinstance(verification, dict) else None
    if isinstance(spin_up, int) and spin_up > 0:
        return {f"after spin-up of {spin_up}": after(1 + spin_up), **ranges}  # the start and the spin-up
    return ranges


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
        "calibration": calibration_of(chain.cycles[-1].folder) if chain.cycles else {},
        "cycles": [_cycle(cycle, folder) for cycle in chain.cycles],
    }


def _cycle(cycle: CycleRecord, folder: Path) -> dict[str, Any]:
    return {
        "time": iso_time(cycle.valid),
        "folder": cycle.folder.relative_to(folder).as_posix(),
        "scores": _finite(cycle.scores),
        "calibration": _finite(dict(cycle.calibration)),
        "counts": dict(cycle.counts),
        "seconds": _finite(cycle.seconds),
        "degraded": list(cycle.degraded),
        "fallback": cycle.fallback,
        "delivery": cycle.delivery,
        "exit_code": cycle.exit_code,
        "diagnostics": _finite(dict(cycle.diagnostics)),
        "forecast_until": cycle.forecast_until,
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
