"""Training of a transition: fit the mean network, measure the residual, score on held-out trajectories.

The loss is the mean squared error of the increment in units of its own standard deviation for each
channel, so that slow layers count as much as fast ones, or (`loss: whitened`) that error in units of what cannot be
known of each wave (`wave_loss`). Adam with a linear warm-up and a cosine decay over
a fixed number of steps (a run that was interrupted and resumed takes the same steps), gradient clipping,
and an exponential moving average of the weights, which is what is released. The residual covariance comes
from calibration pairs, the scores from test trajectories; neither was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.arithmetic import PRECISIONS, arithmetic, prepare
from cycler_da.generative.checkpoint import Checkpoint
from cycler_da.generative.fitting import run_steps
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.pairs import Pairs
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.wave_loss import MEASURED_EVERY, N_MEASURED, WaveLoss, wave_loss

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LOSSES = ("squared", "whitened")
Loss = Callable[["Tensor"], "Tensor"]  # of errors in units of the increment's deviation


@dataclass(frozen=True)
class TrainSettings:
    """How a mean network is fitted."""

    network: NetworkSpec
    steps: int
    batch: int = 8
    learning_rate: float = 1e-2
    warm_up: int = 50
    clip: float = 1.0
    average_decay: float = 0.998
    checkpoint_every: int = 500
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"  # or bfloat16, see `arithmetic`
    compiled: bool = False  # by torch.compile
    loss: str = "squared"  # or whitened, see `wave_loss`
    #: Steps over which the rate would fall to zero; None: `steps`. Not in `repr`, which names the checkpoints of runs.
    decay_over: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigError(f"fit.precision is {self.precision!r}; valid: {', '.join(PRECISIONS)}")
        if self.loss not in LOSSES:
            raise ConfigError(f"fit.loss is {self.loss!r}; valid: {', '.join(LOSSES)}")
        if self.loss == "whitened" and self.checkpoint_every % MEASURED_EVERY:
            raise ConfigError(
                f"fit.checkpoint_every is {self.checkpoint_every}; the whitened loss needs a multiple of "
                f"{MEASURED_EVERY}, or a resumed training would not be the same"
            )

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine to zero."""
        warm = min(1.0, (step + 1) / self.warm_up)
        return self.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / (self.decay_over or self.steps)))

    def decay(self, step: int) -> float:
        """Decay of the moving average of the weights; shorter at the start."""
        return min(self.average_decay, (step + 1) / (step + 10))


@dataclass(frozen=True)
class Progress:
    """What a running training says of itself."""

    step: int
    steps: int
    loss: float
    validation_rmse: float | None  # scaled units, one step
    persistence_rmse: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A fitted mean network (averaged weights) and what it leaves of held-out targets, scaled units."""

    network: nn.Module
    residuals: Float[Tensor, "sample channel *space"]
    seconds: float


def train(
    training: Pairs,
    calibration: Pairs,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Fit a network; with a folder, continue from the checkpoint found there and keep one there.

    Raises ConfigError when the checkpoint belongs to other settings.
    """
    device = settings.device
    network = prepare(build_network(settings.network, seed=settings.seed).to(device), settings)
    average = build_network(settings.network, seed=settings.seed).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
    running = Checkpoint(folder, repr(settings), network, average, optimiser)
    frames, targets = _scaled(training, scaling, device)
    deviation = _increment_deviation(frames, targets)
    held_frames, held_targets = _scaled(calibration, scaling, device)
    persistence = _rmse(held_targets - held_frames[:, -held_targets.shape[1] :])
    measure: Loss = _mean_square

    def loss_of(step: int) -> Tensor:
        nonlocal measure
        if settings.loss == "whitened" and step % MEASURED_EVERY == 0:
            measure = _measured_loss(network, settings, step, frames, targets, deviation)
        picked = draw_samples(len(training), settings, step).to(device)
        with arithmetic(settings):
            predicted = network(frames[picked])
        return measure((predicted - _increment(frames[picked], targets[picked])) / deviation)

    def tell(step: int, last: float, seconds: float) -> None:
        if on_progress is not None:
            check = _rmse(_residuals(average, held_frames, held_targets))
            on_progress(Progress(step, settings.steps, last, check, persistence, seconds))

    seconds = run_steps(running, settings, loss_of, tell)
    average.eval()
    residuals = _residuals(average, held_frames, held_targets).cpu()
    return Trained(average.cpu(), residuals, seconds)


def _mean_square(error: Tensor) -> Tensor:
    return (error**2).mean()


def _measured_loss(
    network: nn.Module, settings: TrainSettings, step: int, frames: Tensor, targets: Tensor, deviation: Tensor
) -> WaveLoss:
    """The whitened loss with what the network leaves now of some training pairs."""
    many = replace(settings, batch=N_MEASURED, seed=settings.seed + 1)
    picked = draw_samples(len(frames), many, step).to(frames.device)
    return wave_loss(_residuals(network, frames[picked], targets[picked]) / deviation)


def draw_samples(n_pairs: int, settings: TrainSettings, step: int) -> Tensor:
    """Samples of a step: a function of (seed, step) alone, so that a resumed run draws the same."""
    generator = np.random.Generator(np.random.Philox(key=(settings.seed << 40) + step))
    return torch.from_numpy(generator.integers(0, n_pairs, settings.batch))


def _scaled(pairs: Pairs, scaling: Scaling, device: str) -> tuple[Tensor, Tensor]:
    frames = scaling.to_scaled(pairs.frames.to(torch.float32)).flatten(1, 2)
    return frames.to(device), scaling.to_scaled(pairs.targets.to(torch.float32)).to(device)


def _increment(frames: Tensor, targets: Tensor) -> Tensor:
    return targets - frames[:, -targets.shape[1] :]


def _increment_deviation(frames: Tensor, targets: Tensor) -> Tensor:
    dims = (0, *range(2, targets.ndim))
    return _increment(frames, targets).std(dim=dims).reshape(-1, *(1,) * (targets.ndim - 2))


@torch.no_grad()
def _residuals(network: nn.Module, frames: Tensor, targets: Tensor) -> Tensor:
    parts = zip(frames.split(32), targets.split(32), strict=True)
    return torch.cat([_increment(f, t) - network(f) for f, t in parts])


def residuals_of(network: nn.Module, pairs: Pairs, scaling: Scaling) -> Float[Tensor, "sample channel *space"]:
    """What a network leaves of the targets of some pairs, scaled units."""
    return _residuals(network, *_scaled(pairs, scaling, "cpu"))


def _rmse(error: Tensor) -> float:
    return float((error.to(torch.float64) ** 2).mean().sqrt())
