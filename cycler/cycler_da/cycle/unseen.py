"""What the ensembles of a cycle had not seen: the observations by which they are judged, and how they fit.

The background has seen no observation of its window: all that were accepted count (used and withheld). The
analysis is judged by the withheld ones alone. Algebra is done in the control variable, as in the schemes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.cycle.work import CycleWork
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.obs.base import QC, ObsBatch, Observations
from cycler_da.obs.identity import names_in, units_of
from cycler_da.obs.qc_stream import Fit, fit, group_of
from cycler_da.schemes.window.hx import window_hx
from cycler_da.verification.calibration import CalibrationSums, calibration_sums
from cycler_da.verification.innovations import InnovationSums, innovation_sums
from cycler_da.verification.totals import Totals

if TYPE_CHECKING:
    from torch import Tensor

    from cycler_da.layout import Layout

#: An analysis may be this many times as far from observations that it has not seen as its background is.
WORSE = 2.0


def with_flags(observations: Observations, flags: tuple[QC, ...]) -> Observations:
    """The observations that have one of the flags."""
    wanted = torch.tensor([int(flag) for flag in flags])
    return replace(
        observations,
        batches=tuple(batch.select(torch.isin(batch.flags.cpu(), wanted)) for batch in observations.batches),
    )


def unseen_sums(work: CycleWork, checked: Observations, ensemble: Ensemble, kind: str) -> CalibrationSums:
    """Calibration sums of the background (`kind` "background") or the analysis, ensemble in the control variable."""
    flags = (QC.USED, QC.PASSIVE) if kind == "background" else (QC.PASSIVE,)
    observations = work.setting.control.observations(with_flags(checked, flags))
    hx = window_hx(ensemble, observations)
    z = work.noise.normal(f"calibration.{kind}", (len(observations),), members=ensemble.members, dtype=torch.float64)
    total = CalibrationSums()
    for batch, own, draws in _parts(observations, hx, z):
        predicted = _in_range(own + batch.error * draws, batch, observations.layout)
        for name, chosen in _by_name(batch, observations.layout):
            total = total + calibration_sums(
                group_of(batch.stream, name),
                predicted[:, chosen].numpy(),
                own[:, chosen].numpy(),
                batch.values[chosen].numpy(),
                error=batch.error[chosen].numpy(),
                units=units_of(batch.operator, name, observations.layout),
                thresholds=_thresholds(work, name),
            )
    return total


def assimilated_sums(
    work: CycleWork, checked: Observations, background: Ensemble, analysis: Ensemble
) -> InnovationSums:
    """Innovations and residuals of the used observations, for the estimates of Desroziers et al."""
    observations = work.setting.control.observations(with_flags(checked, (QC.USED,)))
    before = window_hx(background, observations)
    after = window_hx(analysis, observations)
    total = InnovationSums(Totals({}))
    for batch, own, own_after in _parts(observations, before, after):
        for name, chosen in _by_name(batch, observations.layout):
            total = total + innovation_sums(
                (batch.values - own.mean(0))[chosen].numpy(),
                group=group_of(batch.stream, name),
                error=batch.error[chosen].numpy(),
                spread=own.std(0)[chosen].numpy(),
                n_members=len(own),
                residual=(batch.values - own_after.mean(0))[chosen].numpy(),
            )
    return total


def withheld_fit(work: CycleWork, checked: Observations, analysis: Ensemble, *, background: Ensemble) -> dict[str, Fit]:
    """How far the withheld observations of every stream are from the analysis, beside the background.

    All variables of a stream together, each departure over what spread and error expect.
    """
    observations = work.setting.control.observations(with_flags(checked, (QC.PASSIVE,)))
    hx = window_hx(analysis, observations)
    before = window_hx(background, observations)
    fits: dict[str, list[np.ndarray]] = {}
    for batch, own, own_before in _parts(observations, hx, before):
        departures = [(batch.values - part.mean(0)).numpy() for part in (own, own_before)]
        columns = np.stack([*departures, own.std(0).numpy(), batch.error.numpy()])
        fits.setdefault(batch.stream, []).append(columns)
    joined = {stream: np.concatenate(parts, axis=1) for stream, parts in fits.items()}
    return {
        stream: fit(departure, reference=reference, spread=spread, error=error, n_members=analysis.n_members)
        for stream, (departure, reference, spread, error) in joined.items()
    }


def require_plausible(
    fits: Mapping[str, Fit], *, usual: Mapping[str, float], limits: Mapping[str, float | None], scheme: str
) -> None:
    """Raise AnalysisFailed when withheld observations of a stream cannot be of this analysis.

    They must deviate by more than the limit and by more than twice as much as from the background: an analysis that
    knows more than its background, however badly both are calibrated, is never refused. `limits` are the
    `stream_check` of the streams, times the usual deviation, at least 1. Streams with fewer than 10 withheld
    observations say nothing.
    """
    for stream, one in fits.items():
        limit, scale = limits[stream], usual.get(stream, 1.0)
        if one.is_impossible(limit, usual=scale, relative=WORSE):
            raise AnalysisFailed(
                f"{scheme}: {one.n_obs} withheld observations of stream {stream} are {one.deviation:.3g} expected "
                f"deviations from the analysis (median; usual {max(1.0, scale):.3g}, limit {limit:g} times that), "
                f"{one.relative:.3g} times as far as from the background: the analysis is not to be believed"
            )


def _parts(observations: Observations, first: Tensor, second: Tensor) -> Iterator[tuple[ObsBatch, Tensor, Tensor]]:
    start = 0
    for batch in observations.batches:
        part = slice(start, start + len(batch))
        if len(batch):
            yield batch, first[:, part], second[:, part]
        start += len(batch)


def _by_name(batch: ObsBatch, layout: Layout) -> Iterator[tuple[str, np.ndarray]]:
    names = names_in(batch, layout)
    for name in sorted(set(names.tolist())):
        yield name, np.flatnonzero(names == name)


def _in_range(predicted: Tensor, batch: ObsBatch, layout: Layout) -> Tensor:
    """What an instrument would report: nothing outside the valid range of the variable."""
    low = [-np.inf if v.valid_min is None else v.valid_min for v in layout.variables]
    high = [np.inf if v.valid_max is None else v.valid_max for v in layout.variables]
    channel = batch.where.channel
    return torch.minimum(torch.maximum(predicted, torch.tensor(low)[channel]), torch.tensor(high)[channel])


def _thresholds(work: CycleWork, name: str) -> tuple[float, ...]:
    """Events of the reliability: those of the config, else 0 and one standard deviation to both sides."""
    verification = work.setting.config.verification
    if name in verification.thresholds:
        return tuple(verification.thresholds[name])
    scale = verification.scale.get(name)
    signed = {v.name for v in work.setting.control.layout.variables if v.valid_min is None}
    return (-scale, 0.0, scale) if scale is not None and name in signed else ()
