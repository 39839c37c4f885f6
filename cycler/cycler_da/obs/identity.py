"""The identity of an observation: what is observed, by which station, where and when.

An id is `<station>/<16 hexadecimal digits>`; the digits hash station, variable, time and position (nine
significant digits: 1 mm in 1000 km), not the value. So an observation keeps its id in any file, any order
and any later copy, two copies of one observation share it, and the station can be read from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from cycler_da.layout import Layout
from cycler_da.obs.base import Locations, ObsBatch, ObservationOperator

if TYPE_CHECKING:
    from jaxtyping import Float


@runtime_checkable
class ObservesQuantity(Protocol):
    """An operator whose observed quantity is not a variable of the state (a wind speed, a reflectivity)."""

    @property
    def variable(self) -> str:
        """Name of the quantity in observation files."""
        ...

    @property
    def units(self) -> str:
        """Units of the quantity."""
        ...


def names_of(operator: ObservationOperator, where: Locations, layout: Layout) -> np.ndarray:
    """Name of what each observation measures: the operator's own quantity, or the state variable it sees."""
    if isinstance(operator, ObservesQuantity):
        return np.full(len(where.channel), operator.variable)
    return np.asarray(layout.channels)[where.channel.cpu().numpy()]


def names_in(batch: ObsBatch, layout: Layout) -> np.ndarray:
    """Name of what each observation of a batch measures."""
    return names_of(batch.operator, batch.where, layout)


def units_of(operator: ObservationOperator, variable: str, layout: Layout) -> str:
    """Units of a variable in files: those of the layout, or of the operator's own quantity."""
    if isinstance(operator, ObservesQuantity):
        return operator.units
    return layout.variables[layout.channels.index(variable)].units


def observation_ids(
    stations: Sequence[str] | np.ndarray,
    *,
    variables: Sequence[str] | np.ndarray,
    times: np.ndarray,
    position: Float[np.ndarray, "obs axis"],
) -> np.ndarray:
    """Stable ids of observations (str array); all arguments hold one entry for each observation."""
    seconds = times.astype("datetime64[s]").astype(np.int64).tolist()
    rows = zip(stations, variables, seconds, (position + 0.0).tolist(), strict=True)
    return np.asarray([_id(*row) for row in rows], dtype=np.str_)


def stations_of(ids: np.ndarray) -> np.ndarray:
    """Station names that ids were made from, "" where the file gave none."""
    return np.asarray([str(one).rpartition("/")[0] for one in ids], dtype=np.str_)


def _id(station: str, variable: str, seconds: int, position: list[float]) -> str:
    place = ",".join(f"{value:.9g}" for value in position)
    text = f"{station}|{variable}|{seconds}|{place}"
    return f"{station}/{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
