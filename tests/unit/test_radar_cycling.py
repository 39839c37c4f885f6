"""Radar end to end: files as the archive publishes them, a sector that no radar sees, analyses, scores, messages."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.control import control_of
from cycler_da.cycle_plan import run_plan
from cycler_da.errors import ConfigError, MissingInput
from cycler_da.executor import SerialExecutor
from cycler_da.executor.base import ExecutorFailed
from cycler_da.experiment import Experiment, open_experiment
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import WeightCard, save_weights
from cycler_da.products.dataset import read_ensemble
from cycler_da.setting import load_setting
from cycler_da.systems.sevir import SevirSystemSpec
from cycler_da.systems.sevir_codec import MISSING_CODE

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "config" / "experiments" / "radar_default.yaml"
RELEASED = REPOSITORY / "data" / "weights" / "sevir" / "advected_unet"
LAST = np.datetime64("2019-06-01T00:50", "s")
#: Cells of the 128 x 128 grid that no radar sees.
SECTOR = (slice(0, 40), slice(90, 128))


def frames(n: int, *, size: int, minutes: int) -> np.ndarray:
    """Codes (y, x, time) of three storms that move east by 1.5 cells of 3 km in 5 minutes; a sector is missing."""
    scale = size // 128
    y, x = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    codes = np.zeros((size, size, n))
    for row, column, height, width in ((30, 20, 190, 10), (70, 50, 150, 14), (100, 30, 90, 8)):
        for k in range(n):
            centre = (column + 1.5 * k * minutes / 5) * scale
            square = (y - row * scale) ** 2 + (x - centre) ** 2
            codes[..., k] += height * np.exp(-square / (2 * (width * scale) ** 2))
    codes = np.where(codes < 16, 0, codes).clip(0, 254).round().astype(np.uint8)
    codes[SECTOR[0].start : SECTOR[0].stop * scale, SECTOR[1].start * scale : SECTOR[1].stop * scale] = MISSING_CODE
    return codes


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory) -> Path:
    """An untrained network: advection, with one spread everywhere."""
    folder = tmp_path_factory.mktemp("weights")
    spec = NetworkSpec("unet", {"history": 3, "n_outputs": 2, "channels": [8, 8]})
    layout = control_of("sevir", SevirSystemSpec().layout()).layout
    settings = {"kind": "advected", "spread": {"start": 0.02}, "limits": {}, "flow": {}}
    measured = {
        "correlation.parts": torch.tensor([[1.0, 2.0]]),
        "climatology.parts": torch.tensor([[1.0, 8.0]]),
        "climatology.moments": torch.tensor([0.07, 0.12]),
    }
    card = WeightCard("tiny", layout, spec, Scaling((0.0,), (0.1,)), 3, transition=settings)
    save_weights(folder, card, state=build_network(spec).state_dict(), measured=measured)
    return folder


def settings_of(folder: Path, weights: Path, **more: object) -> list[str]:
    chosen = {
        "root": folder / "runs",
        "observations.pixels.folder": folder / "observations",
        "forecast.weights": weights,
        "ensemble.members": 6,
        "cycles.count": 2,
        "plots": "false",
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return [f"{key}={value}" for key, value in chosen.items()]


def cycled(config: Path, settings: list[str]):
    with open_experiment(config, settings) as experiment:
        facts = run_plan(experiment)
        return experiment, facts


CHAINS = {
    "interpolant_filter": "{kind: interpolant_filter, localization_radius_cells: 4, weight_stride: 4}",
    "letkf": "{kind: letkf, localization_radius_cells: 3, weight_stride: 4}",
}


def config_of(folder: Path, *chains: str) -> Path:
    """The default experiment with some chains alone."""
    lines = [f"  - {{name: {name}, scheme: {CHAINS[name]}}}\n" for name in chains]
    path = folder / "radar.yaml"
    forecasts = "" if "interpolant_filter" in chains else "forecasts: null\n"
    path.write_text(f"extends: {CONFIG}\n{forecasts}chains:\n{''.join(lines)}")
    return path


@pytest.fixture(scope="module", params=["published", "low resolution"])
def experiment(request, tiny_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("radar")
    published = request.param == "published"
    with h5py.File(folder / "event.h5", "w") as file:
        codes = frames(49, size=384, minutes=5) if published else frames(25, size=128, minutes=10)
        file.create_dataset("vil", data=codes[None], chunks=(1, *codes.shape[:2], 1), compression=1)
    more = {"nature__path": folder / "event.h5", "nature__frame_interval": "5min" if published else "10min"}
    chain = "interpolant_filter" if published else "letkf"
    return cycled(config_of(folder, chain), settings_of(folder, tiny_weights, **more))


def test_without_the_model_the_background_is_the_analysis_moved_on_and_says_so(tiny_weights, tmp_path, monkeypatch):
    with h5py.File(tmp_path / "event.h5", "w") as file:
        file.create_dataset("vil", data=frames(25, size=128, minutes=10)[None])
    more = {"nature__path": tmp_path / "event.h5", "nature__frame_interval": "10min"}
    ladder = {"on_failed_analysis": "ladder", "cycles__count": 1}

    def no_model(*arguments, **named):
        raise ExecutorFailed("workers died over the same batch")

    monkeypatch.setattr(SerialExecutor, "forecast", no_model)
    done, facts = cycled(config_of(tmp_path, "letkf"), settings_of(tmp_path, tiny_weights, **more, **ladder))
    store = done.store("letkf")
    folder = store.cycle_folder(store.latest())
    summary = json.loads((folder / "diag" / "summary.json").read_text())
    assert facts["exit_code"] == 3 and summary["fallback"] == {"rung": "advection", "level": 4}
    with netCDF4.Dataset(folder / "background.nc") as file:
        assert file.cycler_fallback == "advection" and "workers died" in file.comment
    with netCDF4.Dataset(folder / "analysis.nc") as file:
        assert "FALLBACK (background by advection)" in file.title
    # Three cells in a cycle to the east: what stands still is far off.
    assert (
        summary["scores"]["background"]["vil_code"]["rmse"] < 0.6 * summary["scores"]["persistence"]["vil_code"]["rmse"]
    )


def cycle_of(experiment: Experiment) -> Path:
    """The last cycle of the only chain."""
    (chain,) = experiment.chains
    return experiment.store(chain).cycle_folder(LAST)


def test_both_forms_of_the_archive_cycle_to_the_end(experiment):
    done, facts = experiment
    assert facts["exit_code"] == 0 and facts["cycles"] == 3
    assert cycle_of(done).is_dir()


def test_analyses_are_nearer_to_the_truth_than_backgrounds_and_stay_in_range(experiment):
    done, _ = experiment
    scores = json.loads((cycle_of(done) / "diag" / "summary.json").read_text())["scores"]
    assert scores["analysis"]["vil_code"]["rmse"] < scores["background"]["vil_code"]["rmse"]
    values = read_ensemble(cycle_of(done) / "analysis.nc").values
    assert float(values.min()) >= 0.0 and float(values.max()) <= 79.4  # code 254


def test_cells_that_no_radar_sees_are_not_observed_not_scored_and_missing_in_the_truth(experiment):
    done, _ = experiment
    folder = cycle_of(done)
    n_missing = (SECTOR[0].stop - SECTOR[0].start) * (SECTOR[1].stop - SECTOR[1].start)
    with netCDF4.Dataset(folder / "diag" / "truth.nc") as truth:
        absent = np.ma.getmaskarray(truth["vil"][-1])
        assert absent.sum() == n_missing and absent[SECTOR].all()
        y, x = truth["y"][:], truth["x"][:]
    sums = json.loads((folder / "diag" / "scores.json").read_text())["analysis"]
    assert sums["totals"]["vil"]["count"] == [128 * 128 - n_missing]
    with netCDF4.Dataset(folder / "obs" / "in.pixels.nc") as observed:
        rows = np.searchsorted(y, observed["MetaData/y"][:])
        columns = np.searchsorted(x, observed["MetaData/x"][:])
        assert not absent[rows, columns].any()
        # A tenth of all cells is drawn; those in the sector are not there to be observed.
        assert 0.08 < len(rows) / (128 * 128) < 0.1
    assert bool(read_ensemble(folder / "analysis.nc").values.isfinite().all())


def test_missing_data_say_where_they_are_to_be_had(tiny_weights, tmp_path):
    with pytest.raises(MissingInput, match="s3://sevir") as caught:
        open_experiment(CONFIG, settings_of(tmp_path, tiny_weights, nature__path=tmp_path / "none.h5"))
    assert caught.value.exit_code == 69


def test_the_patch_is_where_its_nature_run_is(tiny_weights, tmp_path):
    setting = load_setting(CONFIG, settings_of(tmp_path, tiny_weights, nature__lower_left="[35.0, -90.0]"))
    assert setting.layout.grid.grid_mapping["georeference"] == "config"
    assert setting.layout.require_same(setting.nature.layout(), what="nature") is None


def test_another_size_of_system_and_nature_is_a_clear_contradiction(tiny_weights, tmp_path):
    with pytest.raises(ConfigError, match=r"system has size 128 .* nature has size 384"):
        load_setting(CONFIG, settings_of(tmp_path, tiny_weights, nature__size=384))


def test_observations_of_another_event_are_not_taken_for_those_of_this_one(tiny_weights, tmp_path):
    with h5py.File(tmp_path / "event.h5", "w") as file:
        file["vil"] = np.stack([frames(13, size=128, minutes=10)] * 2)
    more = {"nature__path": tmp_path / "event.h5", "nature__frame_interval": "10min"}
    settings = settings_of(tmp_path, tiny_weights, **more)
    open_experiment(CONFIG, settings)
    open_experiment(CONFIG, settings)  # the same event again: its files are taken
    with pytest.raises(ConfigError, match=r"event.h5 event 0 .* truth is event.h5 event 1 .* --force"):
        open_experiment(CONFIG, [*settings, "nature.event=1"])


def test_the_default_experiment_cycles_the_real_storm(realdata, tmp_path):
    path = realdata / "sevir_vil_diffcast_demo01.h5"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    config = config_of(tmp_path, "interpolant_filter")
    done, facts = cycled(config, settings_of(tmp_path, RELEASED, nature__path=path))
    assert facts["exit_code"] == 0
    scores = json.loads((cycle_of(done) / "diag" / "summary.json").read_text())["scores"]
    background, analysis = (scores[kind]["vil_code"] for kind in ("background", "analysis"))
    assert analysis["rmse"] < 0.9 * background["rmse"]
    # Six members at one time: within a fifth of what 24 members have over seven times.
    assert 0.7 < analysis["spread_skill"] < 1.2
    # Where there is no echo, members have next to none: 0.03 kg m-2 is code 5, which the archive writes as zero.
    with netCDF4.Dataset(cycle_of(done) / "diag" / "truth.nc") as truth:
        is_clear = torch.from_numpy(np.asarray(truth["vil"][-1]) == 0.0)
    members = read_ensemble(cycle_of(done) / "analysis.nc").values[:, -1, 0]
    assert float(members[:, is_clear].mean()) < 0.03
    assert float((members[:, is_clear] == 0.0).float().mean()) > 0.7


def test_an_hour_is_forecast_from_every_analysis_and_scored_where_frames_came(experiment):
    made, _ = experiment
    chain = made.setting.chains[0]
    store = made.store(chain.name)
    time = np.datetime64("2019-06-01T00:40", "s")
    if chain.name != "interpolant_filter":
        assert "forecast.nc" not in store.manifest(time)["files"]
        return
    ensemble = read_ensemble(store.product(time, "forecast.nc"), layout=made.setting.layout)
    assert ensemble.valid_times.tolist() == [time + np.timedelta64(10 * k, "m") for k in range(1, 7)]
    with netCDF4.Dataset(store.product(time, "forecast_products.nc")) as file:
        assert file["leadtime"][:].tolist() == [600 * k for k in range(7)]
        near = np.asarray(file["vil_probability_within"][:, 0, 6])
        assert (np.diff(near, axis=0) >= 0).all() and near.max() == 1.0
    scores = json.loads(store.product(time, "diag/forecast_scores.json").read_text())
    assert sorted(scores, key=int) == ["10", "20", "30", "40", "50", "60"]
    # Storms that move as one are followed by advection: most of the strong echo is still placed well in an hour.
    difference, reference = scores["60"]["fss"]["vil 3.53 16km"]
    assert 1 - difference / reference > 0.5


def test_forecasts_that_do_not_fit_the_experiment_are_refused_by_key():
    for wrong, said in (
        ("forecasts.lead=65min", "whole"),
        ("forecasts.chains=[nobody]", "interpolant_filter"),
        ("forecasts.thresholds={rain: [1.0]}", "valid: vil"),
        ("forecasts.percentiles=[90, 10]", "increasing"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_setting(CONFIG, [f"forecast.weights={RELEASED}", wrong])
