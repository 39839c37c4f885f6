"""What a result says about its machine, and what it must not say."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
from pathlib import Path

import pytest

from cycler_da.tables import machine as machine_module
from cycler_da.tables.machine import machine


def test_versions_are_those_of_the_installed_distributions() -> None:
    facts = machine()
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == importlib.metadata.version("torch")
    assert facts["numpy"] == importlib.metadata.version("numpy")


def test_cores_are_those_this_process_may_use() -> None:
    assert machine()["cores"] == len(os.sched_getaffinity(0))


def test_nothing_names_the_machine_its_user_or_a_path() -> None:
    text = json.dumps(machine())
    for private in (platform.node(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        assert private not in text


def test_processor_and_gpus_are_read_from_the_kernel_and_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nmodel name\t: other\n")
    (tmp_path / "gpus" / "0000:01").mkdir(parents=True)
    (tmp_path / "gpus" / "0000:01" / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 5\n")
    monkeypatch.setattr(machine_module, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine_module, "_GPU_INFO", tmp_path / "gpus")
    assert machine()["cpu"] == "Some CPU @ 2 GHz"
    assert machine()["gpus"] == ["NVIDIA H200"]


def test_a_machine_without_these_files_still_has_a_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "_CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr(machine_module, "_GPU_INFO", tmp_path / "absent")
    assert machine()["cpu"] == platform.machine()
    assert "gpus" not in machine()
