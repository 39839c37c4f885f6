from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cycler_da.products.statistics import Moments

members = arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=st.floats(-1e3, 1e3))


def _moments(values: np.ndarray) -> Moments:
    moments = Moments.empty(values.shape[1:])
    for member in values:
        moments = moments.add(member)
    return moments


@given(members)
@settings(max_examples=60, deadline=None)
def test_running_mean_and_spread_equal_those_of_all_members_at_once(values: np.ndarray) -> None:
    moments = _moments(values)
    # 12 members of size 1e3: rounding of at most 12 * 1e3 * 2^-52.
    np.testing.assert_allclose(moments.mean, values.mean(axis=0), atol=1e-11)
    np.testing.assert_allclose(moments.spread() ** 2, values.var(axis=0, ddof=1), rtol=1e-12, atol=1e-9)


@given(members, members)
@settings(max_examples=60, deadline=None)
def test_joining_two_groups_equals_adding_all_members(first: np.ndarray, second: np.ndarray) -> None:
    second = np.resize(second, (len(second), first.shape[1]))
    joined = _moments(first).join(_moments(second))
    together = _moments(np.concatenate([first, second]))
    assert joined.count == together.count
    np.testing.assert_allclose(joined.mean, together.mean, atol=1e-11)
    np.testing.assert_allclose(joined.squares, together.squares, rtol=1e-11, atol=1e-8)


def test_spread_survives_an_offset_a_billion_times_larger() -> None:
    # A sum of squares would keep no digit here: (1e9)^2 * 2^-52 is about 200.
    values = 1e9 + np.asarray([[4.0], [7.0], [13.0], [16.0]])
    assert _moments(values).spread()[0] == pytest.approx(np.sqrt(30.0), rel=1e-12)


def test_joining_nothing_changes_nothing() -> None:
    some = _moments(np.asarray([[1.0], [5.0]]))
    for joined in (some.join(Moments.empty((1,))), Moments.empty((1,)).join(some)):
        assert (joined.count, joined.mean[0], joined.squares[0]) == (2, 3.0, 8.0)
    assert Moments.empty((1,)).join(Moments.empty((1,))).count == 0


def test_the_spread_of_one_member_is_refused() -> None:
    with pytest.raises(ValueError, match="spread of 1 member"):
        _moments(np.ones((1, 2))).spread()
