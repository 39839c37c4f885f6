"""The Python of the documentation is executed, in order, as a reader would who follows the page."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

import cycler_da.setting  # noqa: F401  all kinds are known before the page adds its own, which go again
from cycler_da import registry
from cycler_da.generative.networks import base as networks

PAGES = ["adding.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def _kinds_of_the_page_stay_there(monkeypatch):
    monkeypatch.setattr(registry, "_SPECS", {group: dict(kinds) for group, kinds in registry._SPECS.items()})
    monkeypatch.setattr(networks, "_BUILDERS", dict(networks._BUILDERS))


@pytest.mark.usefixtures("_kinds_of_the_page_stay_there")
@pytest.mark.parametrize("page", PAGES)
def test_python_on_the_page_runs(page, repository, tmp_path, monkeypatch):
    blocks = BLOCK.findall((repository / "docs" / page).read_text())
    assert len(blocks) > 1, f"no Python found in {page}"
    seen: dict[str, object] = {}
    for i_block, text in enumerate(blocks):
        path = tmp_path / f"docs_example_{i_block}.py"
        path.write_text(text)
        if not text.startswith("# cycler/"):
            exec(compile(text, str(path), "exec"), seen)  # a check: it sees the files above it
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        seen.update({name: value for name, value in vars(module).items() if not name.startswith("__")})


@pytest.mark.usefixtures("_kinds_of_the_page_stay_there")
@pytest.mark.parametrize("page", PAGES)
def test_files_shown_on_the_page_lie_where_there_is_such_a_folder_and_collide_with_nothing(page, repository):
    files = re.findall(r"^# (cycler/\S+\.py)$", (repository / "docs" / page).read_text(), re.M)
    assert files
    for file in files:
        assert (repository / file).parent.is_dir(), file
        assert not (repository / file).exists(), f"{file} exists: the page should show something else"


@pytest.mark.parametrize("page", PAGES)
def test_files_shown_on_the_page_keep_the_style_of_the_project(page, repository):
    for text in BLOCK.findall((repository / "docs" / page).read_text()):
        if not text.startswith("# cycler/"):
            continue
        name = text.splitlines()[0].removeprefix("# ")
        for tool in (["check", "--quiet"], ["format", "--diff", "--quiet"]):
            words = [sys.executable, "-m", "ruff", *tool, "--stdin-filename", str(repository / name), "-"]
            result = subprocess.run(words, cwd=repository, input=text, capture_output=True, text=True)
            assert result.returncode == 0, f"{name}: {result.stdout}{result.stderr}"


def test_links_between_pages_lead_somewhere(repository):
    pages = [repository / "README.md", repository / "data" / "README.md", *sorted((repository / "docs").rglob("*.md"))]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(repository)}: {target}")
    assert not broken, "\n".join(broken)


def test_rooms_of_the_tour_exist(repository):
    rooms = re.findall(r"^\| `([\w/*.]+)`", (repository / "docs" / "tour.md").read_text(), re.M)
    assert len(rooms) > 10
    assert [room for room in rooms if not list(repository.glob(room))] == []
