"""Training of a field transition from a config to a card: covariances by waves, scores beside the true model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

from cycler_da.errors import ConfigError
from cycler_da.field_training import SimulatedData, simulate
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import WaveCovariance
from cycler_da.generative.weights import load_transition
from cycler_da.training_run import read_train_config, run_training

SYSTEM = {"kind": "stochastic_ns", "size": 32, "time_step": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("training")
    config = {
        "name": "stochastic_ns/tiny",
        "out": str(root / "weights"),
        "run_folder": str(root / "run"),
        "data": {
            "system": SYSTEM,
            "seed": 1,
            "trajectories": 2,
            "steps": 12,
            "held_out": 2,
            "covariance": "waves",
            "early_noise": 0.25,
        },
        "scaling": {"mean": [0.0], "std": [2.28]},
        "network": {"kind": "quadratic_spectral", "size": 32, "channels": 1, "products": 1, "stages": 1},
        "fit": {"steps": 4, "batch": 2, "seed": 0},
    }
    (root / "train.yaml").write_text(yaml.safe_dump(config))
    return root


@pytest.fixture(scope="module")
def card(folder):
    return run_training(read_train_config(folder / "train.yaml"))


def test_the_weights_of_a_card_by_waves_load_as_a_transition(folder, card):
    transition = load_transition(folder / "weights")
    assert isinstance(transition, Transition)
    assert isinstance(transition.residual_covariance, WaveCovariance)
    climatology = transition.state_climatology
    assert climatology is not None and climatology.covariance.noise_shape((1, 32, 32)) == (1, 32, 32)


def test_noise_before_the_step_is_released_as_a_part_of_the_whole(folder, card):
    transition = load_transition(folder / "weights")
    assert isinstance(transition, Transition) and isinstance(transition.early_covariance, WaveCovariance)
    whole = transition.residual_covariance.scaled(1.0 / 0.75)
    torch.testing.assert_close(transition.early_covariance.values, whole.scaled(0.25).values)


def test_the_card_scores_the_learned_ensemble_beside_the_true_models(card):
    assert card.transition == {"kind": "waves", "early": 0.25}
    assert set(card.scores["ensembles"]["1"]) == {"learned", "true_model"}
    assert card.scores["ensembles"]["1"]["true_model"]["crps"] > 0.0


def test_pairs_that_were_made_are_not_made_again(folder, card):
    pairs = folder / "run" / "pairs.safetensors"
    made = pairs.stat().st_mtime_ns
    messages = []
    again = run_training(read_train_config(folder / "train.yaml"), on_message=messages.append)
    assert pairs.stat().st_mtime_ns == made and not any("simulate" in text for text in messages)
    assert again.sha256 == card.sha256
    assert json.loads((folder / "weights" / "card.json").read_text())["sha256"] == card.sha256


def test_data_that_cannot_be_made_are_refused():
    with pytest.raises(ConfigError, match="covariance is 'wave'; valid: shells, waves"):
        SimulatedData(system=SYSTEM, seed=1, covariance="wave")
    with pytest.raises(ConfigError, match=r"early_noise is 0.5 with covariance shells; expected 0"):
        SimulatedData(system=SYSTEM, seed=1, early_noise=0.5)
    with pytest.raises(ConfigError, match=r"cannot be run from its climate; valid: .*stochastic_ns"):
        SimulatedData(system={"kind": "sevir"}, seed=1)


def parts_config(root, **changes):
    system = {"kind": "kolmogorov", "size": 16, "step": "12min", "time_step": 0.1}
    config = {
        "name": "kolmogorov/tiny",
        "out": str(root / "weights"),
        "run_folder": str(root / "run"),
        "data": {"system": system, "seed": 1, "trajectories": 2, "steps": 12, "held_out": 2, "parts": 2},
        "scaling": {"mean": [0.0, 0.0], "std": [1.0, 1.0]},
        "network": {"kind": "incompressible_spectral", "size": 16, "products": 1, "stages": 1, "repeats": 2},
        "fit": {"steps": 4, "batch": 2, "seed": 0},
    }
    config["network"].update(changes)
    (root / "train.yaml").write_text(yaml.safe_dump(config))
    return read_train_config(root / "train.yaml")


def test_a_step_that_is_learned_by_parts_is_released_and_scored_as_a_whole(tmp_path):
    messages = []
    card = run_training(parts_config(tmp_path), on_progress=messages.append)
    # A part moves a state by about half of what a step does, and the fit saw pairs of parts.
    assert messages[-1].persistence_rmse < 0.7 * card.scores["rmse"]["1"]["persistence"]
    network = load_transition(tmp_path / "weights").mean_network
    assert network.repeats == 2
    assert card.layout.step == np.timedelta64(12, "m")


def test_parts_and_repeats_that_differ_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data.parts is 2, network.repeats 3; expected the same"):
        run_training(parts_config(tmp_path, repeats=3))
    with pytest.raises(ConfigError, match=r"data.parts is 7; expected 1 or more, and a divisor of 720 s"):
        SimulatedData(system={"kind": "kolmogorov", "size": 16}, seed=1, parts=7)


def test_parts_of_a_driven_step_have_noise_of_their_own():
    system = {**SYSTEM, "time_step": 0.05}
    data = SimulatedData(system=system, seed=1, trajectories=2, steps=6, held_out=2, parts=2, perturbed_fraction=0.0)
    half = data.part_spec().build()
    assert half.noise_shape[0] < data.system_spec().build().noise_shape[0]
    pairs = simulate(data, Scaling((0.0,), (2.28,)))[0]
    drift = torch.cat([half.step(x[None]) for x in pairs.frames[:, -1]])
    kicks = pairs.targets - drift
    # Variance of half a step of 0.1 time units: 2 eps^2 t = 0.1; 12 pairs of four waves each.
    assert kicks.square().mean().item() == pytest.approx(0.1, rel=0.5)
    whole = pairs.frames[1:6, -1] - data.system_spec().build().step(pairs.frames[:5, -1])
    waves = torch.stack([kicks[:5], whole]).flatten(2)[:, :, ::16]
    assert abs(torch.nn.functional.cosine_similarity(waves[0].flatten(), waves[1].flatten(), dim=0)) < 0.5
