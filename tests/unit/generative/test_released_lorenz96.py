"""The released transitions of Lorenz-96 against the true model they were trained on."""

from __future__ import annotations

import pytest
import torch

from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.weights import load_transition
from cycler_da.noise import Noise
from cycler_da.systems.base import noisy_step
from cycler_da.systems.lorenz96 import Lorenz96Spec

STATES = Lorenz96Spec().spun_up(Noise(11), members=range(64))


@pytest.mark.parametrize(("name", "error"), [("step", 0.003), ("step_noise", 0.03)])
def test_the_mean_is_the_true_step(repository, name, error):
    """Errors as on the cards (0.0017 and 0.020 in units of X), with a margin; persistence is off by about 0.9."""
    prediction = load_transition(repository / "data/weights/lorenz96" / name).predict(STATES[:, None])
    true = Lorenz96Spec().build().step(STATES)
    assert float((prediction.mean - true).square().mean().sqrt()) < error


def test_the_spread_of_the_noisy_step_is_the_process_noise(repository):
    prediction = load_transition(repository / "data/weights/lorenz96/step_noise").predict(STATES[:, None])
    variance = prediction.root.square().sum(dim=2)
    assert float(variance.mean().sqrt()) == pytest.approx(0.3, rel=0.02)
    # The noise is the same in every state: what the learned spread makes of states is its own error.
    assert float(variance.sqrt().std()) < 0.02


def test_the_spread_of_the_step_without_noise_is_that_of_its_errors(repository):
    prediction = load_transition(repository / "data/weights/lorenz96/step").predict(STATES[:, None])
    errors = Lorenz96Spec().build().step(STATES) - prediction.mean
    white = torch.linalg.solve(prediction.root, errors[:, 0, :, None])[..., 0]
    assert float(white.square().mean()) == pytest.approx(1.0, abs=0.2)


def test_five_steps_in_one_are_near_the_mean_of_the_true_model(repository):
    """0.25 time units: the mean of 64 noisy runs of the true model, its own sampling error included."""
    system = Lorenz96Spec(process_noise=0.1 / 0.05**0.5)
    states = STATES[:16].repeat_interleave(64, dim=0)
    for step in range(5):
        states = noisy_step(system.build(), states, Noise(2), members=range(len(states)), step=step)
    true = states.unflatten(0, (16, 64)).mean(dim=1)
    mean = load_transition(repository / "data/weights/lorenz96/five_steps").predict(STATES[:16, None]).mean
    # Persistence is off by 3.8; the process noise alone spreads single runs by about 0.25.
    assert float((mean - true).square().mean().sqrt()) < 0.15


def test_the_conditioned_step_is_the_true_step_at_level_zero(repository):
    prediction = load_transition(repository / "data/weights/lorenz96/conditioned").predict(STATES[:, None])
    true = Lorenz96Spec().build().step(STATES)
    # On the card 0.0008 of the deviation of 3.63, with a margin.
    assert float((prediction.mean - true).square().mean().sqrt()) < 0.01


@pytest.mark.parametrize("level", [0.1, 0.25, 0.5])
def test_the_conditioned_step_knows_what_an_error_of_its_start_leaves_open(repository, level):
    """0.25 is no level of the training."""
    transition = load_transition(repository / "data/weights/lorenz96/conditioned")
    assert isinstance(transition, ConditionedTransition)
    z = torch.randn(STATES.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    seen, true = STATES + level * 3.63 * z, Lorenz96Spec().build().step(STATES)
    prediction = transition.at_level(level).predict(seen[:, None])
    errors = true - prediction.mean
    white = torch.linalg.solve(prediction.root, errors[:, 0, :, None])[..., 0]
    # 64 states of 40 correlated numbers: about 0.04.
    assert float(white.square().mean()) == pytest.approx(1.0, abs=0.12)
    unaware = true - transition.predict(seen[:, None]).mean
    assert float(errors.square().mean()) < float(unaware.square().mean())
