"""Training of a dense transition: the mean by squared error, then the root of its covariance by likelihood.

    1. mu        < |(z1 - z0 - mu(z0)) / s|^2 >,   s the standard deviation of the increment of each value
    2. L0        root of the mean residual covariance, from the training pairs
    3. P(z0)     < |P L0^-1 r|^2 / 2 - log det P >,   r = z1 - z0 - mu(z0), the mean held fixed

Fitted together by likelihood, the mean would give up where the spread is large. Each part takes all steps of the
settings, with Adam and the schedule of `training`; a moving average of the weights is what is released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.checkpoint import Checkpoint
from cycler_da.generative.conditioned_transition import with_level
from cycler_da.generative.fitting import run_steps
from cycler_da.generative.networks import build_network
from cycler_da.generative.networks.base import MeanAndRoot
from cycler_da.generative.training import Progress, TrainSettings, draw_samples

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class ScaledPairs:
    """Starts and ends of transitions, float32, scaled units; starts that are known with errors have levels."""

    starts: Float[Tensor, "sample channel *space"]
    ends: Float[Tensor, "sample channel *space"]
    levels: Float[Tensor, "sample"] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, picked: Tensor) -> ScaledPairs:
        levels = None if self.levels is None else self.levels[picked]
        return ScaledPairs(self.starts[picked], self.ends[picked], levels)

    @property
    def inputs(self) -> Float[Tensor, "sample inputs *space"]:
        """What the network sees: starts, and their levels where they have some."""
        return self.starts if self.levels is None else with_level(self.starts, self.levels)


Loss = Callable[[MeanAndRoot, ScaledPairs], "Tensor"]


@dataclass(frozen=True)
class Recipe:
    """What the two parts are fitted by, and how the root between them is measured."""

    mean_loss: Loss
    residual_root: Loss
    root_loss: Loss


@dataclass(frozen=True)
class DenseFit:
    """One training: its pairs, settings, folder of checkpoints and who is told of progress."""

    training: ScaledPairs
    check: ScaledPairs  # held out; scored and used for nothing else
    settings: TrainSettings
    folder: Path | None = None
    on_progress: Callable[[Progress], None] | None = None
    recipe: Recipe | None = None  # None: the losses of this module

    def run(self) -> tuple[MeanAndRoot, float]:
        """Fit both parts; returns the averaged network and the seconds it took. Continues from checkpoints."""
        average, recipe = _build(self.settings), self.recipe or DENSE
        average.increment_std.copy_((self.training.ends - self.training.starts).std(dim=0).flatten())
        seconds = self._fit("mean", average, recipe.mean_loss)
        average.base_root.copy_(recipe.residual_root(average, self.training))
        seconds += self._fit("root", average, recipe.root_loss)
        return average.eval(), seconds

    def _fit(self, part: str, average: MeanAndRoot, loss: Loss) -> float:
        """Fit one tower of `average` in place."""
        settings, network = self.settings, _build(self.settings)
        network.load_state_dict(average.state_dict())
        tower: nn.Module = getattr(network, part)
        optimiser = torch.optim.Adam(tower.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
        folder = None if self.folder is None else self.folder / part
        running = Checkpoint(folder, repr(settings), network, average, optimiser)

        def loss_of(step: int) -> Tensor:
            return loss(network, self.training[draw_samples(len(self.training), settings, step)])

        return run_steps(running, settings, loss_of, partial(self._tell, average))

    @torch.no_grad()
    def _tell(self, average: MeanAndRoot, step: int, loss: float, seconds: float) -> None:
        if self.on_progress is not None:
            ours = _rmse(residuals(average, self.check))
            persistence = _rmse(self.check.ends - self.check.starts)
            self.on_progress(Progress(step, self.settings.steps, loss, ours, persistence, seconds))


def mean_loss(network: MeanAndRoot, pairs: ScaledPairs) -> Tensor:
    """Squared error of the increment in units of its standard deviation."""
    return (residuals(network, pairs).flatten(1) / network.increment_std).square().mean()


def root_loss(network: MeanAndRoot, pairs: ScaledPairs) -> Tensor:
    """Negative log likelihood of the residual, without its constants; no gradient to the mean."""
    return likelihood_loss(network.whitener(pairs.inputs), whiten_by_base(network, pairs))


def likelihood_loss(whitener: Float[Tensor, "sample n n"], residual: Float[Tensor, "sample n"]) -> Tensor:
    """Negative log likelihood of a residual that is whitened by its base, without constants."""
    white = times(whitener, residual)
    return (0.5 * white.square().sum(dim=1) - whitener.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)).mean()


def whiten(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "sample n"]:
    """P L0^-1 r of every pair."""
    return times(network.whitener(pairs.inputs), whiten_by_base(network, pairs))


@torch.no_grad()
def whiten_by_base(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "sample n"]:
    """L0^-1 r of every pair: one root for all states."""
    left = residuals(network, pairs).flatten(1)
    white: Tensor = torch.linalg.solve_triangular(network.base_root, left.T, upper=False).T
    return white


@torch.no_grad()
def residual_root(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "n n"]:
    """L0: lower triangular root of the mean covariance of what the mean leaves."""
    left = residuals(network, pairs).flatten(1).to(torch.float64)
    root: Tensor = torch.linalg.cholesky(left.T @ left / len(left))
    return root.to(torch.float32)


def residuals(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "sample channel *space"]:
    """z1 - z0 - mu(z0)."""
    return pairs.ends - pairs.starts - network(pairs.inputs)


#: The losses of this module.
DENSE = Recipe(mean_loss, residual_root, root_loss)


def _build(settings: TrainSettings) -> MeanAndRoot:
    if settings.precision != "float32" or settings.compiled:
        raise ConfigError("fit.precision and fit.compiled are for networks of fields; leave them out for states")
    network = build_network(settings.network, seed=settings.seed)
    if not isinstance(network, MeanAndRoot):
        raise ConfigError(
            f"network.kind is {settings.network.kind!r}; simulated states are fitted by: mlp, quadratic_ring, "
            "and with data.conditioning conditioned_ring"
        )
    return network


def times(matrix: Float[Tensor, "sample n n"], v: Float[Tensor, "sample n"]) -> Float[Tensor, "sample n"]:
    """Each matrix times its vector."""
    return torch.einsum("bij,bj->bi", matrix, v)


def _rmse(error: Tensor) -> float:
    return float(error.to(torch.float64).square().mean().sqrt())
