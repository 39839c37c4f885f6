"""The released weights of two-layer QG on other grids, for the benchmark `window_cost`.

The waves that both grids have keep their filters and spectra (a spectrum grows with the number of points); waves that
only a finer grid has get no filter and next to no variance. So schemes do on every grid what they do on theirs, on the
same flow, and what they cost there is what is to be known: they are not skilful beyond the waves that they know.
The denoiser of MASF has the shape of the released one of Kolmogorov flow and is not trained: QG has none.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.bench.turbulence.soad_settings import WEIGHTS
from cycler_da.bench.turbulence.soad_settings_cases import ERROR, LAYOUT, STD
from cycler_da.bench.turbulence.soad_settings_filters import LEARNED
from cycler_da.forecast.interpolant import InterpolantForecast, InterpolantSpec
from cycler_da.generative.bridge_denoiser import NetworkDenoiser
from cycler_da.generative.bridge_weights import BridgeWeights
from cycler_da.generative.covariance import SpectralCovariance, spectral_from_blocks
from cycler_da.generative.networks import build_network
from cycler_da.generative.networks.spectral import QuadraticSpectralNet
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.shells import Shells
from cycler_da.generative.transition import Transition
from cycler_da.generative.weights import read_card
from cycler_da.generative.window_weights import RATIO_AXIS, WindowPrior, load_window
from cycler_da.layout import Layout
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

if TYPE_CHECKING:
    from jaxtyping import Complex
    from torch import Tensor

BRIDGE = Path("data/weights/kolmogorov/masf")
#: Variance of waves that only a finer grid has, of scaled states for each wave; correlation from day to day.
FINE_VARIANCE, FINE_CORRELATION = 1e-6, 0.9


def layout_of(size: int) -> Layout:
    """Two-layer QG on a grid."""
    return TwoLayerQGSpec(size=size).layout()


def windows_on(size: int) -> WindowPrior:
    """The released windows; on their own grid as they are."""
    known = load_window(WEIGHTS, layout=LAYOUT)
    if size == LAYOUT.grid.shape[-1]:
        return known
    assert known.inner is not None and isinstance(known.network, QuadraticSpectralNet)
    inner = known.inner * size // known.network.size
    counts = {"fields": Shells(size).count}
    gains = {
        name: table if name == RATIO_AXIS else table[:, :, : counts.get(name.split(".")[-1], Shells(inner).count)]
        for name, table in known.gains.items()
    }
    n_lags, n_channels = known.lags.shape[:2]
    fine = FINE_VARIANCE * FINE_CORRELATION ** torch.arange(n_lags, dtype=torch.float64)
    floor = fine[:, None, None] * torch.eye(n_channels, dtype=torch.float64)
    lags = waves_on(known.lags, size, floor.to(known.lags.dtype))
    return replace(known, lags=lags, network=network_on(known.network, size), inner=inner, gains=gains)


def forecast_on(size: int) -> InterpolantForecast:
    """The released one-step model."""
    model, known = InterpolantSpec(weights=str(LEARNED)).build(LAYOUT), _released()
    assert isinstance(known.mean_network, QuadraticSpectralNet)
    moved = replace(
        known,
        mean_network=network_on(known.mean_network, size),
        residual_covariance=_covariance_on(known.residual_covariance, size),
        climatology=_covariance_on(known.climatology, size),
    )
    return replace(model, layout=layout_of(size), transition=moved)


def untrained_bridge(size: int) -> BridgeWeights:
    """A denoiser for MASF on the climate of QG, of the released shape."""
    climatology = _covariance_on(_released().climatology, size)
    recipe = read_card(BRIDGE).network
    network = build_network(recipe).requires_grad_(False).eval()
    return BridgeWeights(NetworkDenoiser(network), recipe, Scaling((0.0, 0.0), STD), climatology, ERROR, "untrained")


def network_on(network: QuadraticSpectralNet, size: int) -> QuadraticSpectralNet:
    """The same filters on another grid; beyond their own waves they are zero."""
    if size <= network.size:
        return network.resized(size)
    large = QuadraticSpectralNet(
        size=size, channels=network.channels, products=network.products, stages=network.stages
    ).requires_grad_(False)
    mine = dict(network.named_parameters())
    for name, profile in large.named_parameters():
        known = mine[name]
        profile.zero_()[..., : known.shape[-1]] = known
    return large.eval()


def waves_on(
    spectrum: Complex[Tensor, "*any y k"], size: int, floor: Complex[Tensor, "*any"]
) -> Complex[Tensor, "*any size wave"]:
    """Power of waves on another square grid; `floor` where both grids do not have a wave."""
    old = spectrum.shape[-2]
    half = min(old, size) // 2
    moved = floor[..., None, None].expand(*floor.shape, size, size // 2 + 1).clone()
    grown = spectrum * (size / old) ** 2
    moved[..., :half, :half] = grown[..., :half, :half]
    moved[..., size - half + 1 :, :half] = grown[..., old - half + 1 :, :half]
    return moved


def _released() -> Transition:
    transition = InterpolantSpec(weights=str(LEARNED)).build(LAYOUT).transition
    assert isinstance(transition, Transition)
    return transition


def _covariance_on(covariance: object, size: int) -> SpectralCovariance:
    assert isinstance(covariance, SpectralCovariance)
    blocks = covariance.blocks()
    if size == blocks.shape[0]:
        return covariance
    floor = FINE_VARIANCE * torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    return spectral_from_blocks(waves_on(blocks.permute(2, 3, 0, 1), size, floor).permute(2, 3, 0, 1))
