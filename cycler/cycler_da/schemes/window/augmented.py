"""States with their observed fields as one window, and observations as single entries of it (scheme soad).

Behind the states stands what nonlinear operators would see at every cell, without error, scaled by its own deviation.
Operators that are linear are taken through their own H.
Limits: fields that the weights know, at cell centres; anything else raises AnalysisFailed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.diffusion.corrector import ForwardDiffusion
from cycler_da.generative.diffusion.sampler import Replacement
from cycler_da.generative.diffusion.schedule import Schedule
from cycler_da.generative.diffusion.smoother import Maps
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.window_weights import WindowPrior
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.obs.fields import ObservedField, operator_words, scaled_fields
from cycler_da.obs.points import PointOperator
from cycler_da.schemes.frame.stream_checks import field_names
from cycler_da.schemes.window.cells import EntryPart
from cycler_da.schemes.window.measurement import (
    Part,
    cells_of,
    entry_part,
    is_at_cells,
    merged,
    split_by_frame,
)
from cycler_da.schemes.window.state_part import state_part

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Augmented:
    """Windows of states and of the fields that weights know."""

    known: WindowPrior
    fields: tuple[ObservedField, ...]

    def fields_of(self, observations: Observations) -> tuple[int, ...]:
        """Which fields are observed, by their place in the card; all variables of an operator together."""
        kinds = {
            field.kind
            for field in self.fields
            for batch in observations.batches
            if not batch.operator.is_linear and bool(field.sees(batch).any())
        }
        return tuple(i for i, field in enumerate(self.fields) if field.kind in kinds)

    def parts(
        self, observations: Observations, times: np.ndarray, used: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[Part, ...]:
        """Observations as parts of the measurement, entries wherever they are values of a channel.

        What several streams say of one entry is averaged.
        """
        found: list[Part] = []
        for frame, some in enumerate(split_by_frame(observations, times)):
            for batch in some.batches:
                found += self._parts_of(frame, batch, some, used, shape)
        entries = merged([part for part in found if isinstance(part, EntryPart)])
        return (*entries, *(part for part in found if not isinstance(part, EntryPart)))

    def with_fields(
        self, states: Float[Tensor, "member frame state y x"], used: tuple[int, ...]
    ) -> Float[Tensor, "member frame channel y x"]:
        """The states, and behind them what the operators see of them."""
        if not used:
            return states
        fields = self.maps(used)(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        return torch.cat([states, fields.to(states.dtype)], dim=2)

    def maps(self, used: tuple[int, ...]) -> Maps:
        """Scaled states to the fields that are used, scaled."""
        mean, std = ([values[i] for i in used] for values in (self.known.observed_mean, self.known.observed_std))
        return scaled_fields([self.fields[i] for i in used], self.known.scaling.to_physical, mean, std)

    def _parts_of(
        self, frame: int, batch: ObsBatch, all_of: Observations, used: tuple[int, ...], shape: tuple[int, ...]
    ) -> list[Part]:
        if batch.operator.is_linear:
            return self._linear_parts(frame, batch, all_of, shape)
        cells = _cells(batch, all_of, shape)
        found: list[Part] = []
        rest = torch.ones(len(batch), dtype=torch.bool)
        for place, i_field in enumerate(used):
            here = self.fields[i_field].sees(batch)
            rest = rest & ~here
            if bool(here.any()):
                mean, std = self.known.observed_mean[i_field], self.known.observed_std[i_field]
                values, variance = (batch.values[here] - mean) / std, (batch.error[here] / std) ** 2
                found.append(entry_part(frame, self.known.n_states + place, cells[here], values, variance, shape))
        if bool(rest.any()):
            raise AnalysisFailed(
                f"soad: {int(rest.sum())} observations of stream {batch.stream} through "
                f"{operator_words(batch.operator)} are of "
                f"no field that the weights know ({field_names(self.fields)}); take those weights' operators and "
                "variables, or scheme sda"
            )
        return found

    def _linear_parts(self, frame: int, batch: ObsBatch, all_of: Observations, shape: tuple[int, ...]) -> list[Part]:
        if not isinstance(batch.operator, PointOperator) or not is_at_cells(batch, all_of):
            return [state_part(frame, replace(all_of, batches=(batch,)), self.known.scaling, shape)]
        cells, found = _cells(batch, all_of, shape), []
        for channel in range(self.known.n_states):
            here = batch.where.channel == channel
            if bool(here.any()):
                std, mean = self.known.scaling.std[channel], self.known.scaling.mean[channel]
                values, variance = (batch.values[here] - mean) / std, (batch.error[here] / std) ** 2
                found.append(entry_part(frame, channel, cells[here], values, variance, shape))
        return list(found)


def replace_entries(
    entries: list[EntryPart], shape: tuple[int, ...], schedule: Schedule, noise: MemberNoise
) -> Replacement:
    """The forward-diffusion corrector of all entries; of what is known of one of them several times, the average."""
    entries = list(merged(entries))
    lead = torch.broadcast_shapes(*(part.values.shape[:-1] for part in entries)) if entries else ()
    values, variance = torch.zeros(*lead, *shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64)
    seen = torch.zeros(shape, dtype=torch.bool)
    for part in entries:
        values.view(*lead, -1)[..., part.cells.places] = part.values
        variance.view(-1)[part.cells.places] = part.error_variance
        seen.view(-1)[part.cells.places] = True
    return ForwardDiffusion(schedule, noise, "replaced", values, variance, seen)


def _cells(batch: ObsBatch, observations: Observations, shape: tuple[int, ...]) -> Tensor:
    """Flat cell of every observation; raises AnalysisFailed for positions between cells."""
    if not is_at_cells(batch, observations):
        raise AnalysisFailed(
            f"soad: observations of stream {batch.stream} through {batch.operator.name} lie between cells; expected "
            "cell centres, where the weights know the field. Move them to cells, or take scheme sda"
        )
    return cells_of(batch, observations) % (shape[-1] * shape[-2])
