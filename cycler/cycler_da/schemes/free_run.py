"""Free run: the analysis is the background, and no observation is used.

The baseline that says what the observations are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.diagnostics import field_diagnostics

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = Needs(couples_members=False, n_members=1, own_times=True)


@register("scheme", "free_run")
@dataclass(frozen=True, kw_only=True)
class FreeRunSpec(Spec):
    """Options of the free run: none."""

    def build(self, context: SchemeContext) -> FreeRun:
        """Build the scheme; nothing of the context is needed."""
        return FreeRun()


@dataclass(frozen=True)
class FreeRun:
    """Return the background unchanged."""

    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Return the background, bit for bit."""
        return keep_background(prior, carry=carry)


def keep_background(prior: Prior, *, carry: Mapping[str, Tensor]) -> Analysis:
    """Analysis of a cycle without usable observations: the background itself, with its diagnostics."""
    states, channels = prior.background.latest, prior.background.layout.channels
    fields = field_diagnostics(states, states, channels=channels)
    return Analysis(prior.background, carry, {"n_obs": 0.0, "dof_signal": 0.0, **fields})
