"""All commands of `cycler`, and what they share: errors without traceback, exit codes, logging."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from cycler_da.cli import (
    assimilate,
    bench,
    calibrate,
    data,
    drill,
    inspect,
    make,
    replay,
    retain,
    run,
    serve,
    tune,
    watch,
    whatif,
)
from cycler_da.errors import EXIT_USAGE

_USAGE_OF_CLICK = 2


class _Commands(TyperGroup):
    """The commands; wrong usage ends with sysexits' code, which a scheduler tells from the others."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command, as the group does."""
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            if end.code == _USAGE_OF_CLICK:
                raise SystemExit(EXIT_USAGE) from None
            raise


app = typer.Typer(
    name="cycler",
    cls=_Commands,
    help="Cycling data assimilation with a learned stochastic interpolant.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (
    run.run,
    serve.serve,
    watch.watch,
    inspect.check,
    inspect.status,
    inspect.verify,
    retain.retain,
    inspect.version,
    replay.replay,
    whatif.whatif,
    whatif.impact,
    make.nature,
    make.observe,
    make.train,
    make.plot,
    assimilate.assimilate,
    bench.bench,
    drill.drill,
    calibrate.calibrate_b,
    calibrate.single_observation,
    tune.tune,
    tune.innovations,
):
    app.command(name=command.__name__.replace("_", "-"))(command)
app.add_typer(data.app)
