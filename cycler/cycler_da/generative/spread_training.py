"""Training of a network that gives a mean and a standard deviation, on batches with masks.

    loss = 100 < w (y - mean)^2 > + 0.1 < w [ ((y - mean) / std)^2 / 2 + log std ] >

w is 1 where history and target are known, else 0, averages are over the weights. The likelihood sees the mean
as a constant: it fits the spread alone, because a mean that may trade error for spread gives up where errors
are large. The weights of the two parts make their gradients alike in size for errors of 0.05 (code / 255).
AdamW, the schedule of `training`, and a moving average of the weights, which is what is released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from cycler_da.generative.advected import MeanAndSpread, SpreadHead
from cycler_da.generative.arithmetic import arithmetic, prepare
from cycler_da.generative.checkpoint import Checkpoint
from cycler_da.generative.fitting import run_steps
from cycler_da.generative.networks import build_network
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import Progress, TrainSettings

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

WEIGHT_DECAY = 1e-2
MEAN_PART, SPREAD_PART = 100.0, 0.1


class MaskedBatch(Protocol):
    """History that was brought to the time of the target, the target, and where both are known."""

    @property
    def history(self) -> Float[Tensor, "batch time y x"]:
        """Advected frames, oldest first."""
        ...

    @property
    def target(self) -> Float[Tensor, "batch 1 y x"]:
        """What came."""
        ...

    @property
    def weight(self) -> Float[Tensor, "batch 1 y x"]:
        """1 where known, else 0."""
        ...


@dataclass(frozen=True)
class Fitted:
    """The averaged network and how long it took."""

    model: MeanAndSpread
    seconds: float


def fit_mean_and_spread(
    batch_of: Callable[[int], MaskedBatch],
    check: MaskedBatch,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    spread: SpreadHead,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Fitted:
    """Fit on `batch_of(step)`; with a folder, continue from the checkpoint found there and keep one there.

    `check` is a held-out batch, scored at every checkpoint and used for nothing else.
    """
    network = prepare(build_network(settings.network, seed=settings.seed).to(settings.device), settings)
    average = build_network(settings.network, seed=settings.seed).to(settings.device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=WEIGHT_DECAY)
    running = Checkpoint(folder, f"{settings!r} {spread!r} {scaling!r}", network, average, optimiser)
    model = MeanAndSpread(network, scaling, spread)

    def tell(step: int, last: float, seconds: float) -> None:
        if on_progress is not None:
            learned, advected = _errors(MeanAndSpread(average, scaling, spread), check)
            on_progress(Progress(step, settings.steps, last, learned, advected, seconds))

    seconds = run_steps(running, settings, lambda step: _loss(model, batch_of(step), settings), tell)
    average.eval()
    return Fitted(MeanAndSpread(average.cpu(), scaling, spread), seconds)


def _loss(model: MeanAndSpread, batch: MaskedBatch, settings: TrainSettings) -> Tensor:
    history, target, weight = (part.to(settings.device) for part in (batch.history, batch.target, batch.weight))
    with arithmetic(settings):
        mean, std = model(history)
    weight = weight / weight.mean().clamp(min=1e-6)
    residual = target - mean
    likelihood = 0.5 * (residual.detach() / std) ** 2 + torch.log(std)
    return MEAN_PART * (weight * residual**2).mean() + SPREAD_PART * (weight * likelihood).mean()


@torch.no_grad()
def _errors(model: MeanAndSpread, batch: MaskedBatch) -> tuple[float, float]:
    """RMSE of the mean, and of the last advected frame alone, over known pixels."""
    device = next(model.network.parameters()).device
    mean = torch.cat([model(part.to(device))[0].cpu() for part in batch.history.split(8)])
    known = batch.weight > 0
    learned, advected = ((guess - batch.target)[known] for guess in (mean, batch.history[:, -1:]))
    return float(learned.square().mean().sqrt()), float(advected.square().mean().sqrt())
