"""Soft limits say what is usual of cycles that had observations; an outage neither raises them nor becomes usual."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from cycler_da.operations import limits
from cycler_da.operations.limits import FEWEST, excesses

TIMES = np.datetime64("2020-01-01", "s") + np.timedelta64(3600, "s") * np.arange(4 * FEWEST)
FULL, EMPTY = {"used": 100.0, "scheme.n_obs": 100.0}, {"used": 0.0, "scheme.n_obs": 0.0}


@pytest.fixture
def found(monkeypatch):
    """Names of the numbers outside their limits, of cycles in this order."""

    def names(*cycles: dict[str, float], hard=None) -> list[str]:
        of = dict(zip(TIMES.tolist(), cycles, strict=False))
        monkeypatch.setattr(limits, "numbers_of_cycle", lambda store, time: of[time.item()])
        times = TIMES[: len(cycles)]
        store = SimpleNamespace(latest=lambda: times[-1], complete_cycles=lambda: list(times))
        return [one.name for one in excesses(store, hard or {})]

    return names


def test_the_first_cycle_after_a_long_outage_is_usual(found):
    assert found(*[FULL] * FEWEST, *[EMPTY] * 2 * FEWEST, FULL) == []


def test_what_is_unusual_beside_the_cycles_before_the_outage_is_found(found):
    half = {"used": 50.0, "scheme.n_obs": 50.0}
    assert found(*[FULL] * FEWEST, *[EMPTY] * 2 * FEWEST, half) == ["used", "scheme.n_obs"]


def test_a_cycle_without_observations_has_hard_limits_alone(found):
    assert found(*[FULL] * FEWEST, EMPTY) == []
    assert found(*[FULL] * FEWEST, EMPTY, hard={"used": [10, None]}) == ["used"]
