"""The machine a result was made on: what changes timings and last digits, and nothing that names the machine.

No host names, users, paths or addresses: results are published.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from cycler_da.products.provenance import package_version

_CPU_INFO = Path("/proc/cpuinfo")
_GPU_INFO = Path("/proc/driver/nvidia/gpus")
_LIBRARIES = ("torch", "numpy")


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, GPUs where there are any, Python, torch and numpy."""
    facts: dict[str, Any] = {
        "cpu": _value_of(_CPU_INFO, "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: package_version(name) for name in _LIBRARIES},
    }
    return {key: value for key, value in facts.items() if value not in (None, [])}


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpus() -> list[str]:
    # Read from the driver's folder: asking torch would import it and open the device.
    found = sorted(_GPU_INFO.glob("*/information")) if _GPU_INFO.is_dir() else []
    return [name for path in found if (name := _value_of(path, "Model"))]


def _value_of(path: Path, key: str) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key and value.strip():
            return value.strip()
    return None
