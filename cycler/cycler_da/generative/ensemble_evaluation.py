"""Scores of ensemble forecasts of a learned transition beside those of the true model, for the card.

Both run the same members from the same exact starts. What the true model's ensemble mean misses is the noise of the
system, which no model can forecast; its CRPS is the least that any ensemble can have. Fair CRPS (an ensemble as a
sample of its distribution), averaged over points: E|X - y| - E|X - X'| / 2 with distinct members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.localisation import GaussianDraw, MemberNoise, localise
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.transition import Transition

#: One model step of many states; the number counts the steps from the start.
EnsembleStep = Callable[["Tensor", int], "Tensor"]


def score_ensembles(
    steps: Mapping[str, EnsembleStep],
    trajectories: Float[Tensor, "trajectory time channel *space"],
    scaling: Scaling,
    *,
    leads: Sequence[int],
    start_every: int = 60,
    n_members: int = 8,
) -> dict[str, dict[str, dict[str, float]]]:
    """RMSE of the mean, fair CRPS and spread/skill of every model at every lead, scaled units."""
    first = range(0, trajectories.shape[1] - max(leads), start_every)
    starts = torch.cat([trajectories[:, t] for t in first])
    truths = {lead: scaling.to_scaled(torch.cat([trajectories[:, t + lead] for t in first])) for lead in leads}
    rows: dict[str, dict[str, dict[str, float]]] = {str(lead): {} for lead in leads}
    for name, step in steps.items():
        states = starts.repeat(n_members, *(1,) * (starts.ndim - 1))
        for lead in range(1, max(leads) + 1):
            states = step(states, lead)
            if lead in leads:
                members = scaling.to_scaled(states).unflatten(0, (n_members, len(starts)))
                rows[str(lead)][name] = ensemble_scores(members, truths[lead])
    return rows


def ensemble_scores(
    members: Float[Tensor, "member case channel *space"], truth: Float[Tensor, "case channel *space"]
) -> dict[str, float]:
    """RMSE of the mean, fair CRPS and spread/skill (1 where members are draws of the truth's law)."""
    x, y = members.to(torch.float64), truth.to(torch.float64)
    n = len(x)
    error = ((x.mean(dim=0) - y) ** 2).mean()
    # Sum of |x_i - x_j| over pairs from the sorted members: the i-th smallest counts 2 i - n + 1 times.
    rank = 2.0 * torch.arange(n, dtype=torch.float64) - n + 1.0
    apart = (torch.sort(x, dim=0).values * rank.reshape(-1, *(1,) * (x.ndim - 1))).sum(dim=0) / (n * (n - 1))
    crps = ((x - y).abs().mean(dim=0) - apart).mean()
    spread = torch.sqrt((1.0 + 1.0 / n) * x.var(dim=0).mean() / error)
    return {"rmse": float(error.sqrt()), "crps": float(crps), "spread_skill": float(spread)}


def transition_step(transition: Transition, noise: Noise) -> EnsembleStep:
    """Steps of a learned transition with one state of history: mean and one draw of the residual."""

    def step(states: Tensor, count: int) -> Tensor:
        return next_states(
            transition, states[:, None], MemberNoise(noise, range(len(states)), f"evaluation.{count}", torch.float32)
        )

    return step


def next_states(
    transition: Transition, frames: Float[Tensor, "batch time channel *space"], noise: MemberNoise
) -> Float[Tensor, "batch channel *space"]:
    """One draw of the next state of every member."""
    frames = transition.kicked(frames, noise)
    mean = torch.cat([transition.mean(part) for part in frames.split(32)])
    residual = localise(GaussianDraw(transition.endpoint(frames), noise), (0.0,), like=mean, noise=noise)
    return transition.to_state(mean, residual)
