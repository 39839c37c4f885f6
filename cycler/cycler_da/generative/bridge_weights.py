"""Reading the weights of a mask-bridge denoiser, with everything that must agree before they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cycler_da.errors import WeightsMismatch
from cycler_da.generative.bridge_denoiser import NetworkDenoiser
from cycler_da.generative.covariance import Covariance, spectral_from_blocks
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import load_parts
from cycler_da.layout import TRAIN_FOR_THIS, Layout

#: Kind of `transition` in the card of such weights.
TRANSITION = "mask_bridge"


@dataclass(frozen=True)
class BridgeWeights:
    """A trained denoiser, its scaling, the covariance of the scaled climate, and the observation error it knows."""

    model: NetworkDenoiser
    network: NetworkSpec  # its recipe
    scaling: Scaling
    covariance: Covariance
    error: float  # scaled
    source: str


def load_bridge(folder: Path, *, layout: Layout, sha256: str | None = None) -> BridgeWeights:
    """Read weights for a layout; raises WeightsMismatch for another kind, LayoutMismatch for other states."""
    card, network, measured = load_parts(folder, sha256=sha256)
    kind = card.transition.get("kind")
    if kind != TRANSITION:
        raise WeightsMismatch(
            f"weights {folder} are a transition of kind {kind!r}; masf needs a denoiser of kind {TRANSITION!r}, which "
            "`cycler train` makes from data.kind masked_climate"
        )
    layout.require_same(card.layout, what=f"weights {folder}", advice=TRAIN_FOR_THIS)
    covariance = spectral_from_blocks(torch.complex(measured["climatology.real"], measured["climatology.imag"]))
    error = float(card.transition["error"])
    return BridgeWeights(NetworkDenoiser(network), card.network, card.scaling, covariance, error, str(folder))
