"""Who may import whom: the contracts of pyproject.toml, and what the numerical core needs at run time."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

# Imports every module of the core while all other distributions than the allowed ones look uninstalled. The
# import-linter cannot do this: it sees an import inside a function (allowed, for reading files) like any other.
BARE_MACHINE = """
import importlib, pkgutil, re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

def with_requirements(roots):
    found, waiting = set(), list(roots)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            needs = requires(name) or []
        except PackageNotFoundError:  # a requirement of another platform
            continue
        found.add(name)
        waiting += [re.match(r"[\\w.-]+", need).group() for need in needs if "extra ==" not in need]
    return found

allowed = with_requirements(["torch", "numpy", "safetensors"])
blocked = {
    module
    for module, owners in packages_distributions().items()
    if not any(re.sub(r"[-_.]+", "-", owner).lower() in allowed for owner in owners)
} - {"cycler_da"}
assert {"xarray", "netCDF4", "dask", "prefect", "pydantic", "matplotlib"} <= blocked, "the block list is not complete"

class Uninstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not installed on a bare machine", name=name)

sys.meta_path.insert(0, Uninstalled())
nouns = ["errors", "times", "layout", "ensemble", "noise", "registry"]
names = [f"cycler_da.{noun}" for noun in nouns]
for package in ("cycler_da.generative", "cycler_da.systems"):
    names.append(package)
    names += [m.name for m in pkgutil.walk_packages(importlib.import_module(package).__path__, package + ".")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_import_follows_the_layers(repository):
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter], cwd=repository, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_has_its_place_in_the_layers(repository):
    linter = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in linter["contracts"] if contract["id"] == "layers")
    placed = set(re.findall(r"cycler_da\.(\w+)", " ".join(layers)))
    package = repository / "cycler" / "cycler_da"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert modules - {"__init__"} <= placed, "give new modules a place in the layers contract of pyproject.toml"


def test_the_numerical_core_imports_on_a_machine_with_torch_numpy_and_safetensors_alone():
    result = subprocess.run([sys.executable, "-c", BARE_MACHINE], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > len(["generative", "systems"])
