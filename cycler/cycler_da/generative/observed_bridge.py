"""Both forms of MASF on large grids: states with what operators see of them as more channels, z = (x, h(x)).

    augmented   u = A z_0 + sigma sqrt(1 - a^2) eta,   A = 1 for values of h that are observed, a for all others
    dual_head   u = a x_0 + (1 - a) M h_0 + sigma sqrt(1 - a^2) eta, as published, M = 1 where h is observed

The observation is a selection of the longer state, so that the augmented form is `mask_bridge` as it stands: one Markov
chain, whose unguided reverse from the observation is Bayes whatever h is. Its network stands on an interpolation of the
observed values of h from the homogeneous covariance of z (`cell_interpolation`), in the place of the dense Gaussian of
`two_heads`. Values of h that are not observed are diffused as x is, not left out: they are known from x anyway. That of
`dual_head` stands on the exact heads of the same covariance (`mixed_denoiser`), and is sampled as published.
Limits: the noise of an augmented step takes entries as independent, x and h(x) of one cell too, an error that goes with
the size of steps; one unit for all observed fields and one sigma; h is a field (a value at every cell, alike under
shifts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import WeightsMismatch
from cycler_da.generative.bridge_denoiser import NetworkDenoiser, bound_denoiser
from cycler_da.generative.cell_interpolation import CellInterpolation
from cycler_da.generative.covariance import SpectralCovariance, spectral_from_blocks
from cycler_da.generative.mask_bridge import MaskBridge, bridge_signals, sample_bridge, variance_of_seen
from cycler_da.generative.mixed_denoiser import MixedDenoiser
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.weights import load_parts
from cycler_da.generative.wiener_heads import WienerHeads
from cycler_da.layout import TRAIN_FOR_THIS, Layout

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn

    from cycler_da.generative.localisation import MemberNoise

#: Kind of `transition` in the card of such weights.
TRANSITION = "observed_bridge"
AUGMENTED, DUAL_HEAD = "augmented", "dual_head"


@dataclass(frozen=True)
class ObservedBridgeWeights:
    """A trained denoiser of longer states, and what its numbers mean."""

    model: NetworkDenoiser | MixedDenoiser  # of the augmented form, of dual_head
    covariance: SpectralCovariance  # of scaled longer states
    scaling: Scaling  # of states
    observed: tuple[Mapping[str, Any], ...]  # variable and operator of every observed field, in the order of z
    observed_scaling: Scaling  # of the channels of h, one unit; 0 and 1 where nothing is observed
    error: float  # of an observation, in its own units
    unit: float  # of the observed fields
    source: str

    @property
    def noise_std(self) -> float:
        """Sigma of every entry, scaled."""
        return self.error / self.unit


def load_observed_bridge(
    folder: Path, *, form: str, layout: Layout, sha256: str | None = None
) -> ObservedBridgeWeights:
    """Read weights for a form and a layout; raises WeightsMismatch for another form, LayoutMismatch."""
    card, network, measured = load_parts(folder, sha256=sha256)
    own = card.transition
    found = own["form"]
    if form != found:
        raise WeightsMismatch(
            f"weights {folder} are of the form {found}; got form {form!r}. Set form: {found}, or train weights with "
            f"data.form: {form}"
        )
    layout.require_same(card.layout, what=f"weights {folder}", advice=TRAIN_FOR_THIS)
    covariance = spectral_from_blocks(torch.complex(measured["climatology.real"], measured["climatology.imag"]))
    channels = [layout.channels.index(block["variable"]) for block in own["observed"]]
    noise_std = float(own["error"]) / float(own["unit"])
    return ObservedBridgeWeights(
        model=denoiser_on(network, covariance, form=form, channels=channels, noise_std=noise_std),
        covariance=covariance,
        scaling=card.scaling,
        observed=tuple(own["observed"]),
        observed_scaling=Scaling(tuple(own["observed_mean"]), tuple(own["observed_std"])),
        error=float(own["error"]),
        unit=float(own["unit"]),
        source=str(folder),
    )


def denoiser_on(
    network: nn.Module, covariance: SpectralCovariance, *, form: str, channels: Sequence[int], noise_std: float
) -> NetworkDenoiser | MixedDenoiser:
    """A network with what it stands on; `channels` are those of x through which the fields of h look."""
    if form == DUAL_HEAD:
        return MixedDenoiser(network, WienerHeads(covariance, tuple(channels), noise_std))
    return NetworkDenoiser(network)


def longer_states(
    states: Float[Tensor, "... n y x"], seen: Float[Tensor, "... n y x"], channels: Sequence[int]
) -> Float[Tensor, "... nm y x"]:
    """States, and of what is seen of them the observed channels."""
    return torch.cat([states, seen[..., list(channels), :, :]], dim=-3)


def sample_longer(
    model: NetworkDenoiser,
    seen: CellInterpolation,
    observed: Float[Tensor, "nm y x"],
    *,
    steps: int,
    noise: MemberNoise,
) -> Float[Tensor, "member nm y x"]:
    """Draw every member of p(z_0 | observed); `observed` counts where the mask of `seen` is 1."""
    bridge = MaskBridge(seen.mask, torch.full_like(seen.mask, seen.noise_std**2))
    signals = bridge_signals(steps, noise_std=seen.noise_std)
    denoiser = bound_denoiser(model, seen)
    return sample_bridge(bridge, denoiser, observed, signals, left=variance_of_seen(bridge, seen.variance), noise=noise)
