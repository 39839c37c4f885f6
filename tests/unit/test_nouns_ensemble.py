"""The ensemble: statistics equal numpy's, and what does not fit together is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble, append_times, join_members
from cycler_da.errors import LayoutMismatch
from cycler_da.layout import Axis, Grid, Layout, Variable

LAYOUT = Layout(
    "toy", (Variable("a", "K", "first"), Variable("b", "K", "second")), Grid((Axis("x", 5),)), np.timedelta64(1, "h")
)
START = np.datetime64("2020-01-01T00:00:00", "s")


def times(n_times: int, first: int = 0) -> np.ndarray:
    return START + np.arange(first, first + n_times) * np.timedelta64(1, "h")


def make_ensemble(n_members: int = 7, n_times: int = 2, *, offset: float = 0.0, dtype=np.float64) -> Ensemble:
    values = np.random.default_rng(5).normal(size=(n_members, n_times, 2, 5)).astype(dtype) + dtype(offset)
    return Ensemble(torch.from_numpy(values), times(n_times), tuple(range(n_members)), LAYOUT)


def test_mean_and_spread_equal_numpy():
    ensemble = make_ensemble()
    values = ensemble.values.numpy()
    # Two float64 sums of 7 numbers of order 1: a few units in the last place.
    np.testing.assert_allclose(ensemble.mean().numpy(), values.mean(axis=0), rtol=0, atol=1e-15)
    np.testing.assert_allclose(ensemble.spread().numpy(), values.std(axis=0, ddof=1), rtol=1e-14)


def test_statistics_of_float32_members_are_accumulated_in_float64():
    ensemble = make_ensemble(n_members=64, offset=1.0e5, dtype=np.float32)
    exact = ensemble.values.numpy().astype(np.float64)
    assert ensemble.mean().dtype == torch.float64
    # Far below what float32 sums of values near 1e5 could give (spacing 0.008).
    np.testing.assert_allclose(ensemble.mean().numpy(), exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(ensemble.spread().numpy(), exact.std(axis=0, ddof=1), rtol=1e-9)


def test_the_spread_of_one_member_is_refused_not_nan():
    with pytest.raises(LayoutMismatch, match="expected 2 or more"):
        make_ensemble(n_members=1).spread()


@pytest.mark.parametrize("shape", [(7, 2, 2, 4), (6, 2, 2, 5), (7, 3, 2, 5), (7, 2, 5, 2), (7, 2, 2, 5, 1), (7, 2, 10)])
def test_values_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(LayoutMismatch, match=r"expected \(7, 2, 2, 5\)") as caught:
        Ensemble(torch.zeros(shape), times(2), tuple(range(7)), LAYOUT)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("order", [[1, 0], [0, 0]])
def test_valid_times_that_do_not_increase_are_refused(order):
    with pytest.raises(LayoutMismatch, match="must increase"):
        Ensemble(torch.zeros(1, 2, 2, 5), times(2)[order], (0,), LAYOUT)


def test_batches_joined_again_are_the_ensemble():
    whole = make_ensemble()
    again = join_members([whole.select(slice(0, 3)), whole.select([3]), whole.select(slice(4, None))])
    assert torch.equal(again.values, whole.values)
    assert again.members == whole.members


def test_selection_is_by_position_and_keeps_the_ids():
    later = Ensemble(make_ensemble().values, times(2), tuple(range(100, 107)), LAYOUT)
    chosen = later.select([6, 0])
    assert chosen.members == (106, 100)
    assert torch.equal(chosen.values, later.values[[6, 0]])


def test_latest_is_the_last_valid_time():
    ensemble = make_ensemble(n_times=3)
    assert ensemble.valid_time == times(3)[-1]
    assert torch.equal(ensemble.latest, ensemble.values[:, 2])
    assert torch.equal(ensemble.at_latest().values[:, 0], ensemble.latest)
    assert ensemble.at_latest().valid_times.tolist() == times(3)[2:].tolist()


def test_frames_split_in_time_and_appended_are_the_ensemble():
    whole = make_ensemble(n_times=3)
    early = Ensemble(whole.values[:, :2], times(2), whole.members, LAYOUT)
    late = Ensemble(whole.values[:, 2:], times(1, first=2), whole.members, LAYOUT)
    assert torch.equal(append_times(early, late).values, whole.values)
    with pytest.raises(LayoutMismatch, match="must increase"):
        append_times(late, early)


def test_what_differs_is_not_joined():
    ensemble = make_ensemble(n_times=1)
    moved = Ensemble(ensemble.values, times(1, first=1), ensemble.members, LAYOUT)
    with pytest.raises(LayoutMismatch, match="different valid times"):
        join_members([ensemble, moved])
    with pytest.raises(LayoutMismatch, match="different members"):
        append_times(ensemble, moved.select(slice(0, 3)))
    foreign = Layout("other", LAYOUT.variables, LAYOUT.grid, LAYOUT.step)
    with pytest.raises(LayoutMismatch, match="differs at system"):
        join_members([ensemble, Ensemble(ensemble.values, ensemble.valid_times, ensemble.members, foreign)])


def test_with_values_leaves_the_original_untouched():
    ensemble = make_ensemble()
    before = ensemble.values.clone()
    doubled = ensemble.with_values(2 * ensemble.values)
    assert torch.equal(doubled.values, 2 * before)
    assert torch.equal(ensemble.values, before)
