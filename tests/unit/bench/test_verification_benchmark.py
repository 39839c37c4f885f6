"""The benchmark of the scores themselves agrees with theory."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cycler_da.bench import verification
from cycler_da.bench.registry import no_progress, run_benchmark
from cycler_da.bench.verification import ar1_series, exact_fair_crps, exact_spread_skill, worst_distance
from cycler_da.tables import report


def test_exact_fair_crps_of_a_calibrated_ensemble_is_one_over_root_pi() -> None:
    assert exact_fair_crps(0.0, 1.0) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-15)


def test_exact_fair_crps_tends_to_the_folded_normal_for_a_sharp_forecast() -> None:
    # E|y - 1| for a standard normal y: sqrt(2/pi) exp(-1/2) + erf(1/sqrt(2))
    assert exact_fair_crps(1.0, 0.0) == pytest.approx(1.1666309411753722, rel=1e-14)


@pytest.mark.parametrize("n_members", [2, 7, 50])
def test_exact_spread_skill_of_a_calibrated_ensemble_is_one(n_members: int) -> None:
    assert exact_spread_skill(0.0, 1.0, n_members) == pytest.approx(1.0, rel=1e-15)


def test_ar1_series_have_their_variance_and_correlation() -> None:
    series = ar1_series(0.8, 50, n_series=4000)
    assert series.shape == (4000, 50)
    # 4000 independent series: relative standard error of a variance sqrt(2/4000) = 0.022.
    assert series[:, -1].var() == pytest.approx(1 / (1 - 0.64), rel=0.09)
    assert np.corrcoef(series[:, 10], series[:, 11])[0, 1] == pytest.approx(0.8, abs=0.03)


def test_measured_scores_lie_within_two_intervals_of_the_exact_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "SIZES", (2, 20))
    monkeypatch.setattr(verification, "LENGTHS", (20,))
    result = run_benchmark("verification", quick=True, out=tmp_path, progress=no_progress)
    assert worst_distance(result.rows) < 2.0  # 12 comparisons, each inside its own interval in 95 % of cases
    coverage = [row.value for row in result.rows if row.metric == "coverage of the interval"]
    assert len(coverage) == 3 and min(coverage) > 0.87 and max(coverage) < 0.99
    assert "fair CRPS, exact" in (tmp_path / "verification.md").read_text()
    assert report.read(tmp_path / "verification.json") == result
