"""Observations at their own times inside the window of a cycle: from the config to feedback, replay and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.config import load_config
from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import ConfigError
from cycler_da.obs.base import Observations
from cycler_da.obs.files import read_obs_file
from cycler_da.products.dataset import read_ensemble
from cycler_da.products.feedback import read_feedback
from cycler_da.replay.again import replay
from cycler_da.replay.analysis import open_analysis
from cycler_da.replay.shadow import find_cycle
from cycler_da.schemes.base import Prior
from cycler_da.schemes.window.hx import window_hx
from cycler_da.setting import Setting, build_setting

CONFIG = Path("config/experiments/lorenz96_windows.yaml")
LAST = "20200104T0000Z"
N_DAYS = 3


def changed(folder: Path, *more: str) -> list[str]:
    return [
        f"root={folder}/runs",
        f"nature.path={folder}/nature.nc",
        f"observations.insitu.folder={folder}/observations",
        f"nature.steps={4 * N_DAYS}",
        f"cycles.count={N_DAYS}",
        "verification.spin_up=0",
        *more,
    ]


def cycle_all(folder: Path, *more: str) -> Path:
    """Run the experiment in this process; returns its folder."""
    options = [part for setting in changed(folder, *more) for part in ("--set", setting)]
    done = CliRunner().invoke(app, ["run", str(CONFIG), "--orchestrator", "none", *options])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cycle_all(tmp_path_factory.mktemp("windows"))


@pytest.fixture(scope="module")
def setting(run: Path) -> Setting:
    return build_setting(load_config(CONFIG, changed(run)))


def last_cycle(run: Path, root: str = "runs") -> Path:
    return run / root / "lorenz96_windows" / "letkf" / "cycles" / LAST


def frames(cycle: Path, name: str) -> Ensemble:
    window, end = (read_ensemble(cycle / file) for file in (f"{name}_window.nc", f"{name}.nc"))
    return append_times(window, end)


def observed(run: Path, setting: Setting) -> Observations:
    stream = setting.streams[0]
    path = run / "observations" / f"insitu_{LAST}.nc"
    batches = read_obs_file(path, setting.layout, stream="insitu", operators=stream.operators)
    return Observations(tuple(batches), setting.layout)


def test_a_window_holds_a_frame_and_observations_for_every_observing_time(run, setting):
    expected = np.datetime64("2020-01-03T06", "s") + np.arange(4) * np.timedelta64(6, "h")
    for name in ("background", "analysis"):
        assert np.array_equal(frames(last_cycle(run), name).valid_times, expected)
    times = np.concatenate([batch.times for batch in observed(run, setting).batches])
    assert np.array_equal(np.unique(times.astype("datetime64[s]")), expected)


def test_the_analysis_is_that_of_equivalents_at_the_observing_times(run, setting):
    background, observations = frames(last_cycle(run), "background"), observed(run, setting)
    noise = setting.config.seed
    scheme = setting.chain("letkf").scheme
    analysis = scheme.analyse(Prior(background), observations, noise=noise, carry={})
    archived = frames(last_cycle(run), "analysis")
    np.testing.assert_array_equal(analysis.ensemble.values.numpy(), archived.values.numpy())
    assert not np.array_equal(archived.values[:, 0].numpy(), background.values[:, 0].numpy())


def test_feedback_compares_every_observation_with_the_frame_of_its_time(run, setting):
    feedback = read_feedback(last_cycle(run) / "feedback" / "insitu.nc")
    by_id = dict(zip(feedback["ObsId"]["u"].tolist(), range(len(feedback["ObsId"]["u"])), strict=True))
    observations = observed(run, setting)
    order = [by_id[name] for batch in observations.batches for name in batch.ids.tolist()]
    for column, name in (("hofx", "background"), ("hofxa", "analysis")):
        expected = window_hx(frames(last_cycle(run), name), observations).mean(dim=0)
        np.testing.assert_allclose(feedback[column]["u"][order], expected.numpy(), rtol=0, atol=1e-6)


def test_observations_at_their_own_times_are_worth_more_than_at_the_end_of_the_window(run):
    """Within the window the state moves by more than the observation error, 1."""
    cycle_all(run, "cycles.frames=null", f"root={run}/at_the_end")
    rmse = {}
    for root in ("runs", "at_the_end"):
        scores = json.loads((last_cycle(run, root) / "diag" / "summary.json").read_text())["scores"]
        rmse[root] = scores["analysis"]["u"]["rmse"]
    assert rmse["runs"] < 0.6 * rmse["at_the_end"]


def test_a_cycle_with_a_window_replays_bit_for_bit_and_an_unchanged_what_if_is_the_archive(run, tmp_path):
    archived = find_cycle(run / "runs" / "lorenz96_windows", LAST, "letkf")
    found = replay(archived)
    assert found.is_same, found
    with open_analysis(archived, tmp_path) as opened:
        assert len(opened.analysis.valid_times) == 4
        opened.require_same()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("chains.letkf.scheme={kind: interpolant_filter}", "chains.letkf: scheme interpolant_filter takes all obs"),
        ("chains.letkf.scheme={kind: ensf}", "use a scheme that takes them at their own times: letkf, etkf, enkf"),
        ("cycles.frames=5h", "cycles.frames is 5h; expected whole model steps of 6h"),
        ("cycles.frames=48h", "at most the window of"),
        (
            "observations.insitu.draw.every=7h",
            "insitu.draw.every is 7h; expected whole model steps of 6h",
        ),
        ("cycles.window=48h", "there is no forecast before the cycle began"),
    ],
)
def test_windows_that_cannot_be_are_refused_when_the_config_is_read(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        build_setting(load_config(CONFIG, changed(tmp_path, change)))
