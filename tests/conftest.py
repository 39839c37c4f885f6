"""What every test relies on: one thread, no display, no network, a private Prefect home, the real radar data."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")
_PREFECT_HOME = tempfile.mkdtemp(prefix="cycler-prefect-")

# Read by libraries when they are first imported, and inherited by every process that a test starts.
os.environ.update(
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",  # on a few cores, more threads make torch slower, not faster
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    PREFECT_HOME=_PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
    DO_NOT_TRACK="1",
)
os.environ.pop("COLUMNS", None)  # processes of `pytest -n` have it; our messages would be broken into lines of it
if "torch" in sys.modules:  # a plugin was faster than the environment above
    sys.modules["torch"].set_num_threads(1)


def pytest_unconfigure() -> None:
    """Remove the private Prefect home."""
    shutil.rmtree(_PREFECT_HOME, ignore_errors=True)


class NetworkUsed(OSError):
    """A test tried to reach another machine."""


@pytest.fixture(scope="session", autouse=True)
def _blocked_attempts() -> Iterator[list[str]]:
    """Refuse every connection that leaves this machine, and write down who was called."""
    attempts: list[str] = []
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def require_local(host: object, what: str) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        if name in (None, "", socket.gethostname()) or str(name).startswith(_LOOPBACK):
            return
        attempts.append(f"{what} {name}")
        raise NetworkUsed(f"tests run without network: {what} {name!r} was refused")

    def is_remote_stream(sock: socket.socket) -> bool:
        # Connecting a datagram socket sends nothing; dask finds its own address in that way.
        return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM

    def guarded_connect(sock: socket.socket, address: tuple) -> None:
        if is_remote_stream(sock):
            require_local(address[0], "connect to")
        return connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address: tuple) -> int:
        if is_remote_stream(sock):
            require_local(address[0], "connect to")
        return connect_ex(sock, address)

    def guarded_resolve(host: object, *args: object, **kwargs: object) -> list:
        require_local(host, "look up")
        return resolve(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_resolve)
        yield attempts


@pytest.fixture(autouse=True)
def no_network(_blocked_attempts: list[str]) -> Iterator[list[str]]:
    """Fail a test that tried to leave the machine, even where the library swallowed the refusal."""
    _blocked_attempts.clear()
    yield _blocked_attempts
    assert not _blocked_attempts, f"the test used the network: {', '.join(_blocked_attempts)}"


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real radar files; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CYCLER_REALDATA") or REPOSITORY.parent / "shared" / "realdata").resolve()
    if not folder.is_dir():
        pytest.skip(f"no real radar data at {folder}; set CYCLER_REALDATA to the folder that holds it")
    return folder
