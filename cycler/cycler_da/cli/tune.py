"""`cycler tune | innovations`: choose the options of a scheme, and see whether its assumed errors are right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cycler_da.cli.shell import ConfigPath, Overrides, console, expected_errors


def tune(
    config: ConfigPath,
    chain: Annotated[str, typer.Option(help="Chain of the config whose scheme is tuned.")],
    over: Annotated[list[str], typer.Option(metavar="OPTION=V,V,...", help="Option of the scheme and values to try.")],
    training_cycles: Annotated[int, typer.Option(help="Cycles that choose; those after them report.")],
    out: Annotated[Path, typer.Option(help="Folder of the search: tune.md, tune.json and the runs.")],
    metric: Annotated[str, typer.Option(help="rmse, fair_crps, or innovation (needs no truth).")] = "rmse",
    kind: Annotated[str, typer.Option(help="What is scored: analysis or background.")] = "analysis",
    overrides: Overrides = None,
    report: Annotated[
        list[str] | None, typer.Option("--report-set", metavar="KEY=VALUE", help="Change of the report period alone.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the cycles of every candidate.")] = False,
) -> None:
    """Search options of a scheme on a training period, and report the best on the cycles after it."""
    with expected_errors():
        from cycler_da.tuning import Search, parse_option, tune

        search = Search(
            config=config,
            chain=chain,
            options=dict(parse_option(text) for text in over),
            training_cycles=training_cycles,
            out=out,
            changes=tuple(overrides or ()),
            report_changes=tuple(report or ()),
            metric=metric,
            kind=kind,
            keep=keep,
        )
        with console.status("tuning"):
            text = tune(search, say=lambda line: console.print(line, markup=False))
        typer.echo(text)


def innovations(
    root: Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="Folder of an experiment, <root>/<name>.")],
    skip: Annotated[int, typer.Option(help="First cycles of every chain to leave out (spin-up).")] = 0,
) -> None:
    """Print innovation statistics of every chain: chi-square, assumed and estimated errors, spread."""
    with expected_errors():
        from cycler_da.cli.inspect import stores_of
        from cycler_da.tables.innovations import innovation_rows
        from cycler_da.tables.report import pivot

        cycles = {s.chain: [s.cycle_folder(time) for time in s.complete_cycles()][skip:] for s in stores_of(root)}
        typer.echo(pivot(innovation_rows(cycles)))
