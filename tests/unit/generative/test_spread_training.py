"""Training of mean and spread on data of which both are known, and the scores that say whether spread is honest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch, WeightsMismatch
from cycler_da.generative.advected import AdvectedTransition, SpreadHead, StateRange
from cycler_da.generative.local_covariance import exponential_correlation
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.spread_evaluation import (
    exponential_length,
    lag_correlations,
    power_ratio,
    spread_scores,
)
from cycler_da.generative.spread_training import fit_mean_and_spread
from cycler_da.generative.training import TrainSettings
from cycler_da.generative.weights import WeightCard, load_transition, save_weights
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise

SCALING = Scaling((0.0,), (0.1,))
NETWORK = NetworkSpec("unet", {"history": 3, "n_outputs": 2, "channels": [8, 8], "patch": 1})
SETTINGS = TrainSettings(NETWORK, steps=150, batch=4, learning_rate=1e-2, checkpoint_every=50, average_decay=0.95)
CARD = {"kind": "advected", "spread": {}, "limits": {}, "flow": {}}


@dataclass(frozen=True)
class Batch:
    history: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor


def batch_of(step: int) -> Batch:
    """History of two levels of echo; what comes is higher by 0.05, with errors of 0.1 in strong echo and 0.02 else."""
    noise = Noise(4)
    is_strong = torch.from_numpy(noise.generator("level", step=step).random((4, 1, 4, 4)) < 0.5)
    strong = is_strong.repeat_interleave(4, 2).repeat_interleave(4, 3)
    last = torch.where(strong, 0.6, 0.2)
    error = torch.where(strong, 0.1, 0.02) * noise.shared_normal(
        "error", (4, 1, 16, 16), step=step, dtype=torch.float32
    )
    return Batch(last.expand(-1, 3, -1, -1).clone(), last + 0.05 + error, torch.ones_like(last))


def fit(**changes):
    return fit_mean_and_spread(
        batch_of, batch_of(10_000), SCALING, replace(SETTINGS, **changes), spread=SpreadHead(start=0.05)
    )


@pytest.fixture(scope="module")
def fitted():
    return fit()


def test_mean_and_spread_of_known_errors_are_learned(fitted):
    check = batch_of(20_000)
    with torch.no_grad():
        mean, std = fitted.model(check.history)
    strong = check.history[:, -1:] > 0.4
    for level, expected in ((strong, 0.1), (~strong, 0.02)):
        assert float((mean - check.history[:, -1:])[level].mean()) == pytest.approx(0.05, abs=0.01)
        assert float(std[level].mean()) == pytest.approx(expected, rel=0.15)  # 150 steps of 1024 cells


def test_an_interrupted_training_is_the_uninterrupted_one(fitted, tmp_path):
    class Interrupted(Exception):
        pass

    def stop_at(progress):
        if progress.step == 100:
            raise Interrupted

    arguments = (batch_of, batch_of(10_000), SCALING, SETTINGS)
    with pytest.raises(Interrupted):
        fit_mean_and_spread(*arguments, spread=SpreadHead(start=0.05), folder=tmp_path, on_progress=stop_at)
    resumed = fit_mean_and_spread(*arguments, spread=SpreadHead(start=0.05), folder=tmp_path)
    whole, parts = fitted.model.network.state_dict(), resumed.model.network.state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(ConfigError, match="other settings"):
        fit_mean_and_spread(*arguments, spread=SpreadHead(start=0.06), folder=tmp_path)


def test_cells_without_weight_are_not_fitted():
    def half_known(step: int) -> Batch:
        batch = batch_of(step)
        known = torch.zeros_like(batch.weight)
        known[..., :8] = 1.0
        wrong = torch.where(known > 0, batch.target, torch.full_like(batch.target, 9.0))
        return Batch(batch.history, wrong, known)

    trained = fit_mean_and_spread(
        half_known, half_known(10_000), SCALING, replace(SETTINGS, steps=60), spread=SpreadHead(start=0.05)
    )
    check = batch_of(20_000)
    with torch.no_grad():
        mean, _ = trained.model(check.history)
    assert float((mean - check.history[:, -1:]).abs().max()) < 0.2


def test_an_honest_spread_has_z2_of_one_and_spread_equal_to_skill():
    noise = Noise(1)
    std = 0.05 + 0.1 * torch.from_numpy(noise.generator("std").random((8, 1, 64, 64)))
    mean = torch.full_like(std, 0.3)
    mean[..., :32] = 0.0
    target = mean + std * noise.shared_normal("z", (8, 1, 64, 64), dtype=torch.float64)
    scores = spread_scores(mean, std, target, known=torch.ones_like(std, dtype=torch.bool))
    for name in ("z2", "z2_echo", "z2_clear", "spread_skill"):
        assert scores[name] == pytest.approx(1.0, abs=0.04)  # four standard errors of 16384 squares
    halved = spread_scores(mean, 0.5 * std, target, known=torch.ones_like(std, dtype=torch.bool))
    assert halved["z2"] == pytest.approx(4.0 * scores["z2"]) and halved["spread_skill"] == pytest.approx(
        0.5 * scores["spread_skill"]
    )


def test_the_length_of_drawn_fields_is_found_again():
    correlation = exponential_correlation((64, 64), [(1.0, 2.0)])
    z = correlation.spread(Noise(2).shared_normal("z", (20, 1, *correlation.torus), dtype=torch.float64))
    known = torch.ones_like(z, dtype=torch.bool)
    known[:, :, 10:20, 10:40] = False  # a gap changes nothing
    measured = lag_correlations(torch.where(known, z, 99.0), known)
    np.testing.assert_allclose(measured[:4], np.exp(-np.array([1, 2, 3, 4]) / 2.0), atol=0.03)
    assert exponential_length(measured) == pytest.approx(2.0, abs=0.15)


def test_half_the_amplitude_is_a_quarter_of_the_power():
    target = Noise(3).shared_normal("x", (2, 1, 64, 64), dtype=torch.float64)
    ratios = power_ratio(0.5 * target, target, spacing_km=3.0)
    assert list(ratios) == ["192 km", "96 km", "48 km", "24 km", "12 km"]
    assert all(ratio == pytest.approx(0.25) for ratio in ratios.values())


def patch(size: int, *, spacing: float = 3000.0, origin: float = 0.0) -> Layout:
    axes = tuple(Axis(name, size, spacing, origin) for name in ("y", "x"))
    return Layout("sevir", (Variable("vil_code", "1", "code"),), Grid(axes), np.timedelta64(600, "s"))


@pytest.fixture
def weights(fitted, tmp_path):
    measured = {
        "correlation.parts": torch.tensor([[1.0, 2.0]]),
        "climatology.parts": torch.tensor([[1.0, 8.0]]),
        "climatology.moments": torch.tensor([0.07, 0.12]),
    }
    card = WeightCard("toy", patch(32), NETWORK, SCALING, 3, transition=CARD)
    save_weights(tmp_path, card, state=fitted.model.network.state_dict(), measured=measured)
    return tmp_path


def test_weights_serve_another_patch_of_another_size(weights):
    layout = patch(48, origin=1.0e5)
    transition = load_transition(weights, layout=layout)
    assert isinstance(transition, AdvectedTransition)
    predicted = transition.predict(torch.full((2, 3, 1, 48, 48), 0.3))
    assert predicted.mean.shape == (2, 1, 48, 48)
    climatology = transition.state_climatology
    assert climatology is not None
    unit = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
    unit[..., 24, 24] = 1.0
    applied = climatology.covariance.apply(unit)[0, 0]
    assert float(applied[24, 24]) == pytest.approx(0.12**2, rel=1e-4)
    assert float(applied[24, 28] / applied[24, 24]) == pytest.approx(np.exp(-0.5), rel=1e-3)


def test_weights_for_another_spacing_are_refused(weights):
    with pytest.raises(LayoutMismatch, match="spacing"):
        load_transition(weights, layout=patch(32, spacing=1000.0))


def test_a_card_of_an_unknown_kind_or_without_its_settings_is_refused(fitted, tmp_path):
    for transition, message in (
        ({"kind": "magic"}, "unknown kind of transition 'magic'"),
        ({"kind": "advected"}, "lack"),
    ):
        card = WeightCard("toy", patch(32), NETWORK, SCALING, 3, transition=transition)
        save_weights(tmp_path, card, state=fitted.model.network.state_dict(), measured={})
        with pytest.raises(WeightsMismatch, match=message):
            load_transition(tmp_path)


def test_the_range_of_states_is_that_of_the_codes():
    held = StateRange().hold(torch.tensor([-0.2, 0.001, 0.0117, 0.0118, 0.5, 1.2]))
    torch.testing.assert_close(held, torch.tensor([0.0, 0.0, 0.0, 0.0118, 0.5, 254 / 255]))
