"""Quality control: each check by an exact example, then what must hold for all of them together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.base import QC, Locations, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.obs.qc import CHECKS, QCSettings, flag_counts, quality_control

DAY = np.timedelta64(24, "h")


def _control(batches, layout, window, *, hx=None, noise=None, **options):
    batches = batches if isinstance(batches, list) else [batches]
    observations = Observations(tuple(batches), layout)
    if hx is None:
        # Two members around the observations: mean y, spread sqrt(2).
        y = torch.nan_to_num(observations.values, nan=0.0, posinf=0.0, neginf=0.0)
        hx = torch.stack([y - 1.0, y + 1.0])
    return quality_control(observations, hx, window=window, settings=QCSettings(**options), noise=noise or Noise(1))


def _flags(*args, **options):
    return _control(*args, **options).flags.tolist()


def _in_a_row(make_batch, layout, values, **others):
    return make_batch(layout, position=[[float(i)] for i in range(len(values))], values=values, **others)


def test_sound_observations_are_used_without_a_reason(make_batch, ring, window):
    controlled = _control(_in_a_row(make_batch, ring, [1.0, 2.0, 3.0]), ring, window)
    assert controlled.flags.tolist() == [0, 0, 0]
    assert controlled.batches[0].reasons == ("", "", "")


def test_values_that_mean_nothing_are_missing(make_batch, ring, window):
    marks = [float("nan"), float("inf"), -99.0, -999.0, -9999.0, float(np.float32(1e20)), 255.0, -99.5]
    controlled = _control(_in_a_row(make_batch, ring, marks), ring, window)
    assert controlled.flags.tolist() == [10] * 6 + [0, 0]
    assert controlled.batches[0].reasons[:3] == (
        "no value", "the value inf is not finite", "the value -99 marks a missing one",
    )  # fmt: skip
    assert _flags(_in_a_row(make_batch, ring, [255.0, -99.0]), ring, window, missing_values=(255.0,)) == [10, 0]


def test_the_provider_s_mark_is_kept_with_its_reason(make_batch, ring, window):
    batch = _in_a_row(make_batch, ring, [1.0, 1.0, 1.0], flags=[11, 22, 0], reasons=("PreQC is 3 in the file", "", ""))
    controlled = _control(batch, ring, window)
    assert controlled.flags.tolist() == [11, 22, 0]
    assert controlled.batches[0].reasons == ("PreQC is 3 in the file", "rejected before this cycle", "")


def test_values_outside_the_bounds_are_rejected_with_numbers(make_batch, ring, window):
    controlled = _control(_in_a_row(make_batch, ring, [-2.0, 2.0, 2.1]), ring, window, bounds={"x": (-1.0, 2.0)})
    assert controlled.flags.tolist() == [12, 0, 12]
    assert controlled.batches[0].reasons[2] == "x 2.1 1 is outside [-1, 2]"


def test_without_bounds_the_valid_range_is_widened_by_the_error(make_batch, patch, window):
    # vil is valid in [0, 80]; an error of 0.5 explains a value down to -2.5 at five standard deviations.
    batch = make_batch(patch, position=[[1000.0 * i, 0.0] for i in (1, 2, 3, 4)], values=[-2.4, -2.6, 82.4, 255.0])
    assert _flags(batch, patch, window) == [0, 12, 0, 12]


def test_what_lies_outside_grid_or_window_is_out_of_domain(make_batch, patch, window, valid_time):
    batch = make_batch(
        patch,
        position=[[1000.0, 0.0], [400.0, 0.0], [float("nan"), 0.0], [1000.0, 0.0], [1500.0, 0.0], [2000.0, 0.0]],
        values=[1.0] * 6,
        times=[valid_time, valid_time, valid_time, window.start, valid_time + DAY, np.datetime64("NaT")],
    )
    hx = torch.ones(2, 6, dtype=torch.float64)
    hx[:, 1:3] = torch.nan
    controlled = _control(batch, patch, window, hx=hx)
    assert controlled.flags.tolist() == [0, 13, 13, 13, 13, 13]
    assert controlled.batches[0].reasons[1:] == (
        "position y = 400 m, x = 0 m is outside the grid",
        "position y = nan m, x = 0 m is outside the grid",
        "time 2020-01-01T00:00:00Z is outside (2020-01-01T00:00:00Z, 2020-01-02T00:00:00Z]",
        "time 2020-01-03T00:00:00Z is outside (2020-01-01T00:00:00Z, 2020-01-02T00:00:00Z]",
        "no time",
    )


def test_a_file_of_another_day_is_rejected_as_a_whole(make_batch, ring, window, valid_time):
    batch = _in_a_row(make_batch, ring, [1.0, 2.0], times=[valid_time - DAY, valid_time - DAY])
    assert _flags(batch, ring, window) == [13, 13]


def test_the_domain_is_that_of_the_operator(make_batch, patch, window):
    edge = {"position": [[100.0, 0.0]], "values": [1.0]}
    hx = torch.ones(2, 1, dtype=torch.float64)
    assert _flags(make_batch(patch, **edge), patch, window, hx=hx) == [13]
    assert _flags(make_batch(patch, **edge, operator=CellSpec().build(patch)), patch, window, hx=hx) == [0]


def test_listed_stations_are_rejected(make_batch, ring, window):
    batch = _in_a_row(make_batch, ring, [1.0, 1.0], stations=["good", "bad"])
    controlled = _control(batch, ring, window, blacklist=("bad", "worse"))
    assert controlled.flags.tolist() == [0, 14]
    assert controlled.batches[0].reasons[1] == "station bad is on the blacklist"


def test_an_operator_that_fails_for_one_member_rejects_the_observation(make_batch, ring, window):
    hx = torch.tensor([[1.0, 1.0], [1.0, torch.nan], [1.0, 1.0]], dtype=torch.float64)
    controlled = _control(_in_a_row(make_batch, ring, [1.0, 1.0]), ring, window, hx=hx)
    assert controlled.flags.tolist() == [0, 15]
    assert controlled.batches[0].reasons[1] == "H(x) of 1 of 3 members is not finite"


def test_background_check_compares_with_spread_and_error(make_batch, ring, window):
    # Members -3, 0, 3: mean 0, spread 3; error 4: five expected deviations are 25.
    hx = torch.tensor([[-3.0], [0.0], [3.0]], dtype=torch.float64).expand(3, 4)
    batch = _in_a_row(make_batch, ring, [24.999, 25.001, -25.001, 0.0], error=4.0)
    controlled = _control(batch, ring, window, hx=hx)
    assert controlled.flags.tolist() == [0, 19, 19, 0]
    assert controlled.batches[0].reasons[1] == (
        "|y - H(background)| = x 25 1 is 5 expected deviations (5: spread 3, error 4); limit 5"
    )
    assert _flags(batch, ring, window, hx=hx, background_check=None) == [0, 0, 0, 0]
    assert _flags(batch, ring, window, hx=hx, background_check=4.0) == [19, 19, 19, 0]


def test_one_member_has_no_spread(make_batch, ring, window):
    hx = torch.zeros(1, 2, dtype=torch.float64)
    assert _flags(_in_a_row(make_batch, ring, [2.4, 2.6]), ring, window, hx=hx) == [0, 19]


def test_of_copies_the_one_with_the_smallest_error_stays(make_batch, ring, window):
    batch = make_batch(
        ring, position=[[3.0], [3.0], [3.0], [4.0]], values=[1.0, 1.1, 1.2, 1.3], error=[0.5, 0.4, 0.6, 0.5],
        stations=["a", "a", "a", "a"],
    )  # fmt: skip
    controlled = _control(batch, ring, window)
    assert controlled.flags.tolist() == [16, 0, 16, 0]
    assert controlled.batches[0].reasons[0] == f"duplicate of {batch.ids[1]}, which stays"


def test_a_file_given_twice_changes_nothing(make_batch, torus, window):
    position = [[10.0 * i, 1000.0 + 37.0 * i] for i in range(20)]
    batch = make_batch(torus, position=position, values=[0.1 * i for i in range(20)], channel=[0, 1] * 10)
    once = _control(batch, torus, window).used()
    twice = _control([batch, replace(batch, stream="copy")], torus, window).used()
    assert once.values.tolist() == sorted(twice.values.tolist())
    assert torch.equal(once.positions, twice.positions[twice.values.argsort()])


def test_streams_have_their_own_settings(make_batch, ring, window):
    one = _in_a_row(make_batch, ring, [1.0, 2.0, 255.0], stream="one")
    two = make_batch(ring, position=[[10.0], [11.0], [12.0]], values=[1.0, 2.0, 255.0], stream="two")
    settings = {"one": QCSettings(bounds={"x": (0.0, 1.5)}), "two": QCSettings(missing_values=(255.0,))}
    observations = Observations((one, two), ring)
    hx = observations.values.expand(2, -1)
    controlled = quality_control(observations, hx, window=window, settings=settings, noise=Noise(1))
    assert controlled.flags.tolist() == [0, 12, 12, 0, 0, 10]


def test_copies_in_another_stream_are_found_with_the_tightest_tolerance(make_batch, ring, window):
    one = make_batch(ring, position=[[3.0], [5.0]], values=[1.0, 2.0], stations=["a", "b"], stream="one")
    two = make_batch(ring, position=[[3.0], [5.005]], values=[1.0, 2.0], stations=["a", "b"], stream="two", error=0.6)
    observations = Observations((one, two), ring)
    hx = observations.values.expand(2, -1)
    for distance, expected in ((0.01, [0, 0, 16, 16]), (0.0, [0, 0, 16, 0])):
        settings = {"one": QCSettings(duplicate_distance=distance), "two": QCSettings()}
        controlled = quality_control(observations, hx, window=window, settings=settings, noise=Noise(1))
        assert controlled.flags.tolist() == expected


def test_copies_with_rounded_coordinates_and_times_are_found(make_batch, torus, window, valid_time):
    batch = make_batch(
        torus,
        # A hundredth of a cell is 1 m along y and 2.5 m along x; the last two face each other across the seam.
        position=[[100.0, 1500.0], [100.4, 1501.0], [104.0, 1500.0], [-50.0 + 0.2, 1300.0], [550.0 - 0.2, 1300.0]],
        values=[1.0, 1.0, 1.0, 2.0, 2.0],
        error=[0.5, 0.6, 0.7, 0.5, 0.6],
        times=[valid_time, valid_time - np.timedelta64(20, "s")] + [valid_time] * 3,
    )
    assert _flags(batch, torus, window) == [0, 16, 0, 0, 16]
    assert _flags(batch, torus, window, duplicate_time="10s") == [0, 0, 0, 0, 16]
    assert _flags(batch, torus, window, duplicate_distance=0.0) == [0, 0, 0, 0, 0]


def test_two_variables_at_one_place_are_no_copies(make_batch, torus, window):
    batch = make_batch(torus, position=[[0.0, 1000.0]] * 2, values=[1.0, 1.0], channel=[0, 1], stations=["a", "a"])
    assert _flags(batch, torus, window) == [0, 0]


def test_two_instruments_at_one_place_are_no_copies(make_batch, ring, window):
    one = make_batch(ring, position=[[3.0]], values=[1.0], stations=["a"])
    other = make_batch(ring, position=[[3.0]], values=[1.1], stations=["b"], stream="other")
    assert _flags([one, other], ring, window) == [0, 0]


def test_a_bad_copy_does_not_replace_a_good_one(make_batch, ring, window):
    # The copy 20 standard deviations off has the smaller error and would win if it were looked at first.
    hx = torch.tensor([[0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    batch = make_batch(ring, position=[[3.0], [3.0]], values=[0.1, 8.0], error=[0.5, 0.4], stations=["a", "a"])
    assert _flags(batch, ring, window, hx=hx) == [0, 19]


def test_thinning_keeps_one_observation_in_each_box(make_batch, torus, window):
    generator = torch.Generator().manual_seed(4)
    position = torch.rand(200, 2, generator=generator, dtype=torch.float64) * 1500.0
    batch = make_batch(torus, position=position.tolist(), values=[0.0] * 200, channel=[0, 1] * 100)
    used = _control(batch, torus, window, thinning_box=500.0, duplicate_distance=0.0).used().batches[0]
    # Boxes of 500 m from the lower edge of the first cell: y from -100 on a ring of 600 m, x from 875 of 2000 m.
    box = torch.stack(
        [(used.where.position[:, 0] + 100.0) % 600 // 500, (used.where.position[:, 1] - 875.0) % 2000 // 500]
    )
    keys = [tuple(key) for key in torch.cat([box, used.where.channel[None]]).T.tolist()]
    everything = torch.stack([(position[:, 0] + 100.0) % 600 // 500, (position[:, 1] - 875.0) % 2000 // 500])
    assert len(set(keys)) == len(keys)
    assert set(keys) == {tuple(key) for key in torch.cat([everything, batch.where.channel[None]]).T.tolist()}


def test_thinning_chooses_anew_in_each_cycle(make_batch, ring, window):
    batch = make_batch(ring, position=[[0.01 * i] for i in range(40)], values=[0.0] * 40)
    chosen = {
        tuple(_flags(batch, ring, window, noise=Noise(1, cycle), thinning_box=1.0, duplicate_distance=0.0))
        for cycle in range(6)
    }
    assert len(chosen) > 1


def test_the_withheld_part_is_taken_from_every_variable_and_stream(make_batch, torus, window):
    def net(stream, n_obs, shift):
        position = [[-50.0 + 600.0 * i / n_obs, 1000.0 + shift] for i in range(n_obs)]
        return make_batch(
            torus, position=position, values=[0.0] * n_obs, channel=[0, 0, 0, 1] * (n_obs // 4), stream=stream,
            stations=[f"{stream}{i}" for i in range(n_obs)],
        )  # fmt: skip

    controlled = _control([net("a", 80, 0.0), net("b", 40, 500.0)], torus, window, withheld_fraction=0.1)
    for batch, per_channel in zip(controlled.batches, ([6, 2], [3, 1]), strict=True):
        is_passive = batch.flags == int(QC.PASSIVE)
        assert torch.bincount(batch.where.channel[is_passive]).tolist() == per_channel
        assert set(np.asarray(batch.reasons)[is_passive.numpy()]) <= {
            "withheld for verification (0.1 of q1)", "withheld for verification (0.1 of q2)",
        }  # fmt: skip


def test_withheld_observations_passed_every_other_check(make_batch, ring, window):
    values = [float(i % 7) for i in range(30)] + [-99.0] * 10
    flags = torch.tensor(_flags(_in_a_row(make_batch, ring, values), ring, window, withheld_fraction=0.5))
    assert flags[30:].tolist() == [10] * 10
    assert int((flags == 1).sum()) == 15


def test_a_passive_observation_stays_passive_and_takes_nobody_s_place(make_batch, ring, window):
    batch = make_batch(
        ring, position=[[3.0], [3.0]], values=[1.0, 1.0], error=[0.1, 0.5], stations=["a", "a"], flags=[1, 0]
    )
    assert _flags(batch, ring, window) == [1, 0]


def test_the_first_check_that_fails_decides(make_batch, ring, window, valid_time):
    # Everything is wrong with every observation; each has one fault less than the one before it.
    n_obs = 6
    values = [-99.0, 7.0, 7.0, 2.0, 2.0, 2.0]
    times = [valid_time - DAY] * 4 + [valid_time] * 2
    stations = ["bad"] * 5 + ["good"]
    hx = torch.full((2, n_obs), torch.nan, dtype=torch.float64)
    batch = _in_a_row(make_batch, ring, values, times=times, stations=stations, flags=[11, 11, 0, 0, 0, 0])
    options = {"bounds": {"x": (0.0, 5.0)}, "blacklist": ("bad",)}
    assert _flags(batch, ring, window, hx=hx, **options) == [10, 11, 12, 13, 14, 15]
    order = [check.flag for check in CHECKS]
    assert order[:6] == [QC.MISSING, QC.PRE_QC, QC.BOUNDS, QC.DOMAIN, QC.BLACKLIST, QC.H_FAILED]
    assert order[6:8] == [QC.BUDDY, QC.FIRST_GUESS]


def _crowd(make_batch, torus, seed, n_obs, valid_time, *, is_bad=False):
    """Observations with copies, near copies and crowded boxes; or ones that all fail on their own."""
    generator = np.random.default_rng(seed)
    position = generator.uniform([-50.0, 1000.0], [550.0, 3000.0], (n_obs, 2))
    values = generator.normal(size=n_obs)
    if n_obs > 8:
        position[: n_obs // 4] = position[n_obs // 4 : 2 * (n_obs // 4)]
        position[: n_obs // 8] += 0.3
    if is_bad:
        values[:] = generator.choice([np.nan, np.inf, -99.0, 1e20, 1e3], n_obs)
    return make_batch(
        torus, position=position.tolist(), values=values.tolist(), channel=generator.integers(0, 2, n_obs).tolist(),
        error=generator.choice([0.4, 0.5], n_obs).tolist(), stations=generator.choice(["a", "b", "c"], n_obs).tolist(),
    )  # fmt: skip


# Whole streams are judged by medians over good and bad (test_qc_stream.py); here every observation stands for itself.
OPTIONS = {"thinning_box": 150.0, "withheld_fraction": 0.3, "stream_check": None}
SOME = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SOME
@given(st.integers(0, 10**6), st.integers(1, 80))
def test_outcome_does_not_depend_on_the_order_of_the_observations(make_batch, torus, window, valid_time, seed, n_obs):
    batch = _crowd(make_batch, torus, seed, n_obs, valid_time)
    order = torch.from_numpy(np.random.default_rng(seed + 1).permutation(n_obs))
    shuffled = replace(
        batch,
        where=Locations(batch.where.position[order], batch.where.channel[order]),
        values=batch.values[order],
        error=batch.error[order],
        times=batch.times[order.numpy()],
        ids=batch.ids[order.numpy()],
        flags=batch.flags[order],
    )
    straight, mixed = (_control(one, torus, window, **OPTIONS).batches[0] for one in (batch, shuffled))
    assert torch.equal(mixed.flags, straight.flags[order])
    assert mixed.reasons == tuple(straight.reasons[i] for i in order)


@SOME
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 40))
def test_bad_observations_change_nothing_for_good_ones(make_batch, torus, window, valid_time, seed, n_good, n_bad):
    good = _crowd(make_batch, torus, seed, n_good, valid_time)
    bad = _crowd(make_batch, torus, seed, n_bad, valid_time, is_bad=True)
    hx = torch.zeros(2, n_good + n_bad, dtype=torch.float64)
    alone = _control(good, torus, window, hx=hx[:, :n_good], **OPTIONS)
    together = _control([good, bad], torus, window, hx=hx, **OPTIONS)
    assert together.batches[0].flags.tolist() == alone.batches[0].flags.tolist()
    assert together.batches[0].reasons == alone.batches[0].reasons
    assert bool((together.batches[1].flags >= 10).all())
    used, used_alone = together.used(), alone.used()
    assert torch.equal(used.values, used_alone.values) and torch.equal(used.positions, used_alone.positions)


def test_control_of_controlled_observations_changes_nothing(make_batch, torus, window, valid_time):
    batch = _crowd(make_batch, torus, 3, 60, valid_time)
    once = _control(batch, torus, window, **OPTIONS)
    again = _control(list(once.batches), torus, window, thinning_box=150.0)
    assert torch.equal(again.flags, once.flags)
    assert again.batches[0].reasons == once.batches[0].reasons


def test_nothing_but_flags_and_reasons_is_touched(make_batch, torus, window, valid_time):
    batch = _crowd(make_batch, torus, 5, 40, valid_time)
    (after,) = _control(batch, torus, window, **OPTIONS).batches
    assert torch.equal(after.values, batch.values) and torch.equal(after.error, batch.error)
    assert after.ids.tolist() == batch.ids.tolist() and after.where is batch.where


def test_every_rejected_observation_has_a_reason(make_batch, torus, window, valid_time):
    bad = _crowd(make_batch, torus, 6, 40, valid_time, is_bad=True)
    controlled = _control([_crowd(make_batch, torus, 5, 60, valid_time), bad], torus, window, **OPTIONS)
    for batch in controlled.batches:
        assert [bool(reason) for reason in batch.reasons] == (batch.flags != 0).tolist()


def test_no_observations_pass_quietly(make_batch, ring, window):
    empty = make_batch(ring, position=[], values=[])
    for batches in ([], [empty]):
        controlled = _control(batches, ring, window, hx=torch.zeros(3, 0), **OPTIONS)
        assert set(flag_counts(controlled).values()) == {0}


def test_flags_are_counted_by_name(make_batch, ring, window):
    batch = _in_a_row(make_batch, ring, [1.0, -99.0, float("nan"), 7.0])
    counts = flag_counts(_control(batch, ring, window, bounds={"x": (0.0, 5.0)}))
    assert {name: count for name, count in counts.items() if count} == {"USED": 1, "MISSING": 2, "BOUNDS": 1}
    assert list(counts) == [flag.name for flag in QC]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bounds": {"x": (1.0, 1.0)}}, "bounds of x: got .*min < max"),
        ({"background_check": 0.0}, "background_check"),
        ({"thinning_box": -1.0}, "thinning_box"),
        ({"withheld_fraction": 1.0}, "withheld_fraction"),
        ({"duplicate_distance": 2.0}, "duplicate_distance"),
        ({"duplicate_time": "1"}, "duration '1'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        QCSettings(**options)


def test_bounds_of_unknown_variables_are_refused_with_the_valid_names():
    with pytest.raises(ConfigError, match="unknown variable q3; valid: q1, q2"):
        QCSettings(bounds={"q3": (0.0, 1.0)}).require_variables(["q1", "q2"])
