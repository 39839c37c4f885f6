"""Trial reads: a NetCDF file from outside is read in a process of its own first, for it may end the one that reads it.

HDF5 follows what a file says. A flipped bit in a heap or an index can make it follow a wrong address (SIGSEGV), give up
(SIGABRT) or walk in circles: of 1500 single flips in an observation file with names of variable length, one did. The
system would meet such a file with every restart again. So:

1. a forked process (some ms) reads everything; when it comes to its end, the file may be read here;
2. when it does not, a fresh interpreter decides, for a fork of many threads may hang for reasons of its own.

Both end themselves by SIGALRM when their time is up, whoever waits for them. What is wrong with a file in any other
way is not decided here: what raises in the trial raises again for the one that reads it, in words.

Limit: a disk that does not answer keeps the trial and the one who waits for it.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cycler_da.errors import DataError

#: The forked process is trusted when it says yes; what takes it longer is for the fresh one to decide.
FORK_SECONDS = 10.0
SECONDS = 60.0

#: How the fresh interpreter is started; the way to read and the path follow.
COMMAND = (sys.executable, "-m", "cycler_da.trial_read")
_STARTED, _WHOLE = "started", "whole"
_START_SECONDS = 120.0  # for its imports, on a machine that is busy


def require_harmless(path: Path, *, what: str, way: str = "file") -> None:
    """Raise DataError for a file that ends the process that reads it; `way` is one of `WAYS`."""
    for end in fatal_ends([path], way).values():
        raise DataError(f"{what} {path} {end}")


def fatal_ends(paths: Sequence[Path], way: str) -> dict[Path, str]:
    """How files end the process that reads them, in words that follow a file's name; files that do not are left out.

    Raises OSError when no process can be started to try them.
    """
    if not paths or _survives_fork(paths, way):
        return {}
    suspects = [path for path in paths if len(paths) == 1 or not _survives_fork([path], way)]
    found = {path: _fresh_end(path, way) for path in suspects}
    return {path: end for path, end in found.items() if end is not None}


def _survives_fork(paths: Sequence[Path], way: str) -> bool:
    """Whether a fork of this process comes to the end of reading; False also when that is not known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: see 2. above
        try:
            child = os.fork()
        except OSError:
            return False
    if not child:
        _read_and_exit(paths, way)
    try:
        return os.waitpid(child, 0)[1] == 0
    except ChildProcessError:  # someone has asked the system to forget children
        return False


def _read_and_exit(paths: Sequence[Path], way: str) -> None:
    code = 1
    try:
        gc.disable()  # nothing of the parent's is to be ended here
        faulthandler.disable()
        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.setsid()
        _limit(FORK_SECONDS)
        for path in paths:
            WAYS[way](path)
        code = 0
    finally:
        os._exit(code)


def _fresh_end(path: Path, way: str) -> str | None:
    command = [*COMMAND, way, str(path)]
    limit = _START_SECONDS + SECONDS
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, start_new_session=True)
    except subprocess.TimeoutExpired:
        return _in_words(-signal.SIGALRM)
    said = done.stdout.split()
    if _WHOLE in said:
        return None
    if _STARTED not in said:
        raise OSError(f"{path} cannot be tried: {' '.join(command[:3])} ended with {done.returncode} ({done.stderr})")
    return _in_words(done.returncode)


def _in_words(code: int) -> str:
    if code == -signal.SIGALRM:
        how = f"keeps the process that reads it for ever (ended after {SECONDS:g} s)"
    elif code < 0:
        how = f"ends the process that reads it ({signal.Signals(-code).name})"
    else:
        how = f"ends the process that reads it (code {code})"
    return f"{how}: it is damaged where the library does not notice; send it again or remove it"


def _limit(seconds: float) -> None:
    """End this process by SIGALRM in some seconds, by nothing that others send meanwhile; leave no core file."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, seconds)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (1, resource.getrlimit(resource.RLIMIT_CORE)[1]))


# What raises is not fatal, and what lies behind it is read all the same.


def _read_bytes(path: Path) -> None:
    """As observation files are read: from memory."""
    with suppress(OSError):
        _read(path, memory=path.read_bytes())


def _read_file(path: Path) -> None:
    """As fields are read: from the disk."""
    _read(path)


def _read_head(path: Path) -> None:
    """Everything but the values of fields: attributes, dimensions, coordinates."""
    _read(path, n_dims=1)


def _read_attributes_alone(path: Path) -> None:
    """What is found without reading any variable."""
    _read(path, n_dims=-1)


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


WAYS: Mapping[str, Callable[[Path], None]] = MappingProxyType(
    {"bytes": _read_bytes, "file": _read_file, "head": _read_head, "attributes": _read_attributes_alone}
)


def main(way: str, path: str) -> None:
    """The fresh interpreter."""
    import netCDF4  # noqa: F401  its import is not part of the trial

    print(_STARTED, flush=True)
    _limit(SECONDS)
    WAYS[way](Path(path))
    print(_WHOLE, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
