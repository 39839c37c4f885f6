"""A reader in a process of its own, for a file may end the one that reads it, or keep it for ever.

HDF5 follows what a file says. A flipped bit in a heap or an index can make it follow a wrong address (SIGSEGV), give up
(SIGABRT) or walk in circles: of 1500 single flips in an observation file with names of variable length, one did. So
what may be damaged is read apart:

    survives_fork   a fork of this process, some ms. Only its yes counts: a fork of many threads may hang for reasons of
                    its own.
    ask_fresh       a fresh interpreter, 0.4 s and its imports, which decides, and can give an answer.

A reader is a function of a module, `reader(path, argument)`; its argument and its answer are JSON. Both processes end
themselves by SIGALRM when their time is up, whoever waits for them, and by nothing that others send meanwhile.

Limit: a disk that does not answer keeps the process and the one who waits for it.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Reader = Callable[[Path, Any], Any]

#: How the fresh interpreter is started; seconds, reader and path follow, the argument comes on its standard input.
COMMAND = (sys.executable, "-m", "cycler_da.apart")
_STARTED, _ENDED = "started", "ended "
_START_SECONDS = 120.0  # for its imports, on a machine that is busy


@dataclass(frozen=True)
class Outcome:
    """What became of a reader in a fresh interpreter."""

    answer: Any = None  # None also when it raised
    raised: str = ""  # what it raised, in words
    end: str = ""  # how its process ended before the reader did, in words that follow a file's name


def survives_fork(reader: Reader, paths: Sequence[Path], argument: Any = None, *, seconds: float) -> bool:
    """Whether a fork of this process comes to the end of reading all files; False also when that is not known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: see above
        try:
            child = os.fork()
        except OSError:
            return False
    if not child:
        _read_and_exit(reader, paths, argument, seconds)
    try:
        return os.waitpid(child, 0)[1] == 0
    except ChildProcessError:  # someone has asked the system to forget children
        return False


def ask_fresh(reader: Reader, path: Path, argument: Any = None, *, seconds: float) -> Outcome:
    """Run a reader in a fresh interpreter; raises OSError when none can be started."""
    command = [*COMMAND, str(seconds), f"{reader.__module__}:{reader.__qualname__}", str(path)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(argument),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_START_SECONDS + seconds,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return Outcome(end=_in_words(-signal.SIGALRM, seconds))
    said = done.stdout.splitlines()
    for line in said:
        if line.startswith(_ENDED):
            return Outcome(**json.loads(line.removeprefix(_ENDED)))
    if _STARTED not in said:
        raise OSError(f"{path} cannot be tried: {' '.join(command[:3])} ended with {done.returncode} ({done.stderr})")
    return Outcome(end=_in_words(done.returncode, seconds))


def call(reader: Reader, path: Path, argument: Any) -> dict[str, Any]:
    """Run a reader here: its answer, or what it raised."""
    try:
        return {"answer": reader(path, argument)}
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}


def _read_and_exit(reader: Reader, paths: Sequence[Path], argument: Any, seconds: float) -> None:
    code = 1
    try:
        gc.disable()  # nothing of the parent's is to be ended here
        faulthandler.disable()
        silent = os.open(os.devnull, os.O_RDWR)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.setsid()
        _limit(seconds)
        for path in paths:
            call(reader, path, argument)
        code = 0
    finally:
        os._exit(code)


def _in_words(code: int, seconds: float) -> str:
    if code == -signal.SIGALRM:
        how = f"keeps the process that reads it for ever (ended after {seconds:g} s)"
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


def main(seconds: str, reader: str, path: str) -> None:
    """The fresh interpreter; what it imports is not part of the reader's time."""
    module, name = reader.split(":")
    found: Reader = getattr(importlib.import_module(module), name)
    argument = json.loads(sys.stdin.read())
    print(_STARTED, flush=True)
    _limit(float(seconds))
    print(f"\n{_ENDED}{json.dumps(call(found, Path(path), argument))}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
