"""Noise before a step: what a forecast makes of it, and how it is told from that behind the step."""

from __future__ import annotations

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.kicks import kicked, noise_blocks
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import WaveCovariance, wave_blocks, wave_covariance
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise

SIZE, DAMPING, START = 8, 0.6, np.datetime64("2020-01-01T00:00:00", "s")
AXES = tuple(Axis(name, SIZE, 1.0, 0.0, "m", periodic=True) for name in ("y", "x"))
LAYOUT = Layout("toy", (Variable("a", "1", "toy variable"),), Grid(AXES), np.timedelta64(3600, "s"))


class Damped(torch.nn.Module):
    """Increment of x' = DAMPING x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (DAMPING - 1.0) * x


def _noise(level: float) -> WaveCovariance:
    blocks = torch.zeros(3, SIZE, SIZE // 2 + 1, dtype=torch.float64)
    blocks[0, 1, 2], blocks[1, 0, 3] = level, 4.0 * level
    return wave_covariance(blocks)


def _transition(early: WaveCovariance | None) -> Transition:
    return Transition(Damped(), Scaling((0.0,), (2.0,)), _noise(1.0), early_covariance=early)


def _start(members: tuple[int, ...]) -> Ensemble:
    return Ensemble(torch.zeros(len(members), 1, 1, SIZE, SIZE), np.array([START]), members, LAYOUT)


def test_noise_before_the_step_is_damped_by_it_and_noise_behind_is_not():
    model = InterpolantForecast(LAYOUT, _transition(_noise(1.0)), (0.0,), "toy")
    ahead = model.forecast(_start(tuple(range(2000))), np.array([START + LAYOUT.step]), noise=Noise(1))
    found = wave_blocks(ahead.latest / 2.0)
    expected = 1.0 + DAMPING**2
    # Of 2000 draws a variance has a sampling error of 3.2 %.
    torch.testing.assert_close(found[0, 1, 2], torch.tensor(expected, dtype=torch.float64), rtol=0.1, atol=0.0)
    torch.testing.assert_close(found[1, 0, 3], torch.tensor(4.0 * expected, dtype=torch.float64), rtol=0.1, atol=0.0)


def test_a_member_takes_the_same_noise_in_any_batch():
    model = InterpolantForecast(LAYOUT, _transition(_noise(1.0)), (0.0,), "toy")
    whole, some = (
        model.forecast(_start(members), START + LAYOUT.step * np.array([1, 2]), noise=Noise(1)).values
        for members in ((0, 1, 2, 3), (2,))
    )
    assert torch.equal(whole[2:3], some) and not torch.equal(whole[1:2], some)


def test_frames_are_left_as_they_are_without_noise_before_the_step():
    frames = torch.randn(3, 2, 1, SIZE, SIZE)
    assert kicked(_transition(None), frames, MemberNoise(Noise(1), range(3), "a")) is frames


def test_the_last_frame_alone_takes_the_noise():
    frames = torch.randn(3, 2, 1, SIZE, SIZE)
    taken = kicked(_transition(_noise(1.0)), frames, MemberNoise(Noise(1), range(3), "a", torch.float32))
    assert torch.equal(taken[:, 0], frames[:, 0]) and not torch.equal(taken[:, 1], frames[:, 1])


def test_the_noise_is_found_from_the_residuals_of_whole_steps():
    true, early = _noise(1.0), 0.5
    seen = early * DAMPING**2 + 1.0 - early  # of the variance of the noise, in the residual
    residuals = wave_blocks(true.scaled(seen).color(torch.randn(4000, 1, SIZE, SIZE, generator=_generator())))
    starts = torch.randn(4000, 1, SIZE, SIZE, generator=_generator())
    found = noise_blocks(
        lambda x: DAMPING * x, starts, residuals, early=early, measure=wave_blocks, covariance=wave_covariance
    )
    expected = torch.tensor([1.0, 4.0], dtype=torch.float64)
    # Residuals and draws have sampling errors of 2.2 % each, and the iteration leaves (1 - seen)^4 = 1 % of 32 %.
    torch.testing.assert_close(torch.stack([found[0, 1, 2], found[1, 0, 3]]), expected, rtol=0.1, atol=0.0)
    assert float(residuals[0, 1, 2]) < 0.75  # the residuals alone would be taken for less noise


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)
