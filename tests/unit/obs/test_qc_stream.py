"""The check of a whole stream: wrong grids and units are refused, imperfect ensembles and gross errors are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.qc import QCSettings, quality_control
from cycler_da.obs.qc_stream import SET_ASIDE

N_OBS = 200
ERROR = 0.1


class Case:
    """A stream of 200 observations of a field of standard deviation 1, with 20 members of spread 0.1 around it."""

    def __init__(self, make_batch, ring, window, *, spread: float = 0.1, skill: float = 1.0) -> None:
        self.make_batch, self.ring, self.window = make_batch, ring, window
        generator = np.random.default_rng(0)
        self.truth = generator.normal(size=N_OBS)
        draws = generator.normal(size=(21, N_OBS))
        self.hx = skill * self.truth + spread * (draws[1:] - draws[0])
        self.values = self.truth + ERROR * generator.normal(size=N_OBS)

    def flags(
        self, values: np.ndarray, usual: dict[str, float] | None = None, **options
    ) -> tuple[list[int], list[str]]:
        n_obs = len(values)
        batch = self.make_batch(
            self.ring,
            position=[[i * 9.0 / N_OBS] for i in range(n_obs)],
            values=values.tolist(),
            error=[ERROR] * n_obs,
            stations=[f"s{i}" for i in range(n_obs)],
            stream="buoys",
        )
        options = {"background_check": None, "duplicate_distance": 0.0, **options}
        checked = quality_control(
            Observations((batch,), self.ring),
            torch.from_numpy(self.hx[:, :n_obs].copy()),
            window=self.window,
            settings=QCSettings(**options),
            noise=Noise(1),
            usual=usual or {},
        )
        return checked.flags.tolist(), list(checked.batches[0].reasons)


@pytest.fixture
def case(make_batch, ring, window) -> Case:
    return Case(make_batch, ring, window)


def test_a_stream_that_fits_is_used(case):
    assert case.flags(case.values)[0] == [0] * N_OBS


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: y[::-1],
        lambda y: 10 * y,
        lambda y: 1000 * y,
        lambda y: y / 10,
        lambda y: y / 1000,
        lambda y: np.roll(y, 7),
        lambda y: -y,
    ],
    ids=["flipped", "x 10", "x 1000", "/ 10", "/ 1000", "of another place or day", "sign"],
)
def test_a_stream_of_another_grid_unit_or_day_is_set_aside_as_a_whole(case, wrong):
    flags, reasons = case.flags(wrong(case.values))
    assert flags == [19] * N_OBS
    assert all(reason.startswith(f"{SET_ASIDE}: buoys/x is ") for reason in reasons)
    assert "check grid, unit and time of the file" in reasons[0]


def test_two_in_five_gross_errors_do_not_cost_the_stream(case):
    values = case.values.copy()
    values[: 2 * N_OBS // 5] += 20.0
    assert case.flags(values)[0] == [0] * N_OBS


def test_an_ensemble_that_is_too_sure_of_itself_does_not_cost_the_stream(make_batch, ring, window):
    """Deviation about 3 (error 0.3 where 0.1 is expected), but the background explains nine tenths of it."""
    case = Case(make_batch, ring, window, spread=0.0)
    case.hx = case.truth + 0.3 * np.random.default_rng(1).normal(size=N_OBS) + 1e-3 * case.hx
    assert case.flags(case.values, stream_check=2.0)[0] == [0] * N_OBS


def test_a_free_run_that_is_as_wide_as_it_is_wrong_does_not_cost_the_stream(make_batch, ring, window):
    case = Case(make_batch, ring, window, spread=1.0, skill=0.0)
    assert case.flags(case.values)[0] == [0] * N_OBS


def test_what_is_usual_raises_the_limit_and_nothing_lowers_it(case):
    flipped = case.values[::-1]
    assert set(case.flags(flipped, usual={"buoys/x": 9.0})[0]) == {0}
    assert set(case.flags(flipped, usual={"buoys/x": 0.1})[0]) == {19}
    assert set(case.flags(case.values, usual={"buoys/x": 0.01})[0]) == {0}


def test_few_observations_and_fields_that_are_empty_almost_everywhere_say_nothing(case):
    assert set(case.flags(case.values[8::-1])[0]) == {0}
    sparse = np.where(np.arange(N_OBS) % 4 == 0, case.values, 0.0)
    case.hx = np.where(np.arange(N_OBS) % 4 == 1, case.hx, 0.0)
    assert set(case.flags(sparse)[0]) == {0}


def test_of_an_intermittent_field_only_events_count_and_a_flipped_one_is_set_aside(case):
    is_event = np.arange(N_OBS) < N_OBS // 4
    case.hx, values = np.where(is_event, 6.0 + case.hx, 0.0), np.where(is_event, 6.0 + case.values, 0.0)
    assert set(case.flags(values[::-1])[0]) == {0}
    flags, reasons = case.flags(values[::-1], stream_check_above={"x": 0.5})
    assert set(flags) == {19} and f"median of {N_OBS // 2};" in reasons[0]
    assert set(case.flags(values, stream_check_above={"x": 0.5})[0]) == {0}


def test_an_event_of_an_unknown_variable_is_refused():
    with pytest.raises(ConfigError, match="stream_check_above of unknown variable y; valid: x"):
        QCSettings(stream_check_above={"y": 0.5}).require_variables(["x"])


def test_an_operator_can_lift_the_check(case):
    assert set(case.flags(case.values[::-1], stream_check=None)[0]) == {0}
    with pytest.raises(ConfigError, match=r"stream_check 0\.5, expected > 1 or null"):
        QCSettings(stream_check=0.5)


def test_one_impossible_variable_costs_the_whole_stream_and_no_other_stream(make_batch, torus, window):
    generator = np.random.default_rng(3)
    position = [[i % 20 * 25.0, 1000.0 + i // 20 * 200.0] for i in range(80)]
    truth = generator.normal(size=80)
    values = truth + ERROR * generator.normal(size=80)
    channel = [0] * 40 + [1] * 40

    def net(stream: str, values: np.ndarray):
        return make_batch(
            torus, position=position, values=values.tolist(), error=[ERROR] * 80, channel=channel, stream=stream,
            stations=[f"{stream}{i}" for i in range(80)],
        )  # fmt: skip

    wrong = values.copy()
    wrong[40:] *= 10
    hx = truth + 0.1 * generator.normal(size=(20, 80))
    checked = quality_control(
        Observations((net("good", values), net("wrong", wrong)), torus),
        torch.from_numpy(np.concatenate([hx, hx], axis=1)),
        window=window,
        settings=QCSettings(),
        noise=Noise(1),
    )
    good, bad = (batch.flags.tolist() for batch in checked.batches)
    assert set(bad) == {19} and set(good) == {0}
