"""The released windows of two-layer QG: what of their smoother can be told without their training data."""

from __future__ import annotations

import pytest
import torch

from cycler_da.generative.diffusion.schedule import COSINE_SQUARED
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.soad import SoadSpec
from cycler_da.schemes.window.coupling import WindowCouplingSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

FRAMES = 5
ROUNDING = 1e-6


@pytest.mark.parametrize("ratio", [0.2, 2.5, 15.0])
def test_rounding_of_a_noisy_window_stays_rounding(repository, ratio):
    """Surprises in waves that carry next to nothing are whitened on the way back; once it made 1e-6 a hundredth."""
    spec = SdaSpec(weights=str(repository / "data/weights/two_layer_qg/window"))
    layout = TwoLayerQGSpec().layout()
    denoiser = spec.build(SchemeContext(layout)).known.denoiser(COSINE_SQUARED, FRAMES)
    generator, shape = torch.Generator().manual_seed(0), (1, FRAMES, *layout.state_shape)
    clean, noise, apart = (torch.randn(shape, generator=generator) for _ in range(3))
    clean = denoiser.left(15.0).colored(clean)  # about the climate
    t = COSINE_SQUARED.time_of(ratio)
    z = COSINE_SQUARED.mu(t) * clean + COSINE_SQUARED.sigma(t) * noise
    with torch.no_grad():
        moved = denoiser(z + ROUNDING * apart, t) - denoiser(z, t)
    assert float(moved.square().mean().sqrt()) < 10 * ROUNDING


@pytest.mark.parametrize(
    ("spec", "options", "start"),
    [
        (SdaSpec, {}, "background"),
        (SoadSpec, {}, "background"),
        (SdaSpec, {"coupling": WindowCouplingSpec(localization_radius_cells=2.0)}, "background"),
        (SdaSpec, {"start": "noise"}, "noise"),
        (SdaSpec, {"likelihood": "sda"}, "noise"),
        (SdaSpec, {"times": "linear"}, "noise"),
        (SoadSpec, {"variant": "published"}, "noise"),
    ],
)
def test_windows_begin_at_the_background_where_the_weights_can_carry_it(repository, spec, options, start):
    weights = str(repository / "data/weights/two_layer_qg/window")
    assert spec(weights=weights, **options).build(SchemeContext(TwoLayerQGSpec().layout())).beginning.start == start
