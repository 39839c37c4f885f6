"""Nudging: every member is pulled towards the observations by itself, the null model of all other schemes.

    x <- x + g H'(x)^T (y - H(x)) / max(1, |H'(x)^T 1|),   `steps` times
The denominator shares a cell among the observations that see it, so that a linear interpolating H is stable for
0 < g <= 1: where one observation sees a cell, (1 - g)^steps of its innovation is left.
No covariance and no observation error enters, nothing that is not observed is corrected, and the spread shrinks
where it is observed. A filter that is not better than this one does nothing that its ensemble was needed for.
Source: Hoke and Anthes (1976), Mon. Wea. Rev. 104, 1551-1556, in its discrete form with insertion at the cycle time.

Limits: H must have units such that g is a number, that is observe a variable of the state. `dof_signal` is
n (1 - (1 - g)^steps), right for observations that do not share cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import innovation_diagnostics
from cycler_da.schemes.frame.settings import require
from cycler_da.schemes.free_run import keep_background
from cycler_da.schemes.minimisation.gradient import transposed_derivative

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=False, n_members=1)


@register("scheme", "nudging")
@dataclass(frozen=True, kw_only=True)
class NudgingSpec(Spec):
    """Options of nudging."""

    gain: float = 0.5  # share of the innovation taken in one step
    steps: int = 1

    def __post_init__(self) -> None:
        require(0 < self.gain <= 1, "gain", self.gain, expected="a number above 0, at most 1", scheme="nudging")
        require(self.steps >= 1, "steps", self.steps, expected="a whole number from 1", scheme="nudging")

    def build(self, context: SchemeContext) -> Nudging:
        """Build the scheme for a layout."""
        return Nudging(self, context.layout)


@dataclass(frozen=True)
class Nudging:
    """Nudging with a fixed gain."""

    settings: NudgingSpec
    layout: Layout
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Pull the last time of the background; without observations return it bit for bit.

        Raises AnalysisFailed when H(x) or the result is not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme="nudging")
        values = observations.values.to(hx.device)
        variance = hx.var(dim=0) if len(hx) > 1 else torch.zeros_like(values)
        report = innovation_diagnostics(values - hx.mean(dim=0), variance, observations=observations)
        report["dof_signal"] = len(values) * (1 - (1 - self.settings.gain) ** self.settings.steps)
        x = background.latest.to(torch.float64)
        for _ in range(self.settings.steps):
            x = x + self.settings.gain * self._pull(x, observations, values=values)
        moved = x.to(background.values.dtype)
        require_finite(moved, layout=self.layout, scheme="nudging")
        return conclude(background, moved, carry=carry, report=report)

    def _pull(self, x: Tensor, observations: Observations, *, values: Tensor) -> Tensor:
        towards = transposed_derivative(x, observations, lambda hx: values - hx)
        sharing = transposed_derivative(x, observations, torch.ones_like)
        return towards / sharing.abs().clamp_min(1)
