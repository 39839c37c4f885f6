"""What a config knows of a stream before its files are there: its operator and, where it is drawn, sites and errors.

Schemes whose weights know some fields and errors alone refuse others by this when the config is read. Of streams whose
files are provided, and of sites that move, only an analysis tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.layout import Layout
from cycler_da.obs.base import ObservationOperator
from cycler_da.obs.identity import names_of
from cycler_da.obs.networks import Sites

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class SeenStream:
    """One stream of an experiment."""

    name: str
    operator: ObservationOperator
    sites: Callable[[], Sites] | None = None  # of the first window; None: files say
    errors: tuple[Mapping[str, float], ...] = ()  # drawn standard deviations by variable, physical; none: files say

    def channels(self) -> tuple[int, ...]:
        """Channels of the variables that are observed; none where files say."""
        return () if self.sites is None else tuple(np.unique(self.sites().where.channel.numpy()).tolist())

    def is_between_cells(self, layout: Layout) -> bool:
        """True where it is known that an operator which reads points observes some that are no cell centres."""
        inner: Any = getattr(self.operator, "inner", self.operator)
        if self.sites is None or not hasattr(inner, "make_stencil"):
            return False
        weight = inner.make_stencil(self.sites().where, layout).weight
        return bool((weight[0] != 1.0).any())

    def drawn_errors(self, layout: Layout) -> Mapping[int, Float[np.ndarray, "some"]]:
        """Standard deviations of each channel, as they will be drawn; none where files say."""
        if self.sites is None or not self.errors:
            return {}
        sites = self.sites()
        names, channel = names_of(self.operator, sites.where, layout), sites.where.channel.numpy()
        factor = np.ones(len(sites)) if sites.error_factor is None else sites.error_factor
        found = {}
        for one in np.unique(channel).tolist():
            here = channel == one
            known = [np.array([error.get(name, np.nan) for name in names[here].tolist()]) for error in self.errors]
            found[one] = np.concatenate([values * factor[here] for values in known])
        return found
