"""All commands of `cycler`, and what they share: errors without traceback, exit codes, logging."""

from __future__ import annotations

import typer

from cycler_da.cli import assimilate, bench, inspect, make, run

app = typer.Typer(
    name="cycler",
    help="Cycling data assimilation with a learned stochastic interpolant.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (
    run.run,
    run.serve,
    inspect.check,
    inspect.status,
    inspect.verify,
    inspect.version,
    make.nature,
    make.observe,
    make.train,
    make.plot,
    assimilate.assimilate,
    bench.bench,
):
    app.command(name=command.__name__)(command)
