"""The checks of style and types are tests, so that one command passes everything."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["ruff", "check", "."], id="ruff finds nothing"),
        pytest.param(["ruff", "format", "--check", "."], id="files are formatted"),
        pytest.param(["mypy"], id="public functions are typed"),
    ],
)
def test_the_tool_has_no_complaint(repository, arguments):
    result = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=repository, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr
