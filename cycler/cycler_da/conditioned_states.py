"""Training of a transition of few variables from starts that are known with errors (`data.conditioning` of a config).

    pair      x0~ = x0 + l S e and the state one transition after the clean x0;  x0 on the attractor, S the scaling's
              standard deviations, e white, l drawn from the levels for every pair

The network is told l. Level 0 is the clean transition.

Scores of the card, on pairs of other trajectories, at every level and halfway between levels: RMSE of the mean beside
that of the clean transition from the same start, which is what a network without levels can do, and the mean square of
the residual whitened by its own root (1: the spread is right).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.generative.conditioned_training import CONDITIONED, whiten_conditioned
from cycler_da.generative.dense_training import DenseFit, ScaledPairs, residuals
from cycler_da.generative.networks.base import MeanAndRoot
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.noise import Noise
from cycler_da.state_training import SimulatedStates, StateSimulation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor


def train_conditioned(
    data: SimulatedStates,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] = lambda text: None,
) -> TrainedTransition:
    """Run a training to its end; continues what an earlier call left in the run folder."""
    levels, simulation = data.levels(), StateSimulation(data, scaling)
    assert levels is not None
    on_message(f"simulate {data.pairs} pairs of {data.interval} model steps, errors of {len(levels)} levels")
    states = simulation.starts(data.pairs, stream="training")
    clean = simulation.pairs(states, stream="training")
    held_out = simulation.pairs(simulation.starts(data.held_out, stream="held out"), stream="held out")
    training = with_errors(clean, drawn_levels(levels, len(clean), data.seed), seed=data.seed, stream="training")
    check = with_errors(held_out, drawn_levels(levels, len(held_out), data.seed), seed=data.seed, stream="check")
    on_message(f"fit {settings.network.kind}: mean, then root, {settings.steps} steps each")
    network, seconds = DenseFit(training, check, settings, run_folder, on_progress, CONDITIONED).run()
    flat = states[-len(states) // 5 :].flatten(1)  # the latest, which have forgotten where they began
    on_message("score on held-out pairs")
    return TrainedTransition(
        network=network,
        layout=data.layout(),
        transition={"kind": "dense", "conditioning": {"levels": list(levels)}},
        measured={"climatology.mean": flat.mean(dim=0), "climatology.covariance": torch.atleast_2d(torch.cov(flat.T))},
        scores=score_levels(network, held_out, levels, seed=data.seed),
        facts={"n_pairs": len(training), "n_held_out": len(held_out), "seed": data.seed},
        seconds=seconds,
    )


def with_errors(pairs: ScaledPairs, levels: Float[Tensor, "sample"], *, seed: int, stream: str) -> ScaledPairs:
    """The pairs with white errors of the given levels in their starts; ends are those of the clean starts."""
    e = Noise(seed).shared_normal(f"{stream}.errors", tuple(pairs.starts.shape), dtype=torch.float32)
    sizes = levels.reshape(-1, *(1,) * (e.ndim - 1))
    return ScaledPairs(pairs.starts + sizes * e, pairs.ends, levels)


def drawn_levels(levels: Sequence[float], n: int, seed: int) -> Float[Tensor, "sample"]:
    """One of the levels for every pair."""
    picked = torch.from_numpy(Noise(seed).generator("levels").integers(0, len(levels), n))
    return torch.tensor(levels, dtype=torch.float32)[picked]


@torch.no_grad()
def score_levels(network: MeanAndRoot, held_out: ScaledPairs, levels: Sequence[float], *, seed: int) -> dict[str, Any]:
    """What the card says of every level, and of those halfway between two; `held_out` are clean."""
    halfway = [0.5 * (low + high) for low, high in itertools.pairwise(levels)]
    scores = {}
    for level in sorted({*levels, *halfway}):
        told = torch.full((len(held_out),), level)
        pairs = with_errors(held_out, told, seed=seed, stream="scores")
        unaware = ScaledPairs(pairs.starts, pairs.ends, torch.zeros_like(told))
        scores[f"{level:g}"] = {
            "rmse": _rms(residuals(network, pairs)),
            "rmse of the clean transition": _rms(residuals(network, unaware)),
            "mean square of the whitened residual": float(whiten_conditioned(network, pairs).square().mean()),
        }
    return {"n_pairs": len(held_out), "units": "scaling.std", "levels": scores}


def _rms(error: Tensor) -> float:
    return float(error.to(torch.float64).square().mean().sqrt())
