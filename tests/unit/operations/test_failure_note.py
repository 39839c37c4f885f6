"""What a failure note says of an error, for who is woken by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cycler_da.errors import CannotWrite
from cycler_da.products.failure import read_failure, write_failure


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (CannotWrite("disk full"), 73, "disk full"),
        (OSError(5, "input/output error"), 75, "[Errno 5] input/output error"),
        (ZeroDivisionError("by zero"), 70, "a bug, ZeroDivisionError: by zero"),
    ],
)
def test_a_bug_is_not_called_temporary(tmp_path: Path, error: Exception, code: int, cause: str) -> None:
    write_failure(tmp_path, np.datetime64("2020-01-01T00:00:00", "s"), "assimilate", error)
    noted = read_failure(tmp_path)
    assert noted is not None and (noted["exit_code"], noted["cause"]) == (code, cause)
