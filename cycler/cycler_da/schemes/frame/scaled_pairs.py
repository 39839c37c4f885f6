"""Members and what is observed of them as one flat vector each, scaled: z = (x, h(x)).

Two arrangements of h: one value for each observation (`fields_by_observation`), or one for each cell and variable of
the state (`fields_by_cell`: an observation belongs to the cell nearest to it; several of one cell, seen through the
same operator, become one of their weighted mean). Units are those of weights, or without weights the deviation of the
members: one number for each variable, one for all that is observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.scaling import Scaling
from cycler_da.layout import Layout
from cycler_da.obs.base import Observations
from cycler_da.obs.fields import ObservedField

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Between an observation and the centre of its cell, in spacings, where weights ask for centres.
_CENTRED = 1e-6


@dataclass(frozen=True)
class PairFields:
    """Scaled members, observations and their errors; float64."""

    z: Float[Tensor, "member nm"]
    observed: Float[Tensor, "m"]  # 0 where nothing is
    variance: Float[Tensor, "m"]  # of the observations; the mean of all where nothing is observed
    mask: Float[Tensor, "m"]
    mean: Float[Tensor, "n"]
    std: Float[Tensor, "n"]
    errors: Float[Tensor, "obs"]  # standard deviations as they came, in units of the observations

    @property
    def n(self) -> int:
        """Values of a state."""
        return len(self.mean)

    @property
    def common(self) -> Float[Tensor, ""]:
        """Mean error variance of what is observed."""
        return self.variance[self.mask > 0].mean()

    def physical(self, x: Float[Tensor, "member n"], shape: Sequence[int]) -> Float[Tensor, "member channel *space"]:
        """Scaled states in their own units and shape."""
        return (x * self.std + self.mean).reshape(tuple(shape))


def fields_by_observation(
    states: Float[Tensor, "member channel *space"], hx: Float[Tensor, "member obs"], observations: Observations
) -> PairFields:
    """h has one value for each observation; units of the members."""
    wide = states.to(torch.float64)
    mean, std = _units_of_members(wide)
    centre, unit = hx.mean(dim=0), _unit_of(hx)
    z = torch.cat([(wide.flatten(1) - mean) / std, (hx - centre) / unit], dim=1)
    return PairFields(
        z=z,
        observed=(observations.values - centre) / unit,
        variance=observations.error_variance / unit**2,
        mask=torch.ones(hx.shape[1], dtype=torch.float64),
        mean=mean,
        std=std,
        errors=observations.error_variance.sqrt(),
    )


def fields_by_cell(
    states: Float[Tensor, "member channel *space"],
    hx: Float[Tensor, "member obs"],
    observations: Observations,
    *,
    fields: Sequence[ObservedField] | None,
    units: tuple[Scaling, Scaling] | None,
    scheme: str,
) -> PairFields:
    """h has one value for each value of the state; without fields and units those of the members.

    Raises AnalysisFailed for observations of no field or between cells, and without fields for two in one cell.
    """
    wide, layout = states.to(torch.float64), observations.layout
    places = _places(observations, is_exact=fields is not None, scheme=scheme)
    if fields is not None:
        _require_fields(observations, fields, scheme)
    elif len(torch.unique(places)) < len(places):
        raise AnalysisFailed(
            f"{scheme}: form dual_head has one value for each cell, and two observations of this window lie in one. "
            "Thin the stream (qc.thinning), or take form augmented"
        )
    if units is None:
        mean, std = _units_of_members(wide)
        centre = torch.zeros(wide[0].numel(), dtype=torch.float64).index_copy(0, places, hx.mean(dim=0))
        unit = _unit_of(hx).expand(len(centre))
    else:
        mean, std = (_by_channel(values, layout) for values in (units[0].mean, units[0].std))
        centre, unit = (_by_channel(values, layout) for values in (units[1].mean, units[1].std))
    weight = 1.0 / observations.error_variance
    precision = torch.zeros(len(mean), dtype=torch.float64).index_add(0, places, weight)
    mask, safe = (precision > 0).to(torch.float64), precision.clamp(min=1e-300)

    def placed(values: Tensor) -> Tensor:
        sums = torch.zeros(len(values), len(mean), dtype=torch.float64).index_add(1, places, weight * values)
        return mask * (sums / safe - centre) / unit

    variance = torch.where(mask > 0, 1.0 / (safe * unit**2), 0.0)
    return PairFields(
        z=torch.cat([(wide.flatten(1) - mean) / std, placed(hx)], dim=1),
        observed=placed(observations.values[None])[0],
        variance=torch.where(mask > 0, variance, variance[mask > 0].mean()),
        mask=mask,
        mean=mean,
        std=std,
        errors=observations.error_variance.sqrt(),
    )


def _units_of_members(states: Float[Tensor, "member channel *space"]) -> tuple[Tensor, Tensor]:
    """Ensemble mean, and one deviation for each variable, of every value."""
    flat = states.flatten(2)
    std = flat.var(dim=0).mean(dim=1).sqrt()
    std = torch.where(std > 0, std, 1.0)
    return flat.mean(dim=0).flatten(), std[:, None].expand(flat.shape[1:]).reshape(-1)


def _unit_of(hx: Tensor) -> Float[Tensor, ""]:
    unit = hx.var(dim=0).mean().sqrt()
    return torch.where(unit > 0, unit, 1.0)


def _by_channel(values: Sequence[float], layout: Layout) -> Float[Tensor, "n"]:
    wide = torch.tensor(values, dtype=torch.float64).reshape(-1, *(1 for _ in layout.grid.axes))
    return wide.expand(layout.state_shape).reshape(-1)


def _places(observations: Observations, *, is_exact: bool, scheme: str) -> Tensor:
    """Flat index of the value nearest to every observation."""
    layout, position = observations.layout, observations.positions
    flat = observations.channels
    for i, axis in enumerate(layout.grid.axes):
        step = (position[:, i] - float(axis.centres()[0])) / axis.spacing
        cell = step.round()
        if is_exact and bool(((step - cell).abs() > _CENTRED).any()):
            raise AnalysisFailed(
                f"{scheme}: observations lie between cells; expected cell centres, where the weights know them. Move "
                "them to cells, or leave weights out with form augmented"
            )
        index = cell.to(torch.int64)
        index = index % axis.size if axis.periodic else index.clamp(0, axis.size - 1)
        flat = flat * axis.size + index
    return flat


def _require_fields(observations: Observations, fields: Sequence[ObservedField], scheme: str) -> None:
    for batch in observations.batches:
        known = torch.zeros(len(batch), dtype=torch.bool)
        for field in fields:
            known |= field.sees(batch)
        if not bool(known.all()):
            names = ", ".join(f"{field.kind} of {field.layout.channels[field.channel]}" for field in fields)
            raise AnalysisFailed(
                f"{scheme}: {int((~known).sum())} observations of stream {batch.stream} through {batch.operator.name} "
                f"are of no field that the weights know ({names}); train weights with it (data.observed)"
            )
