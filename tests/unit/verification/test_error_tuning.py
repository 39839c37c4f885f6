"""Observation errors that were given wrong are found, slowly, within their bounds, and right ones stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.etkf import EtkfSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec
from cycler_da.verification.error_tuning import ErrorTuning, TunedSums, next_factor

MEMBERS, SPIN_UP, SIZE = 40, 60, 40


def cycled(given: float, tuning: ErrorTuning, cycles: int) -> np.ndarray:
    """Factors of a cycled ETKF on Lorenz-96 whose observations err by 1 and say that they err by `given`."""
    system = Lorenz96Spec()
    dynamics, layout, noise = system.build(), system.layout(), Noise(4)
    scheme, operator = EtkfSpec(inflation=1.02).build(SchemeContext(layout)), CellSpec().build(layout)
    where = Locations(torch.arange(SIZE, dtype=torch.float64)[:, None], torch.zeros(SIZE, dtype=torch.int64))
    x = 8.0 + noise.normal("start", (1, SIZE), members=range(MEMBERS + 1), dtype=torch.float64)
    for _ in range(300):
        x = dynamics.step(x)
    truth, x = x[:1], x[1:]
    factors, sums = [1.0], []
    for k in range(SPIN_UP + cycles):
        truth, x = dynamics.step(truth), dynamics.step(x)
        is_tuned = k >= SPIN_UP
        factor = factors[-1] if is_tuned else 1.0 / given  # settled on right errors
        y = truth[0, 0] + noise.shared_normal("y", (1, SIZE), step=k, dtype=torch.float64)[0]
        error = torch.full((SIZE,), given * factor, dtype=torch.float64)
        time = np.datetime64("2020-01-01T00:00:00", "s") + k * layout.step
        ids, flags = np.arange(SIZE).astype(str), torch.zeros(SIZE, dtype=torch.int32)
        batch = ObsBatch("points", operator, where, y, error, np.full(SIZE, time), ids, flags)
        background = Ensemble(x[:, None], np.array([time]), tuple(range(MEMBERS)), layout)
        before = x[:, 0].mean(0)
        x = scheme.analyse(Prior(background), Observations((batch,), layout), noise=noise, carry={}).ensemble.latest
        if is_tuned:
            product = float(((y - x[:, 0].mean(0)) * (y - before)).sum())
            sums.append(TunedSums(SIZE, product, float((error**2).sum()), factor))
            factors.append(next_factor(factor, sums, tuning))
    return np.array(factors)


@pytest.mark.parametrize("given", [0.5, 1.0, 2.0])
def test_errors_given_wrong_by_a_factor_of_two_are_found_within_fifty_cycles(given: float):
    factors = cycled(given, ErrorTuning(limits=(0.3, 3.0)), 60)
    # 20 cycles of 40 observations know their variance to 5 %, the error to 2.5 %; the spread has its own share.
    assert np.abs(given * factors[50:] - 1.0).max() < 0.1
    assert np.exp(np.abs(np.diff(np.log(factors))).max()) <= 1.05 + 1e-12


def test_the_factor_stays_inside_its_limits():
    assert cycled(3.0, ErrorTuning(limits=(0.8, 1.2)), 40)[-1] == pytest.approx(0.8)


def test_too_few_observations_and_impossible_sums_change_nothing():
    tuning = ErrorTuning(fewest=100)
    assert next_factor(1.3, [TunedSums(99, 500.0, 99.0)], tuning) == 1.3
    assert next_factor(1.3, [TunedSums(200, -5.0, 200.0)], tuning) == 1.3
    assert next_factor(1.3, [], tuning) == 1.3


def test_the_target_does_not_depend_on_factors_that_were_used():
    tuning = ErrorTuning(rate=1.0, most=0.99, limits=(0.1, 10.0), fewest=1)
    cycles = [TunedSums(10, 40.0, 10.0 * f**2, f) for f in (0.5, 1.0, 3.0)]
    assert next_factor(1.5, cycles, tuning) == pytest.approx(2.0, rel=1e-12)  # sqrt(120 / 30)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"most": 1.0}, {"limits": (1.1, 2.0)}, {"cycles": 0}])
def test_settings_that_cannot_be_are_refused(wrong: dict):
    with pytest.raises(ConfigError, match="error_tuning"):
        ErrorTuning(**wrong)
