from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from cycler_da.faultpoint import reach

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


def test_a_disk_is_full_at_one_visit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLER_FAULT", "a.full.point:2=full")
    reach("a.full.point")
    with pytest.raises(OSError, match="No space left") as refused:
        reach("a.full.point")
    assert refused.value.errno == errno.ENOSPC
    reach("a.full.point")
