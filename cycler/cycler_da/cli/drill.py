"""`cycler drill`: break a small shadow experiment on purpose and see whether it recovers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import console, expected_errors
from cycler_da.errors import EXIT_COMPLETE, EXIT_INTERNAL


def drill(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Drills; all without names.")] = None,
    trials: Annotated[int, typer.Option(min=0, help="Trials of each drill; 0: as many as its table has.")] = 0,
    seed: Annotated[int, typer.Option(help="Where the faults strike.")] = 1,
    listed: Annotated[bool, typer.Option("--list", help="List the drills and what is not drilled.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write drill.json and drill.md here.")] = None,
) -> None:
    """Run fault drills on a small experiment of their own; no data of yours is touched."""
    with expected_errors():
        from rich.progress import Progress

        from cycler_da.bench.operations.drill import drill_result
        from cycler_da.drills.catalogue import DRILLS, NOT_DRILLED, chosen
        from cycler_da.tables import report

        if listed:
            for one in DRILLS:
                typer.echo(f"{one.name:<18} {one.number:>3}  {one.fault} ({one.trials} trials)")
            for number, text in NOT_DRILLED.items():
                typer.echo(f"{'not drilled':<18} {number:>3}  {text}")
            return
        chosen(names or [])
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("drills", total=None)
            result = drill_result(
                names or [],
                trials=trials or None,
                seed=seed,
                progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            )
        typer.echo(report.pivot(result.rows))
        for note in result.notes:
            typer.echo(note)
        if out is not None:
            for path in report.write(result, out):
                typer.echo(str(path))
        raise typer.Exit(EXIT_COMPLETE if _all_recovered(result) else EXIT_INTERNAL)


def _all_recovered(result) -> bool:  # type: ignore[no-untyped-def]  # tables.report.BenchResult
    wanted = {"recovered": 1.0, "wrong": 0.0, "lost": 0.0}
    return all(row.value == wanted[row.metric] for row in result.rows if row.metric in wanted)
