"""`cycler check | status | verify | version`: look, change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cycler_da.cli.shell import ConfigPath, Overrides, expected_errors
from cycler_da.errors import EXIT_COMPLETE, MissingInput, MissingProduct

RootPath = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of an experiment, <root>/<name>.")]


def check(config: ConfigPath, overrides: Overrides = None) -> None:
    """Validate a config, load its weights, and print it with every default written out."""
    with expected_errors():
        import yaml

        from cycler_da.setting import load_setting

        setting = load_setting(config, overrides or [])
        typer.echo(yaml.safe_dump(setting.config.resolved(), sort_keys=False), nl=False)
        typer.echo(f"# sha256 {setting.config.digest}")
        for chain in setting.chains:
            typer.echo(f"# chain {chain.name}: scheme {chain.scheme_kind}, model {chain.model.digest}")
        for note in setting.notes:
            typer.echo(f"# note: {note}")


def status(root: RootPath, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Say which cycle of every chain is the last complete one, how old, with what, and why degraded."""
    with expected_errors():
        import numpy as np

        from cycler_da.operations.status import chain_status

        chains, unknown = {}, {}
        for store in stores_of(root):
            try:
                chains[store.chain] = chain_status(store, np.datetime64("now", "s"))
            except MissingProduct as error:
                unknown[store.chain] = error
        if as_json:
            content = {"experiment": root.name, "chains": chains, "unknown": {n: str(e) for n, e in unknown.items()}}
            typer.echo(json.dumps(content, indent=1, sort_keys=True))
        else:
            for name, facts in chains.items():
                typer.echo(_status_line(name, facts))
        if unknown:
            raise next(iter(unknown.values()))


def verify(root: RootPath) -> None:
    """Check every file of every publication, earlier ones too, against its manifest, and the chain of manifests."""
    with expected_errors():
        stores = stores_of(root)
        problems = [f"{store.chain}: {problem}" for store in stores for problem in store.verify()]
        for problem in problems:
            typer.echo(problem)
        n_cycles = sum(len(store.complete_cycles()) for store in stores)
        n_earlier = sum(len(store.all_revisions()) for store in stores)
        earlier = f" and {n_earlier} earlier publications" if n_earlier else ""
        typer.echo(f"{n_cycles} cycles{earlier} verified, {len(problems)} problems", err=True)
        raise typer.Exit(65 if problems else EXIT_COMPLETE)


def version() -> None:
    """Print the version, the code's commit and the libraries that matter."""
    from cycler_da import __version__
    from cycler_da.products.provenance import code_version, environment

    typer.echo(f"cycler {__version__} ({code_version()})")
    for name, value in environment().items():
        typer.echo(f"{name}: {value}")


def stores_of(root: Path) -> list[Any]:
    """Stores of all chains of an experiment; raises MissingInput when there is none."""
    from cycler_da.products.store import Store

    root = root.resolve()
    names = sorted(path.parent.name for path in root.glob("*/cycles") if path.is_dir())
    if not names:
        raise MissingInput(f"{root} holds no chain with cycles; give the folder <root>/<experiment> of a run")
    return [Store(root.parent, root.name, name) for name in names]


def _status_line(name: str, facts: dict[str, Any]) -> str:
    if facts["latest"] is None:
        return f"{name}: no complete cycle"
    counts = ", ".join(f"{count} {flag}" for flag, count in sorted(facts["counts"].items())) or "no observations"
    rung = f"fallback {facts['fallback']['rung']}: " if facts["fallback"]["level"] else ""
    reasons = rung + ("; ".join(facts["degraded"]) or "complete")
    delivery = ", early" if facts["delivery"] == "early" else ""
    days = facts["data_age_seconds"] / 86400
    age = f"{facts['n_complete']} cycles, data {days:.1f} days old{delivery}"
    return f"{name}: {facts['latest']} ({age}), {counts}: {reasons}"
