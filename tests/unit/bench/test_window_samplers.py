"""What the benchmark of samplers of windows compares."""

from __future__ import annotations

import pytest

from cycler_da.bench.turbulence.window_samplers import CALIBRATED, SAMPLERS, ratio_of
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.soad import SoadSpec
from cycler_da.tables.report import Row


@pytest.mark.parametrize("spec", [SdaSpec, PdediffSpec, SoadSpec])
def test_the_first_row_is_what_the_schemes_do_by_default(spec):
    sampling = spec().sampling()
    assert (sampling.sampler, sampling.n_steps) == SAMPLERS[0]


def test_the_ratio_of_two_draws_of_what_is_known_is_that_of_a_calibrated_pair():
    rows = [Row("SDA", "redrawn, 8 steps", "RMSE of the mean", 1.5**0.5), Row("SDA", "redrawn, 8 steps", "spread", 1.0)]
    assert ratio_of(rows) == Row("SDA", "redrawn, 8 steps", "RMSE of the mean / spread", CALIBRATED)
