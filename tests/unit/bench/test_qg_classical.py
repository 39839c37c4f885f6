"""The benchmark of classical schemes on QG: nothing is chosen on what is reported, and failures are said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.bench.turbulence import qg_classical
from cycler_da.bench.turbulence.qg_classical import MODELS, QUICK, Trial, cycle, judge, make_truths, observe, rows_of
from cycler_da.bench.turbulence.qg_classical_cases import CONTENDERS, SCALE, Contender
from cycler_da.noise import Noise
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.nudging import NudgingSpec

SIZE = replace(QUICK, members=12, cycles=2, tuning_cycles=1, spin_up=0)


@pytest.fixture(scope="module")
def truths() -> torch.Tensor:
    return make_truths(SIZE)


def test_observations_are_a_twentieth_of_the_values_with_a_tenth_of_the_deviation_as_error(truths):
    observations = observe(truths[0, 1], qg_classical.START, Noise(1))
    assert len(observations) == 2 * round(0.05 * 64 * 64)
    scale = torch.tensor(SCALE, dtype=torch.float64)[observations.channels]
    departures = (observations.values - observations.hx(truths[0, 1][None])[0]) / (0.1 * scale)
    # 410 draws of N(0, 1): the mean square within four standard errors of 1.
    assert float(departures.square().mean()) == pytest.approx(1.0, abs=4 * (2 / 410) ** 0.5)


def test_options_are_chosen_on_the_first_truth_alone(truths, monkeypatch):
    seen = []

    def record(model, spec, truth, i_truth, b, size, *, cycles):
        seen.append((i_truth, cycles, spec.gain))
        trial = Trial()
        trial.reason = "" if spec.gain == 0.4 else "worse"
        trial.analysis = [qg_classical._sums(truth[:2].repeat(2, 1, 1, 1), truth[1])]
        return trial

    monkeypatch.setattr(qg_classical, "cycle", record)
    one = Contender("nudging", lambda gain: NudgingSpec(gain=gain), {"gain": (0.2, 0.4)}, (0.2,))
    judged = judge(MODELS[0], one, truths, None, replace(SIZE, is_tuned=True))
    assert judged.words(one) == "gain 0.4 (best of 2; last value tried of gain)"
    assert seen == [(0, 1, 0.2), (0, 1, 0.4), (1, 2, 0.4)]
    assert len(judged.trials) == 1


def test_without_tuning_the_start_of_the_search_is_cycled(truths, monkeypatch):
    monkeypatch.setattr(qg_classical, "cycle", lambda model, spec, *_, **__: Trial(reason=f"gain {spec.gain}"))
    one = Contender("nudging", lambda gain: NudgingSpec(gain=gain), {"gain": (0.2, 0.4)}, (0.2,))
    judged = judge(MODELS[0], one, truths, None, SIZE)
    assert [trial.reason for trial in judged.trials] == ["gain 0.2"]
    assert judged.words(one) == "gain 0.2"


def test_analyses_are_nearer_to_the_truth_than_a_free_run(truths):
    free = cycle(MODELS[0], FreeRunSpec(), truths[1], 1, None, SIZE, cycles=2)
    letkf = cycle(
        MODELS[0], LetkfSpec(localization_radius_cells=4, weight_stride=2), truths[1], 1, None, SIZE, cycles=2
    )
    assert letkf.rmse < 0.9 * free.rmse
    assert set(letkf.seconds) == {"s / analysis", "s / forecast"}


def test_a_method_that_failed_says_so_in_place_of_scores():
    rows = rows_of(MODELS[0], "EnSF", [Trial(reason="the analysis of q1 is not finite")], SIZE)
    assert [row.method for row in rows] == ["EnSF (failed: the analysis of q1 is not finite)"]
    assert np.isnan(rows[0].value)


def test_every_search_begins_inside_its_values_with_a_scheme_that_can_be_built():
    assert len({one.name for one in CONTENDERS}) == len(CONTENDERS)
    for one in CONTENDERS:
        pairs = list(zip(one.axes.values(), one.start, strict=True))
        assert all(values[0] < start < values[-1] for values, start in pairs), one.name
        assert all(list(values) == sorted(values) for values, _ in pairs), one.name
        assert one.spec(one.start)
