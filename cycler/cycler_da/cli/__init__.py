"""The command line: `cycler`. Heavy libraries are imported inside the commands, so that `--help` is quick."""

from cycler_da.cli.main import app

__all__ = ["app"]
