"""Runs `cycler` commands in processes of their own, without paying for the imports each time.

    python -m cycler_da.drills.command_server

For each line of JSON on stdin, a list of runs (arguments of `run` below), it forks one process per run, all at once,
and answers with a list of {code, output}; code < 0 is the signal that ended it.

A forked process is a real one: it can be killed, race another and meet a full disk. The heartbeat of the locks is
shortened, so that the lock of a killed process is free after a fraction of a second. The arguments `look CONFIG TIME
[KEY=VALUE]...` are no command: one look of the service at a data time, the loop of `cycler serve` without its waiting.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time as clock
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from cycler_da import experiment, faultpoint
from cycler_da.clock import HandClock
from cycler_da.drills import sabotage as breaking
from cycler_da.operations.serving import look
from cycler_da.products.provenance import code_version
from cycler_da.products.store import Store
from cycler_da.setting import load_setting
from cycler_da.times import parse_time

HEARTBEAT = np.timedelta64(50, "ms")
LIMIT_SECONDS = 120.0

#: The program that is run, by its name: drills stand below the command line and start it as its user would.
PROGRAM = "cycler_da.cli"


def run(
    arguments: list[str],
    environment: Mapping[str, str] = MappingProxyType({}),
    signal_number: int = signal.SIGKILL,
    file_limit: int | None = None,
    memory_limit: int | None = None,
    umask: int | None = None,
    sabotage: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> int:
    """Run a command; at the fault point that the environment names, the process sends itself a signal.

    `memory_limit` is in bytes beyond what the process has, `sabotage` is by name and options (sabotage.py).
    """
    os.environ.update(environment)
    for way, options in sabotage.items():
        breaking.apply(way, dict(options))
    faultpoint.signal = SimpleNamespace(SIGKILL=signal_number)  # type: ignore[assignment]
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if memory_limit is not None:
        most = _address_space() + memory_limit
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if umask is not None:
        os.umask(umask)
    try:
        if arguments[0] == "look":
            return _look(*arguments[1:])
        importlib.import_module(PROGRAM).app(arguments, prog_name="cycler")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def fork(output: Path, job: dict[str, Any], *, kill_after: float = LIMIT_SECONDS, start_after: float = 0.0) -> int:
    """Run a job in a new process, which SIGALRM ends at once when its time is up."""
    output.touch()
    child = os.fork()
    if child:
        return child
    # A session of its own: what the command starts can be ended with it.
    os.setsid()
    # Shells start background jobs with SIGINT ignored, and children inherit that; an operator's terminal does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, kill_after)
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    code = 1
    clock.sleep(start_after)
    try:
        code = run(**job)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _timing(job: dict[str, Any]) -> dict[str, float]:
    return {name: job.pop(name) for name in ("kill_after", "start_after") if name in job}


def _wait(children: Sequence[int], paused: Sequence[bool]) -> list[int]:
    """Exit codes; those that stop themselves (SIGSTOP) are told to go on when all others have ended."""
    codes = dict.fromkeys(children, 0)
    for child, _ in sorted(zip(children, paused, strict=True), key=lambda pair: pair[1]):
        status = os.waitpid(child, os.WUNTRACED)[1]
        while os.WIFSTOPPED(status):
            os.kill(child, signal.SIGCONT)
            status = os.waitpid(child, os.WUNTRACED)[1]
        codes[child] = os.waitstatus_to_exitcode(status)
    return list(codes.values())


def _look(config: str, now: str, *overrides: str) -> int:
    """What `cycler serve --orchestrator none` does every few minutes."""
    setting = load_setting(Path(config), overrides)
    with experiment.Experiment(setting, clock=HandClock(parse_time(now)), is_served=True) as plan:
        plan.prepare()
        done = look(plan, stop=threading.Event())
    sys.stdout.write(f"{done.text}\n")
    return done.exit_code


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    """Serve until stdin ends."""
    torch.set_num_threads(1)
    importlib.import_module(PROGRAM)
    code_version()  # asks git, once for all children: a commit during the tests must not look like a change
    Store.lock.__wrapped__.__kwdefaults__["heartbeat"] = HEARTBEAT  # type: ignore[attr-defined]
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            jobs = [(Path(folder) / str(k), job) for k, job in enumerate(json.loads(line))]
            paused = [job.pop("is_paused", False) for _, job in jobs]
            children = [fork(output, job, **_timing(job)) for output, job in jobs]
            codes = _wait(children, paused)
            answers = [
                {"code": code, "output": output.read_text()} for (output, _), code in zip(jobs, codes, strict=True)
            ]
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main()
