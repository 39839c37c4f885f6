"""The guards of conftest.py work: a guard that lets everything through would never be noticed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch


def test_a_connection_to_another_machine_is_refused_and_written_down(no_network):
    # 192.0.2.0/24 is reserved for documentation (RFC 5737): nobody answers there.
    with pytest.raises(OSError, match="tests run without network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="tests run without network"):
        socket.getaddrinfo("example.invalid", 443)
    assert len(no_network) == 2
    no_network.clear()  # else this test would fail, as it should for any other


def test_a_connection_within_this_machine_is_allowed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(("localhost", server.getsockname()[1]), timeout=5)
        with client:
            assert client.getpeername()[0] == "127.0.0.1"


def test_torch_runs_on_one_thread():
    assert torch.get_num_threads() == 1


def test_prefect_writes_to_a_private_folder():
    home = Path(os.environ["PREFECT_HOME"])
    assert home.is_dir()
    assert Path.home() / ".prefect" != home
