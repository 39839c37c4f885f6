"""Training: a known operator is learned, an interrupted run is the uninterrupted one, weights are guarded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch, WeightsMismatch
from cycler_da.generative.covariance import shells_from_residuals
from cycler_da.generative.evaluation import evaluate_transition
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.pairs import Pairs, SimulatedPairs
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import TrainSettings, train
from cycler_da.generative.weights import WeightCard, load_parts, load_transition, save_weights
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise

SIZE = 8
SCALING = Scaling((0.0,), (2.0,))
NETWORK = NetworkSpec("quadratic_spectral", {"size": SIZE, "channels": 1, "products": 1, "stages": 1})
AXES = tuple(Axis(name, SIZE, 1.0, 0.0, "m", periodic=True) for name in ("y", "x"))
LAYOUT = Layout("toy", (Variable("a", "1", "toy variable"),), Grid(AXES), np.timedelta64(3600, "s"))


def _step(x: torch.Tensor) -> torch.Tensor:
    """A step of advection and damping of a smooth field, inside the network's family: 0.9 - 0.15 d/dx."""
    xh = torch.fft.rfft2(x)
    k = torch.fft.rfftfreq(SIZE) * SIZE
    return torch.fft.irfft2((0.9 - 0.15j * k) * xh, s=x.shape[-2:])


def _smooth(n: int, name: str) -> torch.Tensor:
    xh = torch.fft.rfft2(Noise(3).shared_normal(name, (n, 1, SIZE, SIZE), dtype=torch.float32))
    xh[..., 4:] = 0
    xh[..., 4, :] = 0
    return 2.0 * torch.fft.irfft2(xh, s=(SIZE, SIZE))


def _pairs(n: int, name: str) -> Pairs:
    start = _smooth(n, name)
    return Pairs(start[:, None], _step(start))


SETTINGS = TrainSettings(NETWORK, steps=300, batch=16, learning_rate=3e-2, checkpoint_every=100)


@pytest.fixture(scope="module")
def trained():
    return train(_pairs(400, "training"), _pairs(100, "calibration"), SCALING, SETTINGS)


def test_a_linear_operator_is_learned(trained):
    pairs = _pairs(50, "test")
    frames = SCALING.to_scaled(pairs.frames[:, 0])
    with torch.no_grad():
        error = frames + trained.network(frames) - SCALING.to_scaled(pairs.targets)
    persistence = SCALING.to_scaled(pairs.targets) - frames
    assert float(error.std()) < 0.05 * float(persistence.std())


def test_a_run_that_was_interrupted_and_resumed_is_the_run_that_was_not(tmp_path, trained):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 100:
            raise Stop

    data = (_pairs(400, "training"), _pairs(100, "calibration"), SCALING, SETTINGS)
    with pytest.raises(Stop):
        train(*data, folder=tmp_path, on_progress=stop)
    resumed = train(*data, folder=tmp_path)
    for ours, theirs in zip(resumed.network.parameters(), trained.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(resumed.residuals, trained.residuals)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    data = (_pairs(40, "training"), _pairs(40, "calibration"), SCALING)
    train(*data, replace(SETTINGS, steps=2, checkpoint_every=1), folder=tmp_path)
    with pytest.raises(ConfigError, match="other settings"):
        train(*data, replace(SETTINGS, steps=3, checkpoint_every=1), folder=tmp_path)


def _card() -> WeightCard:
    return WeightCard("toy", LAYOUT, NETWORK, SCALING, 1)


def _save(folder: Path, trained) -> WeightCard:
    shells = shells_from_residuals(SCALING.to_scaled(_smooth(50, "climate")))
    return save_weights(
        folder,
        _card(),
        state=trained.network.state_dict(),
        measured={"covariance.shells": shells_from_residuals(trained.residuals), "climatology.shells": shells},
    )


def test_weights_come_back_as_they_were_saved(tmp_path, trained):
    card = _save(tmp_path, trained)
    transition = load_transition(tmp_path, layout=LAYOUT, sha256=card.sha256[:12])
    x = _smooth(3, "test")
    with torch.no_grad():
        expected = x + SCALING.stretch(trained.network(SCALING.to_scaled(x)))
    assert torch.allclose(transition.mean(x[:, None]), expected, rtol=0, atol=1e-6)


def test_what_was_measured_is_kept_in_float64_and_singles_in_float32(tmp_path, trained):
    known = {"climatology.shells": torch.ones(2), "window.gains.states.9.back": torch.ones(2).double() / 3}
    first, second = known
    state = trained.network.state_dict()
    save_weights(tmp_path, _card(), state=state, measured={first: known[first]}, singles={second: known[second]})
    _, _, measured = load_parts(tmp_path)
    assert {name: tensor.dtype for name, tensor in measured.items()} == {first: torch.float64, second: torch.float32}
    torch.testing.assert_close(measured[second].double(), known[second], rtol=1e-7, atol=0)


def test_one_flipped_byte_in_the_weights_is_refused(tmp_path, trained):
    _save(tmp_path, trained)
    path = tmp_path / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(WeightsMismatch, match="sha256"):
        load_transition(tmp_path)


def test_weights_of_another_grid_hash_or_folder_are_refused(tmp_path, trained):
    _save(tmp_path, trained)
    other = replace(LAYOUT, grid=Grid(tuple(replace(axis, spacing=2.0) for axis in AXES)))
    with pytest.raises(LayoutMismatch, match="spacing"):
        load_transition(tmp_path, layout=other)
    with pytest.raises(WeightsMismatch, match="the config says"):
        load_transition(tmp_path, sha256="0" * 16)
    with pytest.raises(WeightsMismatch, match="no card"):
        load_transition(tmp_path / "nowhere")


def test_a_damaged_card_is_refused(tmp_path, trained):
    _save(tmp_path, trained)
    card = json.loads((tmp_path / "card.json").read_text())
    del card["network"]
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(WeightsMismatch, match="cannot be read"):
        load_transition(tmp_path)


def test_scores_of_a_good_transition_beat_persistence_and_its_spread_is_its_error(tmp_path, trained):
    _save(tmp_path, trained)
    states = [_smooth(6, "trajectory")]
    for _ in range(25):
        states.append(_step(states[-1]))
    scores = evaluate_transition(load_transition(tmp_path), torch.stack(states, dim=1), leads=(1, 2), start_every=4)
    assert scores["rmse"]["1"]["model"] < 0.1 * scores["rmse"]["1"]["persistence"]
    assert scores["rmse"]["2"]["model"] > 0


def test_perturbed_pairs_carry_the_true_step_of_what_they_start_from():
    source = SimulatedPairs(
        layout=LAYOUT,
        start=lambda members: _smooth(8, "start")[members.start : members.stop],
        step=_step,
        scaling=SCALING,
        seed=1,
        n_trajectories=4,
        n_steps=6,
        n_held_out=4,
        perturbed_fraction=0.5,
        perturbation=0.2,
    )
    pairs = source.training()
    assert torch.allclose(_step(pairs.frames[:, 0]), pairs.targets, rtol=0, atol=1e-5)
    clean = torch.stack([_smooth(8, "start")[:4]])
    assert not torch.isin(pairs.frames[0, 0, 0, 0, 0], clean) or len(pairs) == 24
    held = source.calibration()
    assert torch.allclose(_step(held.frames[:, 0]), held.targets, rtol=0, atol=1e-5)
