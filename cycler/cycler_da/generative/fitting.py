"""The loop of every training: steps down a loss, the moving average of the weights behind them, checkpoints on the way.

What differs between trainings is the loss of a step, which is a function of the step alone (samples and noise are drawn
from it), and what is told at a checkpoint. So a run that was stopped takes the same steps as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from cycler_da.generative.checkpoint import Checkpoint, follow

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cycler_da.generative.training import TrainSettings

#: Told at a checkpoint: steps done, the last loss, seconds spent.
Tell = Callable[[int, float, float], None]


def run_steps(
    running: Checkpoint, settings: TrainSettings, loss_of: Callable[[int], Tensor], tell: Tell | None = None
) -> float:
    """Take the steps that the checkpoint has not seen; returns the seconds of all of them.

    Raises ConfigError when the checkpoint belongs to other settings.
    """
    done, spent = running.resume()
    began = time.monotonic()
    for step in range(done, settings.steps):
        last = descend(loss_of(step), running.optimiser, clip=settings.clip, rate=settings.rate(step))
        follow(running.average, running.network, settings.decay(step))
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            seconds = spent + time.monotonic() - began
            running.keep(step + 1, seconds)
            if tell is not None:
                tell(step + 1, last, seconds)
    return spent + time.monotonic() - began


def descend(loss: Tensor, optimiser: torch.optim.Optimizer, *, clip: float, rate: float | None = None) -> float:
    """One step of the optimiser's parameters, their gradient clipped in norm, at its rate or a given one; the loss."""
    if rate is not None:
        for group in optimiser.param_groups:
            group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([weight for group in optimiser.param_groups for weight in group["params"]], clip)
    optimiser.step()
    return float(loss.detach())
