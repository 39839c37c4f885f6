"""Training of the radar transition from files to a card, on a radar that is small and moves evenly."""

from __future__ import annotations

from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest
import torch

from cycler_da.control import control_of
from cycler_da.errors import ConfigError, MissingInput
from cycler_da.generative.advected import AdvectedTransition
from cycler_da.generative.weights import load_transition, read_card
from cycler_da.systems.sevir import SevirSystemSpec
from cycler_da.training_run import read_train_config, run_training

CONFIG = """
name: tiny/radar
out: {folder}/weights
run_folder: {folder}/run
history: 3
data: {{kind: radar_proxies, folder: {folder}, held_out: [second], correlation_from: [first], crop: 32,
  sevir: storm.h5}}
scaling: {{mean: [0.0], std: [0.1]}}
network: {{kind: unet, history: 3, n_outputs: 2, channels: [8, 8]}}
fit: {{steps: 4, batch: 2, learning_rate: 1.0e-3, checkpoint_every: 2}}
"""


def storm(n: int, *, size: int, per_frame: float) -> np.ndarray:
    """Codes (time, y, x) of rough echo that moves east by `per_frame` cells of 3 km, with new noise in every frame."""
    draw, scale = np.random.default_rng(1), size // 128
    y, x = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    frames = []
    for k in range(n):
        square = (y - 64 * scale) ** 2 + (x - (40 + per_frame * k) * scale) ** 2
        clean = 180 * np.exp(-square / (2 * (18 * scale) ** 2))
        frames.append(np.where(clean > 16, clean + 3 * draw.standard_normal((size, size)), 0.0))
    return np.stack(frames).clip(0, 254).round().astype(np.uint8)


def write_sequence(path: Path) -> None:
    codes = storm(4, size=384, per_frame=3.0)
    with netCDF4.Dataset(path, "w") as file:
        for name, size in zip(("time", "y", "x"), codes.shape, strict=True):
            file.createDimension(name, size)
        file.createVariable("vil_proxy_code", "u1", ("time", "y", "x"), zlib=True, fill_value=False)[:] = codes
        file.createVariable("minute", "i4", ("time",))[:] = 10 * np.arange(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("proxies")
    for name in ("first", "second"):
        write_sequence(folder / f"{name}.nc")
    codes = storm(7, size=128, per_frame=1.5)
    with h5py.File(folder / "storm.h5", "w") as file:
        file["vil"] = np.stack([codes.transpose(1, 2, 0)] * 2)
    (folder / "train.yaml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def card(folder):
    return run_training(read_train_config(folder / "train.yaml"))


def test_the_card_says_what_was_trained_on_and_scores_beside_every_baseline(card):
    assert card.training["sequences"] == ["first"] and card.training["held_out"] == ["second"]
    assert card.transition["kind"] == "advected"
    cases = [name for name in card.scores if name != "units"]
    assert len(cases) == 2 and "proxy second" in cases[0] and "never trained on" in cases[1]
    for case in cases:
        scores = card.scores[case]
        for method in ("global shift", "block-flow advection", "learned mean"):
            assert scores[method]["rmse"] < 0.5 * scores["persistence"]["rmse"]  # 3 cells a step, found by all
        assert set(scores["spread"]) >= {"z2_echo", "spread_skill"}
    assert card.scores[cases[1]]["n_starts"] == 2


def test_white_noise_has_the_shortest_correlation_and_the_storm_a_long_one(card):
    # Every frame of this radar has noise of single pixels; the echo itself is 18 cells wide.
    assert card.training["residual_length_cells"] < 0.7
    assert card.training["state_length_cells"] > 8


def test_the_weights_forecast_a_sevir_patch(card, folder):
    layout = control_of("sevir", SevirSystemSpec().layout()).layout
    transition = load_transition(folder / "weights", layout=layout)
    assert isinstance(transition, AdvectedTransition)
    frames = torch.from_numpy(storm(4, size=128, per_frame=3.0)).float()[:, None] / 255
    predicted = transition.predict(frames[None, :3])
    error = (predicted.mean[0] - frames[3]).square().mean().sqrt()
    assert float(error) < 0.5 * float((frames[2] - frames[3]).square().mean().sqrt())
    assert read_card(folder / "weights").sha256 == card.sha256


def test_a_finished_training_is_not_trained_again(card, folder):
    steps = []
    again = run_training(read_train_config(folder / "train.yaml"), on_progress=steps.append)
    assert steps == [] and again.sha256 == card.sha256


def test_missing_proxies_and_unknown_names_are_said(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("CYCLER_REALDATA", raising=False)
    text = CONFIG.format(folder=folder)
    for old, new, error, message in (
        (f"folder: {folder}, held", "held", MissingInput, "CYCLER_REALDATA"),
        ("held_out: [second]", "held_out: [third]", ConfigError, "no sequence third; valid: first, second"),
        (
            "kind: radar_proxies",
            "kind: proxies",
            ConfigError,
            "valid: masked_climate, observed_climate, observed_states, radar_proxies, simulated, ",
        ),
    ):
        path = tmp_path / "train.yaml"
        path.write_text(text.replace(old, new))
        with pytest.raises(error, match=message):
            run_training(read_train_config(path))
