"""Who holds a lock: a process, named so that others can tell whether it still lives.

A process id alone is reused, means nothing on another host and nothing after a reboot. So the host, the
boot, the process-id namespace (containers) and the start of the process are kept with it.
Limit: where /proc is absent only host and process id are known; then a reused id passes for the owner.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """Identity of a process."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str  # clock ticks since boot

    @staticmethod
    def of_this_process() -> Owner:
        """Identity of the running process."""
        pid = os.getpid()
        return Owner(socket.gethostname(), _boot(), _namespace(), pid, _state_and_start(pid)[1])

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Owner | None:
        """Identity as written by `to_json`; None when it is incomplete (the writer was killed half way)."""
        try:
            host, boot, namespace, started = (str(content[key]) for key in ("host", "boot", "namespace", "started"))
            return Owner(host, boot, namespace, int(content["pid"]), started)
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Plain dictionary for a JSON file."""
        return asdict(self)

    def is_here(self) -> bool:
        """True when the process ran on this host, this boot and this process-id namespace."""
        return (self.host, self.boot, self.namespace) == (socket.gethostname(), _boot(), _namespace())

    def is_known_dead(self) -> bool:
        """True when the process is certain to have ended; False when it lives or nothing can be known."""
        if not self.is_here():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it lives and belongs to someone else
        state, started = _state_and_start(self.pid)
        # A zombie runs no more code; another start means that the id was given to a younger process.
        return state == "Z" or (started != "" and self.started != "" and started != self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _boot() -> str:
    return _text("/proc/sys/kernel/random/boot_id")


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _state_and_start(pid: int) -> tuple[str, str]:
    # Fields 3 and 22 of /proc/<pid>/stat; the name in field 2 may hold blanks and brackets.
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else ("", "")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
