"""The denoiser of a transition of few variables: fitted to whitened residuals when mean and root are done, and scored.

    r = P(z0) L0^-1 (z1 - z0 - mu(z0)) of every pair,   F by the denoising loss of `generative.denoiser`

Scores of the card, on held-out pairs: the denoising loss (1: nothing is known beyond the Gaussian), and the fair energy
score of one-step draws by the number of tau points, in units of scaling.std, beside that of draws of the true model,

    mean |X_m - x1| - mean |X_m - X_m'| / 2,     |.| the Euclidean norm of all values; of one variable it is the CRPS

One point is the Gaussian. Sources: Gneiting, Raftery (2007), J. Am. Stat. Assoc. 102, 359-378 (energy score).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.denoiser import NetworkDenoiser, denoising_loss, fit_denoiser
from cycler_da.generative.dense_training import ScaledPairs, whiten
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.localisation import GaussianDraw, SharedNoise, localise, tau_grid
from cycler_da.generative.networks import NetworkSpec, ResidualMlp, build_network
from cycler_da.generative.networks.base import MeanAndRoot
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Points of tau that the card scores, and where their grids end.
SCORED_GRIDS = {1: 3.0, 2: 3.0, 5: 20.0, 10: 60.0}
#: Held-out pairs whose draws are scored, and draws of each.
N_SCORED, N_DRAWS = 1000, 16


@dataclass(frozen=True)
class ResidualFit:
    """One fit of a denoiser; `settings` are those of the mean and the root."""

    network: MeanAndRoot
    spec: NetworkSpec
    settings: TrainSettings
    folder: Path
    on_progress: Callable[[Progress], None] | None = None

    def run(self, pairs: ScaledPairs) -> tuple[NetworkDenoiser, float]:
        """The averaged denoiser and the seconds it took; goes on from its checkpoint."""
        require_residual_mlp(self.spec)
        settings = replace(self.settings, network=self.spec)
        white, folder = whitened(self.network, pairs), self.folder / "denoiser"
        fitted, seconds = fit_denoiser(pairs.starts, white, settings, folder=folder, at_zero=0.0, tell=self._tell)
        return fitted.requires_grad_(False), seconds

    def _tell(self, step: int, loss: float, seconds: float) -> None:
        if self.on_progress is not None:
            self.on_progress(Progress(step, self.settings.steps, loss, None, math.nan, seconds))


def require_residual_mlp(spec: NetworkSpec) -> None:
    """Raise ConfigError for a network that is no denoiser of few variables."""
    if not isinstance(build_network(spec), ResidualMlp):
        raise ConfigError(f"denoiser.kind is {spec.kind!r}; residuals of simulated states are fitted by: residual_mlp")


@torch.no_grad()
def whitened(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "sample channel *space"]:
    """r of every pair."""
    return whiten(network, pairs).reshape(pairs.starts.shape)


@torch.no_grad()
def held_out_loss(network: MeanAndRoot, denoiser: NetworkDenoiser, pairs: ScaledPairs) -> float:
    """Denoising loss over pairs that were not fitted, every tau of the training but 0."""
    generator = torch.Generator().manual_seed(1)
    return float(denoising_loss(denoiser, pairs.starts, whitened(network, pairs), generator, at_zero=0.0))


@torch.no_grad()
def energy_by_points(
    transition: DenseTransition,
    starts: Float[Tensor, "sample channel *space"],
    ends: Float[Tensor, "sample channel *space"],
    *,
    seed: int,
    to_scaled: Callable[[Tensor], Tensor],
) -> dict[str, float]:
    """Energy score of draws by the number of tau points; starts in physical units, ends scaled."""
    prediction = transition.predict(starts.repeat_interleave(N_DRAWS, dim=0)[:, None])
    noise = SharedNoise(Noise(seed), range(len(starts) * N_DRAWS), "scores", torch.float64)
    draw, scores = GaussianDraw(prediction.endpoint, noise), {}
    for n_points, tau_max in SCORED_GRIDS.items():
        grid = tau_grid(n_points, tau_max)
        x = prediction.to_state(localise(draw, grid, like=prediction.blank(torch.float64), noise=noise))
        scores[_name_of(n_points)] = energy_score(to_scaled(x).unflatten(0, (-1, N_DRAWS)), ends)
    return scores


def energy_score(
    draws: Float[Tensor, "sample draw channel *space"], ends: Float[Tensor, "sample channel *space"]
) -> float:
    """Mean fair energy score of the draws of every sample."""
    x, y = draws.flatten(2).to(torch.float64), ends.flatten(1).to(torch.float64)
    n = x.shape[1]
    error = (x - y[:, None]).norm(dim=2).mean(dim=1)
    apart = torch.cdist(x, x).sum(dim=(1, 2)) / (n * (n - 1))
    return float((error - 0.5 * apart).mean())


def _name_of(n_points: int) -> str:
    return "Gaussian, 1 point" if n_points == 1 else f"{n_points} points to {SCORED_GRIDS[n_points]:g}"
