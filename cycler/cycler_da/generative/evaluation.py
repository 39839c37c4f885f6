"""Held-out scores of a transition, for its card: beside persistence and climatology, never alone.

RMSE in scaled units (1 = climatological standard deviation) of the mean forecast at several leads, the
ratio of power spectra, and spread/skill of one-step draws against the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cycler_da.generative.ensemble_evaluation import next_states
from cycler_da.generative.localisation import MemberNoise
from cycler_da.noise import Noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.transition import Transition


@torch.no_grad()
def evaluate_transition(
    transition: Transition,
    trajectories: Float[Tensor, "trajectory time channel y x"],
    *,
    leads: Sequence[int] = (1, 2, 5, 10),
    start_every: int = 15,
) -> dict[str, Any]:
    """Score a transition on test trajectories; every `start_every`-th time is a start."""
    longest, history = max(leads), transition.history
    first = range(history - 1, trajectories.shape[1] - longest, start_every)
    frames = torch.cat([trajectories[:, t - history + 1 : t + 1] for t in first])
    truths = {lead: torch.cat([trajectories[:, t + lead] for t in first]) for lead in leads}
    scaled = {lead: transition.scaling.to_scaled(truth) for lead, truth in truths.items()}
    rows: dict[str, Any] = {"n_starts": len(frames), "units": "climatological standard deviations", "rmse": {}}
    now, state = frames, frames[:, -1]
    for lead in range(1, longest + 1):
        state = torch.cat([transition.mean(part) for part in now.split(32)])
        now = torch.cat([now, state[:, None]], dim=1)[:, -history:]
        if lead in leads:
            rows["rmse"][str(lead)] = {
                "model": _rmse(transition.scaling.to_scaled(state) - scaled[lead]),
                "persistence": _rmse(transition.scaling.to_scaled(frames[:, -1]) - scaled[lead]),
                "climatology": _rmse(scaled[lead]),
            }
            if lead == longest:
                rows["power_ratio"] = {str(lead): _power_ratio(transition.scaling.to_scaled(state), scaled[lead])}
    rows["one_step_spread_skill"] = _spread_skill(transition, frames, scaled[1])
    return rows


def _spread_skill(transition: Transition, frames: Tensor, truth: Tensor, n_draws: int = 16) -> float:
    draws = []
    for i in range(n_draws):
        noise = MemberNoise(Noise(0, i), range(len(frames)), "evaluation", torch.float32)
        draws.append(transition.scaling.to_scaled(next_states(transition, frames, noise)))
    ensemble = torch.stack(draws).to(torch.float64)
    error = ((ensemble.mean(dim=0) - truth) ** 2).mean()
    return float(torch.sqrt((1.0 + 1.0 / n_draws) * ensemble.var(dim=0).mean() / error))


def _power_ratio(forecast: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """Forecast power over truth power at a few wave numbers, for each channel."""
    n = truth.shape[-1]
    k = torch.fft.rfftfreq(n) * n
    l = torch.fft.fftfreq(n)[:, None] * n
    shell = torch.sqrt(k**2 + l**2).round().long()
    ours, theirs = (torch.fft.rfft2(x).abs() ** 2 for x in (forecast, truth))
    picked = [wave for wave in (2, 4, 8, 12, 16, 20, 24, 28) if wave < n // 2]
    ratios = {
        str(channel): [
            float(ours[:, channel, shell == wave].mean() / theirs[:, channel, shell == wave].mean()) for wave in picked
        ]
        for channel in range(truth.shape[1])
    }
    return {"wave_numbers": [float(w) for w in picked], **ratios}


def _rmse(error: Tensor) -> float:
    return float((error.to(torch.float64) ** 2).mean().sqrt())
