"""Noise is keyed by member: who forecasts a member, and in which order, does not show in the result."""

from __future__ import annotations

import random
from collections.abc import Callable

import fault_system as tiny
import numpy as np
import pytest

from cycler_da.cycle_plan import run_plan
from cycler_da.ensemble import Ensemble
from cycler_da.executor import ModelSource, SerialExecutor
from cycler_da.executor.batches import forecast_batch, join, split
from cycler_da.experiment import Experiment
from cycler_da.noise import Noise
from cycler_da.setting import load_setting

pytestmark = pytest.mark.faults

BOTH = f"chains={[tiny.LETKF, tiny.INTERPOLANT]}"


@pytest.fixture(scope="module")
def serial(make_drill: Callable[[], tiny.Drill]) -> tuple[tiny.Hashes, tiny.Hashes]:
    drill = make_drill()
    result = drill.run(BOTH, "cycles.count=1")
    assert result.code == 0, result.output
    return drill.hashes("letkf"), drill.hashes("interpolant_filter")


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_members_are_the_same_bytes_with_workers(
    drill: tiny.Drill, serial: tuple[tiny.Hashes, tiny.Hashes], workers: int
) -> None:
    result = drill.run(BOTH, "cycles.count=1", f"executor={{kind: local, workers: {workers}}}")
    assert result.code == 0, result.output
    assert (drill.hashes("letkf"), drill.hashes("interpolant_filter")) == serial


class ShuffledExecutor(SerialExecutor):
    """Forecasts the batches in a random order."""

    def forecast(
        self, source: ModelSource, start: Ensemble, valid_times: np.ndarray, *, noise: Noise, batch: int
    ) -> Ensemble:
        jobs = split(source, start, valid_times, noise=noise, batch=batch, device="cpu")
        order = random.Random(7).sample(range(len(jobs)), len(jobs))
        assert order != sorted(order)
        results = {number: forecast_batch(jobs[number]) for number in order}
        return join([results[number] for number in range(len(jobs))], start, valid_times)


def test_members_are_the_same_bytes_with_batches_in_any_order(
    drill: tiny.Drill, undisturbed: tiny.Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = load_setting(drill.system.config, drill.settings())
    with Experiment(setting) as experiment:
        monkeypatch.setattr(experiment, "_executor", ShuffledExecutor())
        experiment.prepare()
        assert run_plan(experiment)["exit_code"] == 0
    assert drill.hashes() == undisturbed


def test_a_chain_is_the_same_bytes_whatever_other_chains_run_beside_it(
    serial: tuple[tiny.Hashes, tiny.Hashes], undisturbed: tiny.Hashes
) -> None:
    first_two = dict(list(undisturbed.items())[:2])
    assert serial[0] == first_two
    assert serial[1] != first_two


def test_another_seed_makes_other_members(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    assert drill.run("cycles.count=1", "seed=2").code == 0
    for stamp, files in drill.hashes().items():
        for member, value in files["analysis.nc"]["q1"].items():
            assert value != undisturbed[stamp]["analysis.nc"]["q1"][member]
