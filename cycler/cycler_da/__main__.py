"""`python -m cycler_da`: the command line, for where the `cycler` program is not on the path."""

from cycler_da.cli import app

if __name__ == "__main__":
    app()
