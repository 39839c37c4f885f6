"""The package as it is installed and as it lies in the repository."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import yaml

import cycler_da

FORBIDDEN = {
    # A path is absolute when nothing that could be its parent stands before it.
    "a path of one machine": re.compile(r"(?:(?<=^)|(?<=[\s\"'`(=:,]))/(?:work|farm|home|root|Users|tmp/env)/", re.M),
    "a package registry": re.compile(
        "|".join(re.escape(h) for h in ("pypi" + ".org", "python" + "hosted", "find" + "-links"))
    ),
    "a private folder": re.compile(re.escape(".lib" + "rary/")),
}
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".cfg", ".html", ".css", ".js", ".sh", ".service", ""}


#: What tools make in a checkout.
MADE = {".venv", ".git", "runs", "dist", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache"}
MADE |= {".import_linter_cache", ".hypothesis", ".benchmarks"}


@pytest.fixture(scope="module")
def tracked_files(repository: Path) -> list[Path]:
    """Files of the project: what git tracks, or in a copy without git everything that is not made by a tool."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        files = [repository / name for name in listed.stdout.split("\0") if name]
    else:
        rooms = [path for path in repository.iterdir() if path.name not in MADE]
        files = [path for room in rooms for path in (room, *room.rglob("*")) if not MADE & set(path.parts)]
    return [path for path in files if path.is_file()]


def test_matplotlib_finds_its_own_cycler_from_the_repository_root(repository, tmp_path):
    program = (
        "import cycler, matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot as plt; "
        "assert cycler.cycler(color='rgb'), cycler; import cycler_da; "
        f"figure, axes = plt.subplots(); axes.plot([0, 1], [0, 1]); figure.savefig({str(tmp_path / 'a.png')!r}); "
        "colours = axes.lines[0].get_color(), axes.plot([0], [0])[0].get_color(); "
        "print(*map(matplotlib.colors.to_hex, colours))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["#1f77b4", "#ff7f0e"]  # the first two colours that matplotlib cycles through
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_the_source_folder_is_no_package(repository):
    assert not (repository / "cycler" / "__init__.py").exists()


def test_the_version_is_the_same_everywhere(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert cycler_da.__version__ == project["version"] == version("cycler-da")
    assert f"## [{project['version']}]" in (repository / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(("group", "name"), [("console_scripts", "cycler"), ("cycler_da.orchestrators", "prefect")])
def test_entry_points_lead_to_something_to_call(group, name):
    (entry,) = entry_points(group=group, name=name)
    assert callable(entry.load())


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(repository, tracked_files, what):
    found = []
    for path in tracked_files:
        if path.suffix in TEXT:
            for match in FORBIDDEN[what].finditer(path.read_text(errors="replace")):
                found.append(f"{path.relative_to(repository)}: {match.group()}")
    assert not found, "\n".join(found)


def test_every_yaml_under_config_is_a_mapping(repository):
    files = sorted((repository / "config").rglob("*.yaml"))
    assert files, "no config found"
    for path in files:
        content = yaml.safe_load(path.read_text())
        assert isinstance(content, dict), f"{path}: expected a mapping, got {type(content).__name__}"
        assert content, f"{path} is empty"


def test_ci_runs_the_command_that_the_readme_shows(repository):
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    marked = re.search(
        r"<!-- *test-command *-->(.*?)<!-- */?test-command *-->", (repository / "README.md").read_text(), re.S
    )
    assert marked, "README.md shows no test command between <!-- test-command --> marks"
    words = shlex.split(re.sub(r"^\s*```.*$", "", marked.group(1), flags=re.M))
    assert words == shlex.split(
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && "
        ".venv/bin/python -m pytest -q -n 2 --dist loadfile"
    )
    subprocess.run(["bash", "-n", script], check=True)
