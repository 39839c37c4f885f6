"""Training of both forms of MASF on large grids from a config: climate, what operators see of it, fit, scores.

States are those of `masked_training`; what operators see at every cell are further channels, in one unit (the root mean
square of their deviations), and masks are of these channels alone. The fit is that of a mask bridge.

Scores of the card, on states of other trajectories: the root of the loss (1: nothing is known beyond the variance of
every cell), and for every stride the RMSE of E[x | y], scaled: what observations of one time tell without any forecast,
by the network, and by linear regression on h with the climate's covariances. For `form: dual_head` that is E[x | u] at
a = 0, where u is the observation, and in cells without one noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.bridge_denoiser import NetworkDenoiser
from cycler_da.generative.bridge_training import MaskedStates, held_out_loss, train_bridge
from cycler_da.generative.covariance import blocks_from_residuals, spectral_from_blocks
from cycler_da.generative.mixed_denoiser import MixedDenoiser
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.observed_bridge import AUGMENTED, DUAL_HEAD, TRANSITION, denoiser_on, longer_states
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.masked_training import (
    SeenClimate,
    climate_states,
    end_of,
    rmse_given_observations,
    stride_interpolation,
)
from cycler_da.obs import catalogue as _obs  # noqa: F401  (registers the operators)
from cycler_da.obs.fields import ObservedField, distinct_fields, seen_everywhere

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ObservedClimate(SeenClimate):
    """States, and what operators see of them."""

    observed: tuple[Mapping[str, Any], ...]  # variable and operator, one for each observed variable
    form: Literal["augmented", "dual_head"] = "augmented"  # of `masf_two_heads`

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in (AUGMENTED, DUAL_HEAD):
            raise ConfigError(f"data.form is {self.form!r}; valid: {AUGMENTED}, {DUAL_HEAD}")
        self.fields()

    def fields(self) -> tuple[ObservedField, ...]:
        """The observed fields; raises ConfigError without any, and for two of one variable."""
        return distinct_fields(self.observed, self.system_spec().layout())

    def require_network(self, network: NetworkSpec) -> None:
        """Raise ConfigError for a network that does not give a value for every state and observed variable."""
        expected = len(self.system_spec().layout().channels) + len(self.fields())
        got = network.arguments.get("fields")
        if network.kind != "bridge_unet" or got != expected:
            raise ConfigError(
                f"network is {network.kind!r} with fields {got}; data of kind observed_climate needs bridge_unet with "
                f"fields {expected}: the variables of the state, and those that are observed"
            )


def train_observed_climate(
    data: ObservedClimate,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None,
    on_message: Callable[[str], None],
) -> TrainedTransition:
    """Make the longer states, fit and score; continues what an earlier call left."""
    fields = data.fields()
    layout, channels = data.system_spec().layout(), [field.channel for field in fields]
    physical, split = climate_states(data, run_folder, on_message), data.held_out * data.states
    h_scaling, unit = one_unit(fields, physical[split:])
    z = longer_states(scaling.to_scaled(physical), h_scaling.to_scaled(seen_everywhere(fields, physical)), channels)
    z, error, n = z.to(torch.float32), data.error / unit, len(layout.channels)
    blocks = blocks_from_residuals(z[split:])
    masks = tuple(stride_interpolation(blocks, stride, error, first=n) for stride in data.strides)
    training, held_out = (MaskedStates(part, masks) for part in (z[split:], z[:split]))
    on_message(f"fit {settings.network.kind}: {len(training.states)} states, {settings.steps} steps")
    covariance = spectral_from_blocks(blocks)

    def build(network: nn.Module) -> NetworkDenoiser | MixedDenoiser:
        return denoiser_on(network, covariance, form=data.form, channels=channels, noise_std=error)

    model, seconds = train_bridge(build, training, held_out, settings, folder=run_folder, on_progress=on_progress)
    at_end = model.at_end if isinstance(model, MixedDenoiser) else end_of(model)
    return TrainedTransition(
        network=model.network,
        layout=layout,
        transition={
            "kind": TRANSITION,
            "form": data.form,
            "error": data.error,
            "unit": unit,
            "strides": list(data.strides),
            "observed": [dict(block) for block in data.observed],
            "observed_mean": list(h_scaling.mean),
            "observed_std": list(h_scaling.std),
        },
        measured={"climatology.real": blocks.real, "climatology.imag": blocks.imag},
        scores={
            "loss_root": held_out_loss(model, held_out) ** 0.5,
            "rmse_given_observations": rmse_given_observations(at_end, held_out, data.strides, n_scored=n),
            "rmse_of_climatology": float(held_out.states[:, :n].square().mean().sqrt()),
        },
        facts={"n_states": len(training.states), "seed": data.seed},
        seconds=seconds,
    )


def one_unit(fields: tuple[ObservedField, ...], states: Float[Tensor, "sample channel y x"]) -> tuple[Scaling, float]:
    """Means of the observed channels and their common unit, as a scaling with 0 and 1 where nothing is observed."""
    mean, std, seen = [0.0] * states.shape[1], [1.0] * states.shape[1], seen_everywhere(fields, states)
    parts = [seen[:, field.channel].to(torch.float64) for field in fields]
    unit = float(torch.stack([part.var() for part in parts]).mean().sqrt())
    for field, part in zip(fields, parts, strict=True):
        mean[field.channel], std[field.channel] = float(part.mean()), unit
    return Scaling(tuple(mean), tuple(std)), unit
