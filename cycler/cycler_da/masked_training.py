"""Training of the denoiser of MASF from a config: climate of a simulated system, fit, held-out scores.

Scores of the card, on states of other trajectories: the root of the loss (1: nothing is known beyond the variance of
every cell), and for every stride the RMSE of E[x_0 | y], scaled: what the observations of one window tell without any
forecast, by the network and by optimal interpolation with the covariance of the same states.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from cycler_da.errors import ConfigError
from cycler_da.generative.bridge_denoiser import NetworkDenoiser, bound_denoiser
from cycler_da.generative.bridge_training import MaskedStates, held_out_loss, train_bridge
from cycler_da.generative.bridge_weights import TRANSITION
from cycler_da.generative.cell_interpolation import CellInterpolation, cell_interpolation
from cycler_da.generative.covariance import blocks_from_residuals, spectral_from_blocks
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.noise import Noise
from cycler_da.systems.base import ClimateSpec, noisy_step
from cycler_da.systems.climate import climate_system

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SeenClimate:
    """States of a system's climate, and the grids on which they are seen."""

    system: Mapping[str, Any]  # kind and options of a numerical system
    seed: int
    error: float  # of an observation, in the units of what is seen
    strides: tuple[int, ...]
    trajectories: int = 24
    states: int = 40  # of one trajectory
    spacing: int = 4  # model steps between them
    held_out: int = 4  # trajectories

    def __post_init__(self) -> None:
        self.system_spec()
        if not self.error > 0 or not self.strides or min(self.strides) < 1:
            raise ConfigError(
                f"data: error is {self.error}, strides {self.strides}; expected a positive number and strides from 1"
            )

    def system_spec(self) -> ClimateSpec:
        """The numerical system; raises ConfigError for a kind that cannot be simulated."""
        return climate_system(self.system, where="data.system")


@dataclass(frozen=True, kw_only=True)
class MaskedClimate(SeenClimate):
    """Scaled states, seen themselves."""


def train_masked(
    data: MaskedClimate,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None,
    on_message: Callable[[str], None],
) -> TrainedTransition:
    """Make the states, fit and score; continues what an earlier call left."""
    states = scaling.to_scaled(climate_states(data, run_folder, on_message)).to(torch.float32)
    split = data.held_out * data.states
    blocks = blocks_from_residuals(states[split:])
    masks = tuple(stride_interpolation(blocks, stride, data.error) for stride in data.strides)
    training, held_out = (MaskedStates(part, masks) for part in (states[split:], states[:split]))
    on_message(f"fit {settings.network.kind}: {len(training.states)} states, {settings.steps} steps")
    model, seconds = train_bridge(
        NetworkDenoiser, training, held_out, settings, folder=run_folder, on_progress=on_progress
    )
    scores = {
        "loss_root": held_out_loss(model, held_out) ** 0.5,
        "rmse_given_observations": rmse_given_observations(end_of(model), held_out, data.strides),
        "rmse_of_climatology": float(held_out.states.square().mean().sqrt()),
    }
    return TrainedTransition(
        network=model.network,
        layout=data.system_spec().layout(),
        transition={"kind": TRANSITION, "error": data.error, "strides": list(data.strides)},
        measured={"climatology.real": blocks.real, "climatology.imag": blocks.imag},
        scores=scores,
        facts={"n_states": len(training.states), "seed": data.seed},
        seconds=seconds,
    )


def end_of(model: NetworkDenoiser) -> Callable[[Tensor, CellInterpolation], Tensor]:
    """E[x_0 | x_a] at a = 0, where x_a is the observation."""
    return lambda x, seen: bound_denoiser(model, seen)(x, 0.0)


def stride_interpolation(blocks: Tensor, stride: int, error: float, *, first: int = 0) -> CellInterpolation:
    """Every n-th cell along both axes is observed, all channels from `first` on; `blocks` of the scaled climate."""
    size, channels = blocks.shape[0], blocks.shape[-1]
    mask = torch.zeros(channels, size, size, dtype=torch.float64)
    mask[first:, ::stride, ::stride] = 1.0
    return cell_interpolation(spectral_from_blocks(blocks), mask, noise_std=error)


def rmse_given_observations(
    at_end: Callable[[Tensor, CellInterpolation], Tensor],
    held_out: MaskedStates,
    strides: tuple[int, ...],
    *,
    n_scored: int | None = None,
) -> dict[str, dict[str, float]]:
    """RMSE of E[x_0 | y] for every stride, by the network (`at_end`) and by interpolation alone.

    Of the first channels, or all; what is given to both is noise alone where nothing is observed.
    """
    rows: dict[str, dict[str, float]] = {}
    for stride, seen in zip(strides, held_out.masks, strict=True):
        states = held_out.states
        xi = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
        x = seen.mask.to(states) * states + seen.noise_std * xi
        answers = {"network": at_end(x, seen), "interpolation": seen.mean(x)}
        misses = {name: (answer - states)[:, :n_scored] for name, answer in answers.items()}
        rows[str(stride)] = {name: float(miss.square().mean().sqrt()) for name, miss in misses.items()}
    return rows


def climate_states(
    data: SeenClimate, folder: Path, on_message: Callable[[str], None]
) -> Float[Tensor, "sample channel y x"]:
    """The states in their own units, held-out trajectories first; kept in the folder."""
    path, wanted = folder / "states.safetensors", json.dumps([repr(data.system_spec()), repr(data)])
    note = path.with_suffix(".json")
    if path.is_file() and note.is_file() and note.read_text() == wanted:
        return load_file(path)["states"]
    n_members = data.trajectories + data.held_out
    on_message(f"simulate {n_members} trajectories of {data.states * data.spacing} steps")
    spec, members = data.system_spec(), range(n_members)
    dynamics, noise = spec.build(), Noise(data.seed)
    state, kept = spec.spun_up(noise, members=members), []
    for step in range(1, data.states * data.spacing + 1):
        state = noisy_step(dynamics, state, noise, members=members, step=step)
        if step % data.spacing == 0:
            kept.append(state)
    states = torch.stack(kept, dim=1).flatten(0, 1).contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"states": states}, path)
    note.write_text(wanted)
    return states
