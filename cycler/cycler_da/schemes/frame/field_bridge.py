"""MASF's forms for fields of a torus in a cycle: `generative/observed_bridge` with members and carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.generative.bridge_denoiser import NetworkDenoiser
from cycler_da.generative.bridge_training import fine_tuned, with_state
from cycler_da.generative.cell_interpolation import CellInterpolation, cell_interpolation
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mixed_denoiser import FieldHeads, MixedDenoiser
from cycler_da.generative.observed_bridge import ObservedBridgeWeights, longer_states, sample_longer
from cycler_da.generative.two_heads import Mixed
from cycler_da.noise import Noise
from cycler_da.obs.fields import ObservedField, seen_everywhere
from cycler_da.schemes.frame.carried_network import network_in, network_to_carry
from cycler_da.schemes.frame.scaled_pairs import PairFields

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class FieldCycle:
    """What one analysis is made from."""

    weights: ObservedBridgeWeights
    fields: Sequence[ObservedField]
    pairs: PairFields
    background: Ensemble
    fine_tune: tuple[int, float] | None  # steps, learning rate of every cycle after the first, from the network before
    noise: Noise
    carry: Mapping[str, Tensor]
    scheme: str

    def longer(self, values: Float[Tensor, "n"]) -> Float[Tensor, "nm y x"]:
        """Values of h at cells as a longer state whose x is 0."""
        h = values.reshape(self.background.layout.state_shape)
        return longer_states(torch.zeros_like(h), h, [field.channel for field in self.fields])

    def interpolation(self) -> CellInterpolation:
        """What the observed cells tell of all others."""
        mask = self.longer(self.pairs.mask)
        return cell_interpolation(self.weights.covariance, mask, noise_std=self.weights.noise_std)

    def network(self, seen: CellInterpolation) -> tuple[NetworkDenoiser | MixedDenoiser, Mapping[str, Tensor]]:
        """The network of this cycle, and what of it is carried on."""
        model = self.weights.model
        if self.fine_tune is None:
            return model, {}
        earlier = network_in(self.carry)
        if earlier:  # the first cycle uses the network as it is
            longer = scaled_longer(self.weights, self.fields, self.background.latest.to(torch.float64).clone())
            seed = int(self.noise.generator(f"{self.scheme}.fine_tune").integers(2**31))
            tuned, (count, rate) = with_state(model, earlier), self.fine_tune
            model = fine_tuned(tuned, seen, longer, steps=count, learning_rate=rate, seed=seed)
        return model, network_to_carry(model)


def draw_fields(cycle: FieldCycle, *, steps: int) -> tuple[Float[Tensor, "member n"], Mapping[str, Tensor]]:
    """Scaled draws of the augmented form, and the network to be carried on."""
    seen = cycle.interpolation()
    model, carried = cycle.network(seen)
    assert isinstance(model, NetworkDenoiser)
    keyed = MemberNoise(cycle.noise, cycle.background.members, cycle.scheme)
    drawn = sample_longer(model, seen, cycle.longer(cycle.pairs.observed), steps=steps, noise=keyed)
    return drawn[:, : cycle.background.layout.state_shape[0]].flatten(1), carried


def mixed_heads(cycle: FieldCycle) -> tuple[FieldHeads, Mixed, Mapping[str, Tensor]]:
    """Both heads of `dual_head`, the process, and the network to be carried on.

    The process has the error of the weights in every cell, also in one that several observations share.
    """
    seen = cycle.interpolation()
    model, carried = cycle.network(seen)
    assert isinstance(model, MixedDenoiser)
    noise = torch.full_like(cycle.pairs.variance, cycle.weights.noise_std**2)
    return FieldHeads(model, seen), Mixed(cycle.pairs.mask[None], noise), carried


def scaled_longer(
    weights: ObservedBridgeWeights, fields: Sequence[ObservedField], states: Float[Tensor, "member n y x"]
) -> Float[Tensor, "member nm y x"]:
    """Scaled states beside what is seen of them at every cell."""
    seen = weights.observed_scaling.to_scaled(seen_everywhere(fields, states))
    return longer_states(weights.scaling.to_scaled(states), seen, [field.channel for field in fields])
