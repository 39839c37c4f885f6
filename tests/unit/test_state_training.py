"""Training of the transition of a system of few variables, from a config to a card, on the double well."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch, WeightsMismatch
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.weights import load_transition
from cycler_da.systems.double_well import DoubleWellSpec
from cycler_da.training_run import read_train_config, run_training

CONFIGS = Path(__file__).parents[2] / "config" / "train"
CONFIG = """
name: tiny/well
out: {folder}/weights
run_folder: {folder}/run
data:
  kind: simulated_states
  system: {{kind: double_well, process_noise: 0.7}}
  seed: 5
  interval: 5
  pairs: 20000
  held_out: 4000
  spin_up: 0
  spacing: 2
scaling: {{mean: [0.0], std: [1.0]}}
network: {{kind: mlp, size: 1, width: 24, depth: 2}}
fit: {{steps: {steps}, batch: 256, learning_rate: 1.0e-2, checkpoint_every: {every}, seed: 0}}
"""


def write(folder: Path, *, steps: int = 250, every: int = 250, **changes: str) -> Path:
    text = CONFIG.format(folder=folder, steps=steps, every=every)
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "train.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("well")
    return folder, run_training(read_train_config(write(folder)))


def test_the_card_says_how_far_the_mean_is_from_the_best_one(trained):
    _, card = trained
    first = next(scores for name, scores in card.scores.items() if name.startswith("rmse, first"))
    assert card.scores["rmse"]["model"] < 0.93 * card.scores["rmse"]["persistence"]
    # The best mean has an error of 0.17, which is noise; what the network adds to it is a tenth of that.
    assert first["model against the mean of the true model"] < 0.15 * first["mean of the true model"]


def test_the_learned_root_knows_where_the_spread_is_large(trained):
    folder, card = trained
    scores = card.scores["negative log likelihood"]
    assert scores["root of its own state"] < scores["one root for all states"] - 0.01
    # 4000 squares of a standard normal number: standard error 0.022.
    assert card.scores["whitened residual"]["mean square"][0] == pytest.approx(1.0, abs=0.08)
    transition = load_transition(folder / "weights")
    roots = transition.predict(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)).root.flatten()
    # About x0 the drift has slope 4 - 12 x0^2: variance (e^{2 s t} - 1) / 2 s times 0.7^2, t = 0.1. That is 0.27 on
    # the barrier (an upper bound there: the drift bends) and 0.16 in a well; 250 steps of training come within 20 %.
    assert float(roots[0]) == pytest.approx(0.7 * (math.expm1(0.8) / 8) ** 0.5, rel=0.2)
    assert float(roots[1]) == pytest.approx(0.7 * (-math.expm1(-1.6) / 16) ** 0.5, rel=0.2)


def test_the_weights_carry_the_step_of_the_interval_and_the_climatology(trained):
    folder, card = trained
    transition = load_transition(folder / "weights")
    assert isinstance(transition, DenseTransition)
    assert card.layout.step == 5 * DoubleWellSpec().layout().step
    assert transition.state_climatology is not None
    # Mean square 0.92 of the stationary density; the latest starts have been on their way for 2 time units.
    assert float(transition.state_climatology.covariance.matrix) == pytest.approx(0.92, abs=0.08)
    with pytest.raises(LayoutMismatch, match="step_seconds"):
        load_transition(folder / "weights", layout=DoubleWellSpec().layout())


def test_a_training_that_was_stopped_ends_with_the_same_weights(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    expected = run_training(read_train_config(write(whole, steps=20, every=10)))
    config = read_train_config(write(parts, steps=20, every=10))

    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.step == 10:
            raise Stopped

    with pytest.raises(Stopped):
        run_training(config, on_progress=stop)
    assert run_training(config).sha256 == expected.sha256


LONG = {
    "interval: 5": "interval: 50",
    "pairs: 20000": "pairs: 4000",
    "fit:": "denoiser: {kind: residual_mlp, size: 1, width: 16, depth: 2}\nfit:",
}


def test_a_denoiser_is_fitted_after_mean_and_root_scored_and_kept_with_the_weights(tmp_path):
    card = run_training(read_train_config(write(tmp_path, steps=600, every=600, **LONG)))
    assert card.scores["denoising loss"]["denoiser"] < 1.0
    energy = next(scores for name, scores in card.scores.items() if name.startswith("energy score"))
    assert energy["true model"] < energy["10 points to 60"] < energy["Gaussian, 1 point"]
    transition = load_transition(tmp_path / "weights")
    assert isinstance(transition, DenseTransition) and transition.denoiser is not None
    assert card.training["n_parameters"] > sum(weight.numel() for weight in transition.network.parameters())
    path = tmp_path / "weights" / "card.json"
    path.write_text(path.read_text().replace('"width": 16', '"width": 17'))
    with pytest.raises(WeightsMismatch, match="do not fit denoiser 'residual_mlp'"):
        load_transition(tmp_path / "weights")


@pytest.mark.parametrize(
    ("block", "text"),
    [("{kind: mlp, size: 1}", "are fitted by: residual_mlp"), ("{kind: residual_mlp, size: 1, wide: 3}", "wide")],
)
def test_a_denoiser_that_cannot_be_fitted_is_refused_when_the_config_is_read(tmp_path, block, text):
    with pytest.raises(ConfigError, match=text):
        read_train_config(write(tmp_path, **{"fit:": f"denoiser: {block}\nfit:"}))


def test_a_denoiser_for_other_data_is_refused(tmp_path):
    path = tmp_path / "window.yaml"
    path.write_text((CONFIGS / "qg_window.yaml").read_text() + "\ndenoiser: {kind: residual_mlp, size: 3}\n")
    with pytest.raises(ConfigError, match="denoiser is for data of kind simulated_states"):
        read_train_config(path)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("kind: double_well, process_noise: 0.7", "kind: double_well, noise: 0.7", "unknown key 'noise'"),
        ("kind: double_well, process_noise: 0.7", "kind: doublewell", "Did you mean 'double_well'"),
        ("kind: double_well, process_noise: 0.7", "kind: two_layer_qg", "8192 values"),
        ("interval: 5", "interval: 0", "data.interval is 0"),
        ("kind: mlp, size: 1, width: 24, depth: 2", "kind: unet, history: 1", "are fitted by: mlp"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(tmp_path, old, new, text):
    with pytest.raises(ConfigError, match=text):
        run_training(read_train_config(write(tmp_path, **{old: new})))


@pytest.mark.parametrize("name", ["lorenz63_step", "qg_window", "kolmogorov_masf", "lorenz63_masf_dual_head"])
def test_a_device_that_would_not_be_used_is_refused(name):
    config = read_train_config(CONFIGS / f"{name}.yaml")
    with pytest.raises(ConfigError, match=r"device is .cuda.; data of kind .* processor alone"):
        run_training(config, device="cuda")
