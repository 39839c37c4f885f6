"""The served process of a soak: started, watched, killed and started again from outside.

It is the command an operator runs, `cycler serve CONFIG --orchestrator none`, in an interpreter of its own; only its
clock is a file. A fault in its environment ends it, or fills its disk, at a named point (faultpoint.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cycler_da.bench.operations.soak_case import SoakCase
from cycler_da.faultpoint import VARIABLE

SERIAL = "executor={kind: serial}"
LOCAL = "executor={kind: local, workers: 2}"

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") / 1024


@dataclass
class Server:
    """One process at a time; `starts` counts all there were."""

    case: SoakCase
    starts: int = 0
    process: subprocess.Popen | None = field(default=None, repr=False)

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self, *, fault: str = "", executor: str = SERIAL) -> None:
        """Start it unless it runs."""
        if self.is_alive():
            return
        command = [sys.executable, "-m", "cycler_da", "serve", str(self.case.config), "--orchestrator", "none"]
        command += ["--every", "1s", "--clock", f"file:{self.case.clock}", "--set", executor]
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment |= {VARIABLE: fault} if fault else {}
        with self.log.open("ab") as log:
            # A session of its own: a signal for the process reaches nobody else.
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.starts += 1

    @property
    def log(self) -> Path:
        """All that the processes said."""
        return self.case.folder / "serve.log"

    def kill(self) -> None:
        """End it as a power cut would; workers end because their scheduler has gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def drain(self) -> int:
        """Ask it to stop and wait; returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=3600)

    def kill_worker(self) -> bool:
        """Kill one of its worker processes; False when it has none."""
        for child in self._children():
            if b"spawn_main" in _command(child):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                    return True
        return False

    def memory(self) -> float:
        """Resident memory of the process, MiB; 0 when it does not run."""
        try:
            assert self.process is not None
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, AssertionError):
            return 0.0
        return pages * _PAGE_KIB / 1024

    def _children(self) -> list[int]:
        if not self.is_alive() or self.process is None:
            return []
        found = []
        for thread in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(pid) for pid in thread.read_text().split()]
        return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
