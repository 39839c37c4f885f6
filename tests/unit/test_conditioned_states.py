"""Training of a transition that is told levels, from a config to a card and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cycler_da.conditioned_states import drawn_levels, with_errors
from cycler_da.errors import ConfigError, WeightsMismatch
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.dense_training import ScaledPairs
from cycler_da.generative.weights import load_transition
from cycler_da.training_run import read_train_config, run_training

CONFIG = """
name: tiny/conditioned
out: {folder}/weights
run_folder: {folder}/run
data:
  kind: simulated_states
  system: {{kind: lorenz96, size: 8, time_step: 0.05, unit: 5d, step: 6h}}
  seed: 5
  pairs: 3000
  held_out: 500
  perturbed_fraction: 0.0
  conditioning: {{levels: [0.0, 0.2, 0.6]}}
scaling: {{mean: [2.34], std: [3.63]}}
network: {{kind: conditioned_ring, size: 8, products: 4, stages: 2, width: 5}}
fit: {{steps: 150, batch: 64, learning_rate: 1.0e-2, checkpoint_every: 150, seed: 0}}
"""


def write(folder: Path, **changes: str) -> Path:
    text = CONFIG.format(folder=folder)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "train.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditioned")
    return folder, run_training(read_train_config(write(folder)))


def test_card_and_weights_say_the_levels_and_give_the_transition_back(trained):
    folder, card = trained
    assert card.transition == {"kind": "dense", "conditioning": {"levels": [0.0, 0.2, 0.6]}}
    transition = load_transition(folder / "weights")
    assert isinstance(transition, ConditionedTransition)
    assert transition.levels == (0.0, 0.2, 0.6)


def test_the_mean_that_knows_the_level_is_nearer_than_the_clean_transition(trained):
    _, card = trained
    assert set(card.scores["levels"]) == {"0", "0.1", "0.2", "0.4", "0.6"}
    largest = card.scores["levels"]["0.6"]
    assert largest["rmse"] < 0.95 * largest["rmse of the clean transition"]
    # 500 x 8 squares of nearly standard normal numbers: standard error 0.022.
    assert largest["mean square of the whitened residual"] == pytest.approx(1.0, abs=0.15)


def test_a_larger_error_of_the_start_leaves_more_open(trained):
    transition = load_transition(trained[0] / "weights")
    x = torch.zeros(1, 1, 1, 8, dtype=torch.float64)
    told = (transition.at_level(level).predict(x) for level in (0.0, 0.1, 0.2, 0.6))
    spreads = [float(prediction.covariance[0].trace()) for prediction in told]
    assert spreads == sorted(spreads) and spreads[3] > 4 * spreads[2]


def test_errors_are_in_the_starts_alone_and_of_the_size_of_their_level():
    clean = ScaledPairs(torch.zeros(4000, 1, 8), torch.ones(4000, 1, 8))
    levels = drawn_levels((0.0, 0.5), 4000, seed=1)
    pairs = with_errors(clean, levels, seed=1, stream="test")
    assert torch.equal(pairs.ends, clean.ends)
    assert not pairs.starts[levels == 0.0].any()
    # About 16 000 numbers: standard error 0.003.
    assert float(pairs.starts[levels == 0.5].std()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("levels", ["null", "{levels: [0.0, 0.2]}", "{levels: [0.0, 0.2, 0.7]}"])
def test_a_card_that_names_other_levels_than_its_network_is_refused(trained, tmp_path, levels):
    for name in ("card.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((trained[0] / "weights" / name).read_bytes())
    card = json.loads((tmp_path / "card.json").read_text())
    told = {"null": None, "{levels: [0.0, 0.2]}": {"levels": [0.0, 0.2]}}.get(levels, {"levels": [0.0, 0.2, 0.7]})
    card["transition"]["conditioning"] = told
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(WeightsMismatch, match=r"levels of conditioning are .* card's transition and .* in its network"):
        load_transition(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[0.0, 0.2, 0.6]", "[0.2, 0.6]", "data.conditioning.levels: got .* begin at 0, the clean transition"),
        ("[0.0, 0.2, 0.6]", "[0.0]", "two or more rising numbers"),
        ("[0.0, 0.2, 0.6]", "[0.0, 0.6, 0.2]", "two or more rising numbers"),
        ("[0.0, 0.2, 0.6]", "[0.0, .inf]", "two or more rising numbers"),
        ("[0.0, 0.2, 0.6]", "0.3", "expected a list of numbers"),
        ("{levels: [0.0, 0.2, 0.6]}", "{level: [0.0, 0.2]}", "data.conditioning: unknown key 'level'"),
        ("{levels: [0.0, 0.2, 0.6]}", "[0.0, 0.2]", "data.conditioning is .* expected a block with levels"),
        ("perturbed_fraction: 0.0", "perturbed_fraction: 0.5", "with data.conditioning it is 0.0"),
        ("pairs: 3000", "pairs: 30", "data.pairs is 30; with 3 levels .* or more"),
        ("kind: conditioned_ring", "kind: quadratic_ring", "data.conditioning is learned by: conditioned_ring"),
        ("width: 5}", "width: 5, levels: [0.0, 1.0]}", "network.levels are those of data.conditioning"),
        ("  conditioning: {levels: [0.0, 0.2, 0.6]}\n", "", "conditioned_ring', which is told levels; add"),
        ("fit:", "denoiser: {kind: residual_mlp, size: 8}\nfit:", "denoiser is for .* without conditioning"),
    ],
)
def test_a_conditioning_that_cannot_be_trained_is_refused_when_the_config_is_read(tmp_path, old, new, text):
    with pytest.raises(ConfigError, match=text):
        read_train_config(write(tmp_path, **{old: new}))
