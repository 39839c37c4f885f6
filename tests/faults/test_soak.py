"""A short soak: a service under faults ends with the bytes of a run that nothing disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cycler_da.bench.operations.soak import _compared, _published, disturb, undisturbed
from cycler_da.bench.operations.soak_case import make_case
from cycler_da.bench.registry import no_progress

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def test_a_service_under_faults_publishes_every_cycle_once_and_none_that_is_wrong(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", cycles=25)
    _, trouble, _ = disturb(case, no_progress)
    reference, _ = undisturbed(case, tmp_path / "reference")
    rows = [*_published(case), *_compared(case, reference)]
    assert sum(trouble.counts.values()) > 0
    assert {row.metric: row.value for row in rows if row.case == "must be 0" and row.value} == {}
    assert next(row.value for row in rows if row.metric == "cycles") == 25
