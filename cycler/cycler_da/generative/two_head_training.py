"""Training of the two heads: once on the climate (amortised), and again on the members of a cycle.

    loss = mean of | F - target |^2 over x and h (`two_head_denoiser`); log of a / (sigma sqrt(1 - a^2)) uniform, a = 0
    for a tenth of the pairs, where every augmented chain begins; a mask for every pair, or for `together` of them

Adam with warm-up and cosine decay; the moving average of the weights is kept. `tuned_on_members` goes on from given
weights with the members of one cycle and its mask, by AdamW, as published (120 steps of all members but a tenth,
learning rate 3e-4); all members of a step have one level, so that the Gaussian is solved once. Its noise is keyed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.bridge_denoiser import RATIOS
from cycler_da.generative.bridge_training import draw_signals
from cycler_da.generative.checkpoint import Checkpoint
from cycler_da.generative.fitting import descend, run_steps
from cycler_da.generative.networks import build_network
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.generative.two_head_denoiser import TwoHeadDenoiser, Unexplained, mean_error, select_masks
from cycler_da.generative.two_heads import GaussianPair, PairProcess, forward

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Levels at which what a network misses is measured.
LEVELS = 12


@dataclass(frozen=True)
class ObservedPairs:
    """Scaled pairs z = (x, h), the process, and the parts of the cells that are observed in turn."""

    z: Float[Tensor, "sample nm"]
    process: PairProcess
    observable: Float[Tensor, "m"]  # 1 where h is defined
    fractions: tuple[float, ...]
    together: int = 1  # pairs of a step that share a level and a mask: one solve of the Gaussian for all of them

    def masks(self, count: int, generator: torch.Generator) -> Float[Tensor, "count m"]:
        """Masks at random, each with one of the fractions."""
        picked = torch.randint(len(self.fractions), (count, 1), generator=generator)
        wanted = torch.tensor(self.fractions, dtype=torch.float64)[picked]
        drawn = torch.rand(count, len(self.observable), generator=generator, dtype=torch.float64)
        return (drawn < wanted).to(torch.float64) * self.observable

    def batch(
        self, picked: Tensor, a: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, PairProcess]:
        """Clean pairs, u, a, and the process; as many masks as there are levels, one or one for each."""
        process = select_masks(self.process, self.masks(len(a), generator))
        clean, wide = self.z[picked], a.to(torch.float64)[:, None]
        xi = torch.randn(len(picked), len(process.noise), generator=generator, dtype=torch.float64)
        return clean, forward(process, clean, wide, xi), wide, process


def train_heads(
    training: ObservedPairs,
    held_out: ObservedPairs,
    pair: GaussianPair,
    shape: tuple[int, ...],
    settings: TrainSettings,
    *,
    folder: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[TwoHeadDenoiser, float]:
    """Fit F; with a folder, continue from the checkpoint there. Returns the denoiser and the seconds spent."""
    model, average = (
        TwoHeadDenoiser(build_network(settings.network, seed=settings.seed), pair, shape) for _ in range(2)
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
    running = Checkpoint(
        folder, repr((settings, type(training.process).__name__, training.fractions)), model, average, optimiser
    )
    error = mean_error(training.process)

    def loss_of(step: int) -> Tensor:
        generator = torch.Generator().manual_seed((settings.seed << 32) + step)
        picked = torch.randint(len(training.z), (settings.batch,), generator=generator)
        parts = [picked] if training.together == 1 else list(picked.split(training.together))
        count = settings.batch if training.together == 1 else 1
        batches = [training.batch(part, draw_signals(count, error, generator), generator) for part in parts]
        return torch.stack([_loss(model, *batch) for batch in batches]).mean()

    def tell(step: int, last: float, seconds: float) -> None:
        if on_progress is not None:
            check = float(measure_unexplained(average, held_out, n_pairs=200).share.mean()) ** 0.5
            on_progress(Progress(step, settings.steps, last, check, 1.0, seconds))

    seconds = run_steps(running, settings, loss_of, tell)
    return average.eval(), seconds


@torch.no_grad()
def measure_unexplained(model: TwoHeadDenoiser, held_out: ObservedPairs, *, n_pairs: int | None = None) -> Unexplained:
    """What F misses of held-out pairs at every level, x and h together; of all of them, or of the first."""
    levels = torch.linspace(math.log(RATIOS[0]), math.log(RATIOS[1]), LEVELS, dtype=torch.float64)
    error, shares = mean_error(held_out.process), []
    for level in levels:
        ratio = float(level.exp()) * error
        generator = torch.Generator().manual_seed(0)
        missed = [
            model.misses(*held_out.batch(part, torch.full((len(part),), ratio / math.hypot(1.0, ratio)), generator))
            for part in torch.arange(n_pairs or len(held_out.z)).split(128)
        ]
        shares.append(torch.cat(missed).square().mean().to(torch.float64))
    return Unexplained(levels, torch.stack(shares))


def tuned_on_members(
    model: TwoHeadDenoiser,
    process: PairProcess,
    members: Float[Tensor, "member nm"],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> TwoHeadDenoiser:
    """A copy of the model, fitted to scaled members of one cycle and to its mask."""
    tuned = copy.deepcopy(model)
    generator, error = torch.Generator().manual_seed(seed), mean_error(process)
    optimiser = torch.optim.AdamW(tuned.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
    size = max(1, math.ceil(0.9 * len(members)))
    with torch.inference_mode(False), torch.enable_grad():
        for _ in range(steps):
            clean = members[torch.randperm(len(members), generator=generator)[:size]].clone()
            a = draw_signals(1, error, generator).to(torch.float64)[:, None]
            xi = torch.randn(size, len(process.noise), generator=generator, dtype=torch.float64)
            descend(_loss(tuned, clean, forward(process, clean, a, xi), a, process), optimiser, clip=1.0)
    return tuned.eval()


def _loss(model: TwoHeadDenoiser, clean: Tensor, u: Tensor, a: Tensor, process: PairProcess) -> Tensor:
    return model.misses(clean, u, a, process).square().mean()
