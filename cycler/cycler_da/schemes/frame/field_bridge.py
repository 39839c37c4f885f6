"""The augmented form of MASF for fields of a torus in a cycle: `generative/observed_bridge` with members and carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.generative.bridge_training import fine_tuned, with_state
from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.observed_bridge import ObservedBridgeWeights, longer_states, sample_longer
from cycler_da.noise import Noise
from cycler_da.obs.fields import ObservedField, seen_everywhere
from cycler_da.schemes.frame.carried_network import network_in, network_to_carry
from cycler_da.schemes.frame.scaled_pairs import PairFields

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def draw_fields(
    weights: ObservedBridgeWeights,
    fields: Sequence[ObservedField],
    pairs: PairFields,
    background: Ensemble,
    *,
    steps: int,
    fine_tune: tuple[int, float] | None,
    noise: Noise,
    carry: Mapping[str, Tensor],
    scheme: str,
) -> tuple[Float[Tensor, "member n"], Mapping[str, Tensor]]:
    """Scaled draws of the state, and the network to be carried on.

    `fine_tune` is steps and learning rate of what every cycle after the first does with the network of the one before.
    """
    shape, channels = background.layout.state_shape, [field.channel for field in fields]
    blank = torch.zeros(shape, dtype=torch.float64)
    mask, observed = (longer_states(blank, one.reshape(shape), channels) for one in (pairs.mask, pairs.observed))
    seen = cell_interpolation(weights.covariance, mask, noise_std=weights.noise_std)
    model, carried = weights.model, dict[str, torch.Tensor]()
    if fine_tune is not None:
        earlier = network_in(carry)
        if earlier:  # the first cycle uses the network as it is
            longer = scaled_longer(weights, fields, background.latest.to(torch.float64).clone())
            seed = int(noise.generator(f"{scheme}.fine_tune").integers(2**31))
            tuned, (count, rate) = with_state(model, earlier), fine_tune
            model = fine_tuned(tuned, seen, longer, steps=count, learning_rate=rate, seed=seed)
        carried = network_to_carry(model)
    drawn = sample_longer(model, seen, observed, steps=steps, noise=MemberNoise(noise, background.members, scheme))
    return drawn[:, : shape[0]].flatten(1), carried


def scaled_longer(
    weights: ObservedBridgeWeights, fields: Sequence[ObservedField], states: Float[Tensor, "member n y x"]
) -> Float[Tensor, "member nm y x"]:
    """Scaled states beside what is seen of them at every cell."""
    seen = weights.observed_scaling.to_scaled(seen_everywhere(fields, states))
    return longer_states(weights.scaling.to_scaled(states), seen, [field.channel for field in fields])
