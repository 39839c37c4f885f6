"""The whitened loss is the Gaussian likelihood, and finds what the squared error cannot see for noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.pairs import Pairs
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import TrainSettings, train
from cycler_da.generative.wave_covariance import WaveCovariance, wave_blocks, wave_covariance
from cycler_da.generative.wave_loss import wave_loss
from cycler_da.noise import Noise

SIZE = 8
NETWORK = NetworkSpec("quadratic_spectral", {"size": SIZE, "channels": 1, "products": 1, "stages": 1})
SETTINGS = TrainSettings(NETWORK, steps=200, batch=16, learning_rate=3e-2, checkpoint_every=100)


def _white(n: int, name: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return Noise(5).shared_normal(name, (n, 1, SIZE, SIZE), dtype=dtype)


def _driving(n: int, name: str) -> torch.Tensor:
    """Noise in one wave, its sine alone."""
    x = 2 * math.pi / SIZE * torch.arange(SIZE)
    amplitude = Noise(6).shared_normal(name, (n, 1, 1, 1), dtype=torch.float32)
    return 20.0 * amplitude * torch.sin(2 * x).expand(SIZE, SIZE)


def test_the_loss_is_half_the_mean_square_of_the_whitened_error():
    errors = _white(300, "a") + 0.5 * _white(300, "a").roll(1, -1) + _driving(300, "b")
    covariance = wave_covariance(wave_blocks(errors))
    raised = WaveCovariance(covariance.values + 0.01, covariance.vectors)
    other = _white(4, "c")
    expected = 0.5 * raised.whiten(other).square().mean()
    torch.testing.assert_close(wave_loss(errors, floor=0.01)(other), expected, rtol=1e-10, atol=0.0)


def test_fields_that_are_not_square_are_refused():
    with pytest.raises(ConfigError, match="square"):
        wave_loss(torch.zeros(4, 1, 6, 8))


def test_waves_without_noise_are_learned_beside_one_with_much():
    starts = _white(400, "start", torch.float32)
    truth = 0.6 * starts + 0.3 * starts.roll(1, -1)
    pairs = Pairs(starts[:, None], truth + _driving(400, "drive"))
    error = {}
    for loss in ("squared", "whitened"):
        network = train(pairs, pairs, Scaling((0.0,), (1.0,)), replace(SETTINGS, loss=loss)).network
        with torch.no_grad():
            error[loss] = float((starts + network(starts) - truth).square().mean().sqrt())
    assert error["whitened"] < 0.5 * error["squared"]


def test_a_resumed_training_is_the_same(tmp_path):
    starts = _white(64, "start", torch.float32)
    pairs = Pairs(starts[:, None], 0.5 * starts)
    settings = replace(SETTINGS, steps=120, loss="whitened", decay_over=120)
    whole = train(pairs, pairs, Scaling((0.0,), (1.0,)), settings)
    first = replace(settings, steps=100)
    train(pairs, pairs, Scaling((0.0,), (1.0,)), first, folder=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({**state, "settings": repr(settings)}, tmp_path / "checkpoint.pt")
    resumed = train(pairs, pairs, Scaling((0.0,), (1.0,)), settings, folder=tmp_path)
    for mine, theirs in zip(whole.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_checkpoints_between_measurements_are_refused():
    with pytest.raises(ConfigError, match="multiple of 100"):
        replace(SETTINGS, loss="whitened", checkpoint_every=50)
