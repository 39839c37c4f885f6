"""Observations of single cells as fields: what is observed where, for schemes whose H is a mask.

Several observations of one cell become their mean with weights 1 / r, of error variance 1 / sum(1 / r): the likelihood
is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations, ObservationOperator, Observations

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Rows of H looked at together.
_ROWS = 256


@dataclass(frozen=True)
class ObservedCells:
    """Fields on the grid, float64, physical units; only where `mask` is 1 do the others mean anything."""

    mask: Float[Tensor, "channel *space"]
    values: Float[Tensor, "channel *space"]
    variance: Float[Tensor, "channel *space"]
    error: Float[Tensor, "channel *space"]  # largest of the single observations of the cell


def observed_cells(observations: Observations, *, scheme: str) -> ObservedCells:
    """Put observations on the grid; raises AnalysisFailed where one is not the value of one cell."""
    shape, flat = observations.layout.state_shape, _cells(observations, scheme)
    precision = torch.zeros(observations.layout.state_shape, dtype=torch.float64).flatten()
    total, error = precision.clone(), precision.clone()
    weight = 1.0 / observations.error_variance
    precision.index_add_(0, flat, weight)
    total.index_add_(0, flat, weight * observations.values)
    error.scatter_reduce_(0, flat, observations.error_variance.sqrt(), "amax")
    seen = precision > 0
    safe = torch.where(seen, precision, 1.0)
    fields = (seen.to(torch.float64), torch.where(seen, total / safe, 0.0), 1.0 / safe, error)
    return ObservedCells(*(field.view(shape) for field in fields))


def require_mask(operator: ObservationOperator, layout: Layout, *, scheme: str) -> None:
    """Raise ConfigError for an operator that does not read one cell even where it observes the centre of one."""
    origin = torch.tensor([[axis.centres()[0] for axis in layout.grid.axes]], dtype=torch.float64)
    where = Locations(origin, torch.zeros(1, dtype=torch.int64))
    if operator.is_linear and _is_cell(operator.adjoint(torch.ones((1, 1), dtype=torch.float64), where, layout)):
        return
    raise ConfigError(
        f"scheme {scheme}: operator {operator.name} does not read single cells of the state; expected a mask. Use "
        "operator cell, or a scheme for other operators (letkf, enkf, masf_two_heads, interpolant_filter)"
    )


def _is_cell(rows: Float[Tensor, "obs channel *space"]) -> Tensor:
    flat = rows.flatten(1)
    return ((flat != 0).sum(dim=1) == 1) & (flat.sum(dim=1) == 1.0)


def _cells(observations: Observations, scheme: str) -> Tensor:
    """Flat index of the cell of every observation."""
    if not observations.is_linear:
        names = sorted({batch.operator.name for batch in observations.batches if not batch.operator.is_linear})
        raise AnalysisFailed(
            f"{scheme}: operator {', '.join(names)} is not linear; expected observations of single cells. Use operator "
            "cell, or a scheme for nonlinear operators (letkf, enkf, masf_two_heads, interpolant_filter)"
        )
    found: list[Tensor] = []
    for first, rows in enumerate(torch.eye(len(observations), dtype=torch.float64).split(_ROWS)):
        h = observations.adjoint(rows)
        is_other = ~_is_cell(h)
        if bool(is_other.any()):
            name = _ids(observations)[first * _ROWS + int(is_other.nonzero()[0])]
            raise AnalysisFailed(
                f"{scheme}: observation {name} is not the value of one cell; expected a mask of the state. Use "
                "operator cell, or a scheme for any linear operator (letkf, enkf, var3d)"
            )
        found.append(h.flatten(1).argmax(dim=1))
    return torch.cat(found)


def _ids(observations: Observations) -> list[str]:
    return [str(i) for batch in observations.batches for i in batch.ids]
