"""`cycler bench`: the numbers of docs/results, made again by command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import console, expected_errors


def bench(
    name: Annotated[str | None, typer.Argument(help="Benchmark; without it they are listed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller version that ends within two minutes.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of NAME.json and NAME.md.")] = Path("docs/results"),
) -> None:
    """Run a benchmark and write its table."""
    with expected_errors():
        from rich.progress import Progress

        from cycler_da.bench.registry import benchmarks, run_benchmark

        if name is None:
            for known in benchmarks().values():
                typer.echo(f"{known.name:<24} {known.summary}")
            return
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task(name, total=None)
            run_benchmark(
                name,
                quick=quick,
                out=out,
                progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            )
        typer.echo(str(out / f"{name}.md"))
