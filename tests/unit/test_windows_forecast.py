"""Window weights as a forecast model: exact for a Gaussian, the same whatever its length, better than no change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast import ForecastModel, WindowsForecast, WindowsSpec
from cycler_da.generative.diffusion.window_gaussian import persistent_lags
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.noise import Noise
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

WEIGHTS = Path(__file__).parents[2] / "data" / "weights" / "two_layer_qg" / "window"
SIZE, CORRELATION, STD = 16, 0.8, (8.2e-6, 1.06e-6)
LAYOUT = TwoLayerQGSpec(size=SIZE).layout()
START = np.datetime64("2020-01-01T00:00:00", "s")


def times(*steps: int) -> np.ndarray:
    return START + LAYOUT.step * np.array(steps)


def model() -> WindowsForecast:
    """White fields of which each keeps four fifths of the one before."""
    blocks = torch.eye(2, dtype=torch.complex128).expand(SIZE, SIZE // 2 + 1, 2, 2)
    prior = WindowPrior(persistent_lags(blocks, CORRELATION, 4), Scaling((0.0, 0.0), STD), 2, frames=4, digest="toy")
    return WindowsForecast(LAYOUT, prior, n_steps=8)


def members(n: int) -> Ensemble:
    z = torch.randn(n, 1, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Ensemble(z * torch.tensor(STD, dtype=torch.float64)[:, None, None], times(0), tuple(range(n)), LAYOUT)


def test_frames_of_a_gaussian_are_drawn_from_their_law_given_the_first_also_in_the_next_window():
    """E[z_k | z_0] = c^k z_0, variance 1 - c^2k: 60 members of 512 values, five standard errors."""
    start, std = members(60), torch.tensor(STD, dtype=torch.float64)[:, None, None]
    ahead = model().forecast(start, times(1, 3, 4, 6), noise=Noise(3))
    assert isinstance(model(), ForecastModel)
    for i, k in enumerate((1, 3, 4, 6)):
        left = (ahead.values[:, i] - CORRELATION**k * start.values[:, 0]) / std
        variance = 1.0 - CORRELATION ** (2 * k)
        assert abs(float(left.mean())) < 5.0 * (variance / left.numel()) ** 0.5
        assert float(left.square().mean()) == pytest.approx(variance, rel=5.0 * (2.0 / left.numel()) ** 0.5 + 2e-3)


def test_a_step_does_not_depend_on_how_far_the_forecast_goes_or_on_other_members():
    start = members(3)
    far = model().forecast(start, times(2, 7), noise=Noise(4))
    near = model().forecast(start, times(2), noise=Noise(4))
    assert torch.equal(far.values[:, 0], near.values[:, 0])
    alone = model().forecast(start.select(slice(1, 2)), times(2), noise=Noise(4))
    torch.testing.assert_close(alone.values[0], near.values[1], rtol=1e-5, atol=1e-10)


def test_released_windows_forecast_a_day_with_half_of_the_error_of_no_change():
    spec = TwoLayerQGSpec()
    truth = spec.spun_up(Noise(9), members=range(1), years=0.3)
    later = spec.build().step(truth)
    start = Ensemble(truth[:, None].expand(2, 1, *truth.shape[1:]).contiguous(), times(0), (0, 1), spec.layout())
    ahead = WindowsSpec(weights=str(WEIGHTS)).build(spec.layout()).forecast(start, times(1), noise=Noise(5))
    error = (ahead.values[:, 0] - later).square().mean(dim=(0, 2, 3))
    persistence = (truth - later).square().mean(dim=(0, 2, 3))
    assert bool((error < 0.25 * persistence).all())


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="n_steps"):
        WindowsSpec(weights="x", n_steps=1)
    with pytest.raises(ConfigError, match="cuda"):
        WindowsSpec(weights=str(WEIGHTS)).build(TwoLayerQGSpec().layout(), device="cuda")
