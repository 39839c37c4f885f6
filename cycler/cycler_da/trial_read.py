"""Trial reads: a file from outside is read in a process of its own first, for it may end the one that reads it.

The system would meet such a file with every restart again. So, with the two processes of apart.py:

1. a fork reads everything; when it comes to its end, the file may be read here;
2. when it does not, a fresh interpreter decides.

What is wrong with a file in any other way is not decided here: what raises in the trial raises again for the one that
reads it, in words. What is tried are files that were not made by the store: observations, nature runs, radar files,
start ensembles, B files. What the store holds is compared with its manifest instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cycler_da.apart import Reader, ask_fresh, survives_fork
from cycler_da.errors import DataError

#: The forked process is trusted when it says yes; what takes it longer is for the fresh one to decide.
FORK_SECONDS = 10.0
SECONDS = 60.0

# Readers: what raises is not fatal, and what lies behind it is read all the same.


def read_bytes(path: Path, _: Any = None) -> None:
    """Everything, as observation files are read: from memory."""
    with suppress(OSError):
        _read(path, memory=path.read_bytes())


def read_file(path: Path, _: Any = None) -> None:
    """Everything, as fields are read: from the disk."""
    _read(path)


def read_head(path: Path, _: Any = None) -> None:
    """Everything but the values of fields: attributes, dimensions, coordinates."""
    _read(path, n_dims=1)


def read_attributes(path: Path, _: Any = None) -> None:
    """What is found without reading any variable."""
    _read(path, n_dims=-1)


def require_harmless(path: Path, *, what: str, reader: Reader = read_file, argument: Any = None) -> None:
    """Raise DataError for a file that ends the process that reads it with `reader(path, argument)`."""
    for end in fatal_ends([path], reader, argument).values():
        raise DataError(f"{what} {path} {end}")


def fatal_ends(paths: Sequence[Path], reader: Reader, argument: Any = None) -> dict[Path, str]:
    """How files end the process that reads them, in words that follow a file's name; files that do not are left out.

    Raises OSError when no process can be started to try them.
    """

    def survives(some: Sequence[Path]) -> bool:
        return survives_fork(reader, some, argument, seconds=FORK_SECONDS)

    if not paths or survives(paths):
        return {}
    suspects = [path for path in paths if len(paths) == 1 or not survives([path])]
    found = {path: ask_fresh(reader, path, argument, seconds=SECONDS).end for path in suspects}
    return {path: end for path, end in found.items() if end}


def _read(path: Path, *, n_dims: float = float("inf"), **options: Any) -> None:
    import netCDF4

    with suppress(Exception), netCDF4.Dataset(path.name if options else path, **options) as file:
        for group in _groups(file):
            _read_attributes(group)
            for variable in group.variables.values():
                _read_attributes(variable)
                if variable.ndim <= n_dims:
                    with suppress(Exception):
                        variable[...]


def _groups(group: Any) -> Iterator[Any]:
    yield group
    for inner in group.groups.values():
        yield from _groups(inner)


def _read_attributes(holder: Any) -> None:
    with suppress(Exception):
        for name in holder.ncattrs():
            holder.getncattr(name)
