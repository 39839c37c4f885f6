"""All observations of a window as flat columns, with what the background says about each.

Columns run over the batches in order, so position p of a column is observation p of the concatenated H(x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.layout import Grid
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.domain import HasDomain, index_coordinates, inside_cells
from cycler_da.obs.identity import names_in, stations_of, units_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Table:
    """One entry for each observation in every column."""

    value: Float[np.ndarray, "obs"]
    error: Float[np.ndarray, "obs"]
    variable: np.ndarray  # str
    units: np.ndarray  # str
    valid_min: Float[np.ndarray, "obs"]  # of the variable; -inf where it has none
    valid_max: Float[np.ndarray, "obs"]
    id: np.ndarray  # str
    station: np.ndarray  # str
    stream: np.ndarray  # str
    kind: Int[np.ndarray, "obs"]  # operator and variable
    batch_kind: Int[np.ndarray, "obs"]  # stream, operator and variable
    position: Float[np.ndarray, "obs axis"]
    index: Float[np.ndarray, "obs axis"]  # position in grid cells
    covered: Bool[np.ndarray, "obs"]  # the operator is defined there
    time: np.ndarray  # datetime64[s]
    arrived: Int[np.ndarray, "obs"]  # flag before quality control
    arrived_reason: tuple[str, ...]
    hx_mean: Float[np.ndarray, "obs"]
    hx_spread: Float[np.ndarray, "obs"]  # 0 for a single member
    n_failed: Int[np.ndarray, "obs"]  # members whose H(x) is not finite
    n_members: int
    grid: Grid

    def __len__(self) -> int:
        return len(self.value)

    @property
    def seconds(self) -> Float[np.ndarray, "obs"]:
        """Seconds since 1970."""
        return self.time.astype("datetime64[s]").astype(np.int64).astype(np.float64)

    def quantity(self, i_obs: int, amount: float) -> str:
        """An amount with the name and units of an observation's variable."""
        return f"{self.variable[i_obs]} {amount:.4g} {self.units[i_obs]}"

    def place(self, i_obs: int) -> str:
        """The position of an observation in words."""
        along = zip(self.grid.axes, self.position[i_obs], strict=True)
        return ", ".join(f"{axis.name} = {value:g} {axis.units}" for axis, value in along)


def make_table(observations: Observations, background_hx: Float[Tensor, "member obs"]) -> Table:
    """Gather the columns; `background_hx` holds H(x) of every member in the order of the observations."""
    batches, layout = observations.batches, observations.layout
    hx = background_hx.detach().cpu().to(torch.float64).numpy()
    if hx.ndim != 2 or hx.shape[1] != len(observations):
        raise ValueError(f"background H(x) has shape {hx.shape}; expected (member, {len(observations)})")
    where = [batch.where.position.cpu() for batch in batches]
    position = torch.cat([torch.zeros((0, len(layout.grid.axes)), dtype=torch.float64), *where])
    mean, spread, n_failed = _moments(hx)
    variable = _text([names_in(batch, layout) for batch in batches])
    valid_min, valid_max = _valid_range(variable, observations)
    stream = _text([np.full(len(batch), batch.stream) for batch in batches])
    operator = _text([np.full(len(batch), batch.operator.name) for batch in batches])
    ids = _text([batch.ids for batch in batches])
    return Table(
        value=observations.values.cpu().numpy().astype(np.float64),
        error=_numbers([batch.error.cpu().numpy() for batch in batches]),
        variable=variable,
        units=_text([_units(batch, observations) for batch in batches]),
        valid_min=valid_min,
        valid_max=valid_max,
        id=ids,
        station=stations_of(ids),
        stream=stream,
        kind=_numbered([operator, variable]),
        batch_kind=_numbered([stream, operator, variable]),
        position=position.numpy(),
        index=index_coordinates(position, layout.grid).numpy(),
        covered=_numbers([_covered(batch, observations) for batch in batches]).astype(bool),
        time=np.concatenate([np.zeros(0, "datetime64[s]"), *(batch.times for batch in batches)]),
        arrived=observations.flags.cpu().numpy(),
        arrived_reason=tuple(reason for batch in batches for reason in (batch.reasons or ("",) * len(batch))),
        hx_mean=mean,
        hx_spread=spread,
        n_failed=n_failed,
        n_members=len(hx),
        grid=layout.grid,
    )


def _moments(hx: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_failed = (~np.isfinite(hx)).sum(axis=0)
    usable = np.where(n_failed > 0, 0.0, hx)
    spread = usable.std(axis=0, ddof=1) if len(hx) > 1 else np.zeros(hx.shape[1])
    return usable.mean(axis=0), spread, n_failed


def _covered(batch: ObsBatch, observations: Observations) -> np.ndarray:
    if isinstance(batch.operator, HasDomain):
        return batch.operator.covers(batch.where, observations.layout).cpu().numpy()
    grid = observations.layout.grid
    return inside_cells(index_coordinates(batch.where.position, grid), grid).cpu().numpy()


def _valid_range(variable: np.ndarray, observations: Observations) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.full(len(variable), -np.inf), np.full(len(variable), np.inf)
    for known in observations.layout.variables:
        if known.valid_min is not None:
            low[variable == known.name] = known.valid_min
        if known.valid_max is not None:
            high[variable == known.name] = known.valid_max
    return low, high


def _units(batch: ObsBatch, observations: Observations) -> np.ndarray:
    names = names_in(batch, observations.layout)
    units = {name: units_of(batch.operator, name, observations.layout) for name in set(names.tolist())}
    return np.asarray([units[name] for name in names.tolist()], dtype=np.str_)


def _text(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype="U1"), *(part.astype(np.str_) for part in parts)])


def _numbers(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts])


def _numbered(columns: list[np.ndarray]) -> np.ndarray:
    """One number for each distinct combination of texts."""
    combined = ["\x1f".join(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    return np.unique(np.asarray(combined, dtype=np.str_), return_inverse=True)[1].reshape(-1)
