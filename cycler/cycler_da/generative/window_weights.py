"""Weights of a window network: read with their card, checked, and turned into denoisers.

The card's transition is `{kind: window, frames, mirror, observed, observed_mean, observed_std}`, its scaling that of
the states, in whose units networks work. Gamma stands beside the network: real and imaginary part, and for a law that
is its own mirror image (`mirror`) the half of the waves alone, for Gamma(-l, k) = Gamma(l, k).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cycler_da.errors import WeightsMismatch
from cycler_da.generative.diffusion.schedule import Schedule
from cycler_da.generative.diffusion.window import WindowDenoiser, WindowNetwork
from cycler_da.generative.diffusion.window_gaussian import WindowGaussian, window_gaussian
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import load_parts
from cycler_da.layout import Layout

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor

GAMMA = "window.gamma"


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

    @property
    def longest(self) -> int:
        """Most frames of a window."""
        return len(self.lags)

    def denoiser(
        self, schedule: Schedule, frames: int, *, observed: Sequence[int] = (), stride: int = 1
    ) -> WindowDenoiser:
        """The denoiser of states and some observed fields (by their place in the card) over some frames."""
        present = (*range(self.n_states), *(self.n_states + i for i in observed))
        gaussian = _gaussian(self, frames, present)
        if self.network is None:
            return WindowDenoiser(gaussian, schedule)
        network = WindowNetwork(self.network, self.frames, self.lags.shape[1], present)
        return WindowDenoiser(gaussian, schedule, network, stride)


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
    layout.require_same(card.layout, what=f"weights {folder}")
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
