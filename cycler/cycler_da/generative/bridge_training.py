"""Training of denoisers of masked fields: once on the climate, and again on the members of a cycle.

    loss = mean of | F - target |^2 (bridge_denoiser, mixed_denoiser), log of a / (sigma sqrt(1 - a^2)) uniform over
    RATIOS, and a = 0 for a tenth of the samples, where every chain begins

`train_bridge` shows it masks of several strides, one in each step, with the states shifted at random. Adam with warm-up
and cosine decay; the moving average of the weights is kept. `fine_tuned` goes on from given weights with the members of
one cycle and one mask, by AdamW, as published (120 steps of all members but a tenth, learning rate 3e-4; 200 steps from
an untrained network); its noise is keyed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from cycler_da.generative.bridge_denoiser import RATIOS, NetworkDenoiser
from cycler_da.generative.cell_interpolation import CellInterpolation
from cycler_da.generative.checkpoint import Checkpoint
from cycler_da.generative.fitting import descend, run_steps
from cycler_da.generative.mixed_denoiser import MixedDenoiser
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.training import Progress, TrainSettings

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Part of the samples at a = 0.
AT_END = 0.1

#: What is trained: a network that stands on what is known without it.
Denoiser = TypeVar("Denoiser", bound=NetworkDenoiser | MixedDenoiser)


@dataclass(frozen=True)
class MaskedStates:
    """Scaled states of a torus, and the masks through which they are seen."""

    states: Float[Tensor, "sample channel y x"]
    masks: tuple[CellInterpolation, ...]

    def batch(self, picked: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, CellInterpolation]:
        """Clean states, a and standard normal noise of some samples, and one mask for all."""
        seen = self.masks[int(torch.randint(len(self.masks), (1,), generator=generator))]
        shifts = [int(torch.randint(size, (1,), generator=generator)) for size in self.states.shape[2:]]
        clean = self.states[picked].roll(shifts, (2, 3))
        a = draw_signals(len(picked), seen.noise_std, generator)
        return clean, a, torch.randn(clean.shape, generator=generator), seen


def draw_signals(count: int, noise_std: float, generator: torch.Generator) -> Float[Tensor, "count"]:
    """Values of a for as many samples."""
    low, high = (math.log(ratio) for ratio in RATIOS)
    part = torch.rand(count, 2, generator=generator)
    ratio = torch.exp(low + (high - low) * part[:, 0]) * noise_std
    return torch.where(part[:, 1] < AT_END, 0.0, ratio / torch.sqrt(1.0 + ratio**2))


def train_bridge(
    build: Callable[[nn.Module], Denoiser],
    training: MaskedStates,
    held_out: MaskedStates,
    settings: TrainSettings,
    *,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[Denoiser, float]:
    """Fit the denoiser that is built on a network; with a folder, continue from the checkpoint there.

    Returns it and the seconds spent.
    """
    model, average = (build(build_network(settings.network, seed=settings.seed)) for _ in range(2))
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
    made_with = repr((settings, type(model).__name__, [len(seen.cells) for seen in training.masks]))
    running = Checkpoint(folder, made_with, model, average, optimiser)

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed((settings.seed << 32) + step)
        picked = torch.randint(len(training.states), (settings.batch,), generator=generator)
        return model.loss(*training.batch(picked, generator))

    def tell(step: int, last: float, seconds: float) -> None:
        if on_progress is not None:
            check = held_out_loss(average, held_out) ** 0.5
            on_progress(Progress(step, settings.steps, last, check, 1.0, seconds))

    seconds = run_steps(running, settings, loss_of, tell)
    average.eval()
    return average, seconds


@torch.no_grad()
def held_out_loss(model: NetworkDenoiser | MixedDenoiser, held_out: MaskedStates) -> float:
    """The loss on held-out states, with one fixed mask, level and noise for each."""
    generator, losses = torch.Generator().manual_seed(0), []
    for picked in torch.arange(len(held_out.states)).split(32):
        losses.append(float(model.loss(*held_out.batch(picked, generator))) * len(picked))
    return sum(losses) / len(held_out.states)


def fine_tuned(
    model: Denoiser,
    seen: CellInterpolation,
    members: Float[Tensor, "member channel *space"],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> Denoiser:
    """A copy of the model, fitted to members of one cycle and to its mask."""
    clean, generator = members.to(torch.float32), torch.Generator().manual_seed(seed)
    size = max(1, math.ceil(0.9 * len(clean)))
    with torch.inference_mode(False), torch.enable_grad():  # a cycle may run in inference mode: what it makes is fixed
        tuned = copy.deepcopy(model)
        optimiser = torch.optim.AdamW(tuned.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        for _ in range(steps):
            batch = clean[torch.randperm(len(clean), generator=generator)[:size]].clone()
            a = draw_signals(size, seen.noise_std, generator)
            xi = torch.randn(batch.shape, generator=generator)
            descend(tuned.loss(batch, a, xi, seen), optimiser, clip=1.0)
    tuned.eval()
    return tuned


def untrained(recipe: NetworkSpec, *, seed: int) -> NetworkDenoiser:
    """A denoiser that has learned nothing: its network answers 0, and what is left is the interpolation."""
    return NetworkDenoiser(build_network(recipe, seed=seed))


def with_state(model: Denoiser, state: Mapping[str, Tensor]) -> Denoiser:
    """A copy of a model with other weights."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(dict(state))
    return copied
