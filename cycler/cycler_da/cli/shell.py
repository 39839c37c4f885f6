"""What every command does alike: read options, show expected errors in one line, leave with an exit code."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cycler_da.errors import EXIT_INTERNAL, CyclerError

#: For people; results that a program may read go to standard output by `typer.echo`.
console = Console(stderr=True, highlight=False)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the config, a.b=value.")
]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="Experiment YAML.")]


@contextmanager
def expected_errors() -> Iterator[None]:
    """Turn expected errors into one clear message and their exit code; bugs keep their traceback."""
    try:
        yield
    except CyclerError as error:
        typer.echo(f"FATAL ERROR: {error}", err=True)
        for note in getattr(error, "__notes__", []):
            typer.echo(f"  {note}", err=True)
        raise typer.Exit(error.exit_code) from error
    except MemoryError as error:
        typer.echo(
            "FATAL ERROR: out of memory; the same command continues where this one stopped. Give it more memory, or "
            "set a smaller ensemble.batch and fewer executor.workers",
            err=True,
        )
        raise typer.Exit(EXIT_INTERNAL) from error
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command continues where this one stopped", err=True)
        raise typer.Exit(130) from None


def set_up_logging(*, verbose: bool) -> None:
    """Log to standard error: warnings only, or one line for each stage with `verbose`."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger().setLevel(level)
    os.environ.setdefault("MPLBACKEND", "Agg")
