"""Weights of a window network: read with their card, checked, and turned into denoisers.

The card's transition is `{kind: window, frames, mirror, observed, observed_mean, observed_std}`, its scaling that of
the states, in whose units networks work. With `inner` there, the network is a one-step transition that a smoother takes
(`diffusion.smoother`), and its gains stand beside it; else it is one of windows. Gamma stands beside both: real and
imaginary part, and for a law that is its own mirror image (`mirror`) the half of the waves alone, for
Gamma(-l, k) = Gamma(l, k).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cycler_da.errors import WeightsMismatch
from cycler_da.generative.diffusion.schedule import Schedule
from cycler_da.generative.diffusion.smoother import Maps, Smoother
from cycler_da.generative.diffusion.window import WindowDenoiser, WindowNetwork
from cycler_da.generative.diffusion.window_gaussian import WindowGaussian, window_gaussian
from cycler_da.generative.networks.spectral import QuadraticSpectralNet
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import load_parts
from cycler_da.generative.window_smoother import WindowSmoother
from cycler_da.layout import TRAIN_FOR_THIS, Layout

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor

GAMMA = "window.gamma"
#: Before the names of a smoother's tables, and the noise ratios of them.
GAINS, RATIO_AXIS = "window.gains.", "window.ratios"


@dataclass(frozen=True, eq=False)
class WindowPrior:
    """What is known of windows before any observation: a network and Gamma, or Gamma alone."""

    lags: Complex[Tensor, "lag channel channel y k"]
    scaling: Scaling
    n_states: int
    frames: int  # the shortest window
    network: nn.Module | None = None
    observed: tuple[Mapping[str, Any], ...] = ()
    observed_mean: tuple[float, ...] = ()
    observed_std: tuple[float, ...] = ()
    digest: str = ""
    inner: int | None = None  # grid of a smoother, whose transition `network` is
    gains: Mapping[str, Tensor] = field(default_factory=dict)  # its tables, and their ratios

    @property
    def longest(self) -> int:
        """Most frames of a window."""
        return len(self.lags)

    @property
    def is_rigid(self) -> bool:
        """True where windows have exactly `frames` frames, and longer ones are composed of them."""
        return self.network is not None and self.inner is None

    @property
    def evaluated(self) -> nn.Module | None:
        """The module that denoising evaluates, for those who count its passes."""
        if self.network is None or self.inner is None:
            return self.network
        assert isinstance(self.network, QuadraticSpectralNet)
        return _small(self.network, self.inner)

    @property
    def seen(self) -> int:
        """Frames of a window that are seen at once."""
        return self.frames if self.inner is None else self.longest

    def denoiser(
        self,
        schedule: Schedule,
        frames: int,
        *,
        observed: Sequence[int] = (),
        stride: int = 1,
        maps: Maps | None = None,
    ) -> WindowDenoiser:
        """The denoiser of states and some observed fields (by their place in the card) over some frames.

        `maps`: scaled states to those fields, scaled; a smoother needs it. `stride` is that of windows of a network.
        """
        present = (*range(self.n_states), *(self.n_states + i for i in observed))
        gaussian = _gaussian(self, frames, present)
        if self.network is None:
            return WindowDenoiser(gaussian, schedule)
        if self.inner is None:
            network = WindowNetwork(self.network, self.frames, self.lags.shape[1], present)
            return WindowDenoiser(gaussian, schedule, network, stride)
        smoother = window_smoother(self.network, self.inner, self.n_states, maps=maps if observed else None)
        tables = {name: table for name, table in self.gains.items() if name != RATIO_AXIS}
        known = WindowSmoother(smoother, tables, self.gains[RATIO_AXIS], frames, present, self.n_states)
        return WindowDenoiser(gaussian, schedule, known)


def window_smoother(network: nn.Module, inner: int, n_states: int, *, maps: Maps | None = None) -> Smoother:
    """The smoother around a one-step transition; raises WeightsMismatch for a network that has no other grids."""
    if not isinstance(network, QuadraticSpectralNet):
        raise WeightsMismatch(f"a smoother of windows takes a quadratic_spectral network, got {type(network).__name__}")
    small = _small(network, inner)
    return Smoother(lambda x: x + small(x), network.size, inner, n_states, maps)


@lru_cache(maxsize=4)
def _small(network: QuadraticSpectralNet, inner: int) -> QuadraticSpectralNet:
    return network.resized(inner)


@lru_cache(maxsize=8)
def _gaussian(prior: WindowPrior, frames: int, present: tuple[int, ...]) -> WindowGaussian:
    return window_gaussian(prior.lags, frames, channels=present)


def load_window(folder: Path, *, layout: Layout, sha256: str | None = None) -> WindowPrior:
    """Load weights for a layout; raises WeightsMismatch for other weights or a damaged file, LayoutMismatch."""
    card, network, measured = load_parts(folder, sha256=sha256)
    if card.transition.get("kind") != "window" or GAMMA not in measured:
        raise WeightsMismatch(
            f"weights {folder} are of kind {card.transition.get('kind')!r}; window schemes (sda, pdediff, soad) need "
            "weights of kind 'window', such as data/weights/two_layer_qg/window"
        )
    layout.require_same(card.layout, what=f"weights {folder}", advice=TRAIN_FOR_THIS)
    own = card.transition
    return WindowPrior(
        lags=unpack_lags(measured[GAMMA], layout.grid.shape[-2], mirror=bool(own["mirror"])),
        scaling=card.scaling,
        n_states=len(layout.channels),
        frames=int(own["frames"]),
        network=network,
        observed=tuple(own["observed"]),
        observed_mean=tuple(own["observed_mean"]),
        observed_std=tuple(own["observed_std"]),
        digest=card.sha256[:16],
        inner=own.get("inner"),
        gains={
            name.removeprefix(GAINS): table for name, table in measured.items() if name.startswith((GAINS, RATIO_AXIS))
        },
    )


def pack_lags(lags: Complex[Tensor, "lag channel channel y k"], *, mirror: bool) -> Float[Tensor, "*packed"]:
    """Gamma as real numbers; half of the rows of a mirrored law."""
    rows = lags[..., : lags.shape[-2] // 2 + 1, :] if mirror else lags
    return torch.view_as_real(rows.contiguous())


def unpack_lags(
    packed: Float[Tensor, "*packed"], n_rows: int, *, mirror: bool
) -> Complex[Tensor, "lag channel channel y k"]:
    """The inverse of `pack_lags`."""
    rows = torch.view_as_complex(packed.contiguous())
    if not mirror:
        return rows
    rest = torch.arange(n_rows // 2 + 1, n_rows)
    return torch.cat([rows, rows[..., n_rows - rest, :]], dim=-2)
