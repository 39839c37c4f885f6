from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
from cycler_da.faultpoint import reach
for turn in range(4):
    reach("a.point")
    reach("another.point")
    print(turn, flush=True)
"""


@pytest.mark.parametrize(
    ("fault", "code", "turns"),
    [("", 0, 4), ("no.such.point", 0, 4), ("a.point", -9, 0), ("another.point:3", -9, 2), ("a.point:9", 0, 4)],
)
def test_a_process_dies_at_the_visit_that_a_drill_asks_for(fault: str, code: int, turns: int) -> None:
    environment = os.environ | {"CYCLER_FAULT": fault}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.split())) == (code, turns)
