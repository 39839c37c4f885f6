"""DAPPER's LETKF at our setting: the same members, observations, taper and local domains.

DAPPER (Raanes et al. 2024, JOSS 9) is an optional dependency (`pip install 'cycler-da[peers]'`). Its local analysis is
called as its LETKF calls it, without the model around it. A local domain holds both layers of a grid point (or of a
square of points), as our transform does. It leaves out observations with a taper of 1e-3 or less.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

#: DAPPER's localization radius times this is the half-width of Gaspari and Cohn.
GASPARI_COHN = 1.82
#: Its cut-off of tapers.
LEAST_TAPER = 1e-3


def is_installed() -> bool:
    """True when DAPPER can be imported."""
    return importlib.util.find_spec("dapper") is not None


@dataclass(frozen=True)
class PeerAnalysis:
    """One analysis of a square periodic grid of several layers, observed at cells."""

    members: Float[np.ndarray, "member layer y x"]
    cells: Int[np.ndarray, "obs 3"]  # layer, y, x
    values: Float[np.ndarray, "obs"]
    error_variance: float
    half_width: float  # cells
    width: int = 1  # grid points along each side of a local domain

    def prepare(self) -> Callable[[Any], Float[np.ndarray, "member layer y x"]]:
        """Build distances and domains; the returned function analyses, its argument maps the local analyses."""
        from dapper.da_methods.ensemble import local_analyses
        from dapper.tools.localization import localization_setup, pairwise_distances
        from dapper.tools.randvars import GaussRV

        shape = self.members.shape
        n_members, n_layers, n = shape[0], shape[1], shape[2]
        states = self.members.reshape(n_members, -1)
        places = np.stack(np.unravel_index(np.arange(n_layers * n * n), (n_layers, n, n))[1:], axis=1)
        distances = pairwise_distances(self.cells[:, 1:], places, (n, n))
        batches, taper = localization_setup(lambda: distances, self._domains())(self.half_width / GASPARI_COHN, "x2y")
        seen = np.ravel_multi_index(tuple(self.cells.T), (n_layers, n, n))
        covariance = GaussRV(C=self.error_variance * np.eye(len(seen))).C

        def analyse(mapped: Any) -> Float[np.ndarray, "member layer y x"]:
            moved, _ = local_analyses(states.copy(), states[:, seen], covariance, self.values, batches, taper, mapped)
            return moved.reshape(shape)

        return analyse

    def _domains(self) -> list[np.ndarray]:
        n_layers, n = self.members.shape[1:3]
        index = np.arange(n_layers * n * n).reshape(n_layers, n, n)
        w = self.width
        return [index[:, y : y + w, x : x + w].ravel() for y in range(0, n, w) for x in range(0, n, w)]


@contextmanager
def process_map(n_processes: int) -> Iterator[Any]:
    """DAPPER's own pool of processes."""
    from dapper.tools import multiproc

    with multiproc.Pool(n_processes) as pool:
        yield pool.map
