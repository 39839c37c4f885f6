"""The numbers a network is trained in: bfloat16 learns as well, is refused where it cannot be, and is not released."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.pairs import Pairs
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import TrainSettings, train
from cycler_da.noise import Noise

SCALING = Scaling((0.0,), (1.0,))
UNET = NetworkSpec("unet", {"history": 1, "n_outputs": 1, "channels": [8, 8], "patch": 1})
SETTINGS = TrainSettings(UNET, steps=60, batch=8, learning_rate=1e-2, checkpoint_every=60, average_decay=0.9)


def pairs(name: str) -> Pairs:
    """Fields that turn their sign and grow: y = -1.2 x."""
    x = Noise(5).shared_normal(name, (64, 1, 8, 8), dtype=torch.float32)
    return Pairs(x[:, None], -1.2 * x)


def fit(**changes):
    return train(pairs("training"), pairs("calibration"), SCALING, replace(SETTINGS, **changes))


@pytest.fixture(scope="module")
def in_float32():
    return fit()


def test_bfloat16_learns_as_well_and_gives_float32_weights(in_float32):
    trained = fit(precision="bfloat16")
    assert {p.dtype for p in trained.network.parameters()} == {torch.float32}
    assert trained.residuals.dtype == torch.float32
    assert not torch.equal(trained.residuals, in_float32.residuals)
    persistence, tolerance = 2.2, 0.02  # of the increment: bfloat16 has 8 bits
    assert trained.residuals.std() < in_float32.residuals.std() + tolerance * persistence
    assert in_float32.residuals.std() < 0.5 * persistence


def test_what_needs_fourier_transforms_cannot_be_bfloat16():
    spectral = NetworkSpec("quadratic_spectral", {"size": 8, "channels": 1, "products": 1, "stages": 1})
    with pytest.raises(ConfigError, match=r"precision is bfloat16, which network quadratic_spectral cannot"):
        fit(network=spectral, precision="bfloat16")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match=r"precision is 'half'; valid: float32, bfloat16"):
        replace(SETTINGS, precision="half")


def test_a_compiled_network_is_the_one_that_is_fitted_and_not_the_one_released(monkeypatch, in_float32):
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda network: compiled.append(network))
    trained = fit(compiled=True)
    assert len(compiled) == 1
    assert compiled[0] is not trained.network
    assert torch.equal(trained.residuals, in_float32.residuals)
