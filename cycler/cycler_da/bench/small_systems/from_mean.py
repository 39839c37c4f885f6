"""A control of members guided one by one: all of them begin at the ensemble mean.

Where errors are those that members are told, every draw is then one of p(x' | m, y), m the mean, which is right as an
error of m; what is wrong with draws from members that differ is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.schemes.base import Analysis, Prior, SchemeContext
from cycler_da.schemes.interpolant_filter import InterpolantFilter, InterpolantFilterSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FromMeanSpec:
    """The filter whose members are put together before each step."""

    inner: InterpolantFilterSpec

    def build(self, context: SchemeContext) -> FromMean:
        """Build the filter."""
        return FromMean(self.inner.build(context))


@dataclass(frozen=True)
class FromMean:
    """The scheme; the background is that of the members themselves."""

    inner: InterpolantFilter

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Analyse with every previous member at their mean."""
        previous = prior.previous
        assert previous is not None
        together = previous.values.mean(dim=0, keepdim=True).expand_as(previous.values)
        prior = replace(prior, previous=previous.with_values(together.contiguous()))
        return self.inner.analyse(prior, observations, noise=noise, carry=carry)
