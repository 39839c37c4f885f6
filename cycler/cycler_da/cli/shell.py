"""What every command does alike: read options, show expected errors in one line, leave with an exit code."""

from __future__ import annotations

import errno
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cycler_da.errors import EXIT_INTERNAL, CannotWrite, CyclerError, LockedCycle

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

#: Errors of the operating system by which a disk refuses a write: full, quota, read-only.
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

#: For people; results that a program may read go to standard output by `typer.echo`.
console = Console(stderr=True, highlight=False)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the config, a.b=value.")
]
ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="Experiment YAML.")]


@contextmanager
def expected_errors() -> Iterator[None]:
    """Turn expected errors into one clear message and their exit code; bugs keep their traceback, with exit code 70."""
    try:
        yield
    except CyclerError as error:
        typer.echo(f"FATAL ERROR: {error}", err=True)
        for note in getattr(error, "__notes__", []):
            typer.echo(f"  {note}", err=True)
        raise typer.Exit(error.exit_code) from error
    except MemoryError as error:
        typer.echo(
            "FATAL ERROR: out of memory; the same command continues where this one stopped. Give it more memory or "
            "fewer executor.workers; with a smaller ensemble.batch it is another experiment",
            err=True,
        )
        raise typer.Exit(EXIT_INTERNAL) from error
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command continues where this one stopped", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        raise  # whoever read standard output has seen enough; the command line ends quietly
    except OSError as error:
        typer.echo(f"FATAL ERROR: the operating system: {error}; {_advice(error)}", err=True)
        raise typer.Exit(_exit_code(error)) from error
    except Exception as error:
        if hasattr(error, "exit_code") or isinstance(error, typer.Abort):
            raise  # the command line's own: an end with a code, wrong usage
        typer.echo(f"{traceback.format_exc()}FATAL ERROR: a bug, see above; send this to the developer", err=True)
        raise typer.Exit(EXIT_INTERNAL) from error


def _exit_code(error: OSError) -> int:
    return CannotWrite.exit_code if error.errno in _REFUSED else LockedCycle.exit_code


def _advice(error: OSError) -> str:
    if error.errno in _REFUSED:
        return "make space or make it writable, then give the same command"
    return "give the same command again; if it lasts, see to the disk and the permissions of what is named"


def set_up_logging(*, verbose: bool) -> None:
    """Log to standard error: warnings only, or one line for each stage with `verbose`."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger().setLevel(level)
    os.environ.setdefault("MPLBACKEND", "Agg")
