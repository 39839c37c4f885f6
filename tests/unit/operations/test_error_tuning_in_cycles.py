"""Tuned observation errors in cycles: used, published, handed on, replayed; and nothing changes where they are off."""

from __future__ import annotations

import json
from threading import Event

import netCDF4
import numpy as np
import pytest

from cycler_da.config import load_config
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.operations.serving import look
from cycler_da.products.feedback import read_feedback
from cycler_da.replay.again import replay
from cycler_da.replay.shadow import find_cycle
from cycler_da.schemes.letkf import Letkf
from cycler_da.verification.window import unpack

GROUP = "buoys/u"
TUNED = "observations.buoys.error_tuning={fewest: 10, rate: 1.0, most: 0.1}"


@pytest.fixture
def tuned(full_case, open_case):
    """Three cycles with errors of one stream tuned fast, and their store."""
    experiment, _ = open_case(full_case.times[3], TUNED)
    assert look(experiment, stop=Event()).exit_code == 0
    return full_case


def factor(case, number: int) -> float:
    window = unpack(case.store.product(case.times[number], "diag/window.json.gz").read_bytes())
    return window[-1].error_factor.get(GROUP, 1.0)


def test_the_factor_is_used_published_and_handed_on(tuned):
    factors = [factor(tuned, number) for number in (1, 2, 3)]
    assert factors[0] == 1.0 and factors[1] != 1.0  # the first cycle has none before it
    assert np.abs(np.diff(np.log(factors))).max() <= np.log(1.1) + 1e-12
    folder = tuned.store.cycle_folder(tuned.times[3])
    feedback = read_feedback(folder / "feedback" / "buoys.nc")
    used = feedback["EffectiveQC"]["u"] == 0
    reported, effective = (feedback[name]["u"][used] for name in ("ObsError", "EffectiveError"))
    np.testing.assert_allclose(reported, 1.0)
    np.testing.assert_allclose(effective, factors[2], rtol=1e-6)  # float32 in the file
    other = read_feedback(folder / "feedback" / "drifters.nc")
    np.testing.assert_allclose(other["EffectiveError"]["u"][other["EffectiveQC"]["u"] == 0], 1.0)
    with netCDF4.Dataset(folder / "analysis.nc") as file:
        assert file.cycler_observation_error_factors == f"{GROUP} {factors[2]:.4g}"
    summary = json.loads((folder / "diag" / "summary.json").read_text())
    assert summary["diagnostics"][f"error_factor.{GROUP}"] == factors[2]


def test_a_cycle_with_tuned_errors_is_replayed_bit_for_bit(tuned):
    found = replay(find_cycle(tuned.store.experiment_folder, "latest"))
    assert found.is_same, found.differences


def test_a_cycle_on_a_lower_rung_says_nothing_about_errors(full_case, open_case, monkeypatch):
    def refuse(*arguments, **named):
        raise AnalysisFailed("no analysis")

    with monkeypatch.context() as patch:
        patch.setattr(Letkf, "analyse", refuse)
        experiment, _ = open_case(full_case.times[1], TUNED, "on_failed_analysis=use_background")
        look(experiment, stop=Event())
    experiment, _ = open_case(full_case.times[2], TUNED, "on_failed_analysis=use_background")
    look(experiment, stop=Event())
    assert factor(full_case, 2) == 1.0  # residuals of the first cycle were its innovations


def test_without_tuning_nothing_is_written(full_case, open_case):
    experiment, _ = open_case(full_case.times[1])
    look(experiment, stop=Event())
    with netCDF4.Dataset(full_case.store.cycle_folder(full_case.times[1]) / "analysis.nc") as file:
        assert "cycler_observation_error_factors" not in file.ncattrs()
    content = full_case.store.product(full_case.times[1], "diag/window.json.gz").read_bytes()
    assert "error_factor" not in unpack(content)[-1].to_json()


def test_the_tuning_belongs_to_the_digest_of_the_config_and_its_absence_does_not(full_case):
    plain, null, tuned = (
        load_config(full_case.config, overrides)
        for overrides in ((), ("observations.buoys.error_tuning=null",), (TUNED,))
    )
    assert plain.digest == null.digest != tuned.digest


def test_settings_that_cannot_be_are_refused_with_their_key(open_case, full_case):
    with pytest.raises(ConfigError, match=r"observations\.buoys\.error_tuning"):
        open_case(full_case.times[1], "observations.buoys.error_tuning={rate: 2}")
    with pytest.raises(ConfigError, match=r"observations\.buoys\.error_tuning"):
        open_case(full_case.times[1], "observations.buoys.error_tuning={speed: 2}")
