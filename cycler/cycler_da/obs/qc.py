"""Quality control: every observation gets one flag and, unless it is used, the reason in words and numbers.

The checks run in this order and the first that fails decides:

    MISSING      value not finite, or one of `missing_values`
    PRE_QC       marked bad by the provider (an observation that arrives rejected keeps its flag)
    BOUNDS       outside [min, max] of `bounds`, else outside the variable's valid range widened by
                 `background_check` (or 5) observation errors
    DOMAIN       where the operator is not defined, or outside the time window
    BLACKLIST    station listed
    H_FAILED     H(x) of some background member not finite
    BUDDY        speckle, ring or spike of a radar: at odds with its neighbours (see `obs.qc_clutter`)
    FIRST_GUESS  in a box without any echo where the background is sure of it (see `obs.qc_radar`)
    FIRST_GUESS  of a stream that as a whole cannot be of this state (see `obs.qc_stream`)
    FIRST_GUESS  |y - mean H(x)| > k sqrt(var H(x) + error^2), k = `background_check`
    PASSIVE      arrives as passive
    THINNED      a copy of an observation of its stream that stays (see `obs.duplicates`)
    THINNED      a copy of an observation of another stream that stays
    THINNED      shares a box of edge `thinning_box` with one that stays, chosen by keyed noise
    PASSIVE      in the `withheld_fraction` of its stream and variable (see `obs.withholding`)

The checks up to FIRST_GUESS look at one observation alone, but for those of a stream and of radars; the others see
only survivors. So the outcome does not depend on the order of the observations, and bad ones change nothing for good
ones. Numbers of flags as in UFO. Background check: Dee et al. (2001), Q. J. R. Meteorol. Soc. 127, 2451-2471, with the
spread of the ensemble as background error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.noise import Noise
from cycler_da.obs import qc_checks as checks
from cycler_da.obs import qc_selection as selection
from cycler_da.obs.base import QC, Observations
from cycler_da.obs.qc_checks import Case, Verdict
from cycler_da.obs.qc_radar import is_clutter, is_missing_as_zero
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.obs.qc_stream import is_of_another_state
from cycler_da.obs.qc_table import Table, make_table
from cycler_da.times import Window, parse_duration

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

__all__ = ["CHECKS", "QCSettings", "flag_counts", "quality_control"]


@dataclass(frozen=True)
class Check:
    """A check and the flag of what fails it."""

    flag: QC
    judge: Callable[[Case], Verdict]
    spans_streams: bool = False  # looks at all streams together


#: Order of the checks; the first that fails decides.
CHECKS: tuple[Check, ...] = (
    Check(QC.MISSING, checks.is_missing),
    Check(QC.PRE_QC, checks.arrives_rejected),
    Check(QC.BOUNDS, checks.is_out_of_bounds),
    Check(QC.DOMAIN, checks.is_out_of_domain),
    Check(QC.BLACKLIST, checks.is_blacklisted),
    Check(QC.H_FAILED, checks.h_failed),
    Check(QC.BUDDY, is_clutter),
    Check(QC.FIRST_GUESS, is_missing_as_zero),
    Check(QC.FIRST_GUESS, is_of_another_state),
    Check(QC.FIRST_GUESS, checks.is_far_from_background),
    Check(QC.PASSIVE, checks.arrives_passive),
    Check(QC.THINNED, selection.is_copy),
    Check(QC.THINNED, selection.is_copy, spans_streams=True),
    Check(QC.THINNED, selection.is_thinned),
    Check(QC.PASSIVE, selection.is_withheld),
)


def quality_control(
    observations: Observations,
    background_hx: Float[Tensor, "member obs"],
    *,
    window: Window,
    settings: QCSettings | Mapping[str, QCSettings],
    noise: Noise,
    usual: Mapping[str, float] = MappingProxyType({}),
) -> Observations:
    """Flag every observation, given its model equivalents of all background members in the same order.

    `settings` are those of all streams, or a mapping from stream to its own. Copies are looked for within
    each stream and then between streams, there with the tightest tolerances of all. `usual` are the usual
    deviations of streams as a whole. Nothing is removed and no value is changed.
    """
    table = make_table(observations, background_hx)
    by_stream = _settings_by_stream(table, settings)
    flags = np.zeros(len(table), dtype=np.int32)
    reasons = [""] * len(table)
    alive = np.ones(len(table), dtype=bool)
    for check in CHECKS:
        parts = [(alive, _tightest(by_stream))] if check.spans_streams else _parts(table, alive, by_stream)
        for among, own in parts:
            verdict = check.judge(Case(table, among, window, own, noise, usual))
            failed = verdict.fails & among
            flags[failed] = table.arrived[failed] if check.flag is QC.PRE_QC else int(check.flag)
            for i_obs in np.flatnonzero(failed):
                reasons[i_obs] = verdict.why(int(i_obs))
            alive = alive & ~failed
    return _with_outcome(observations, flags, reasons)


def flag_counts(observations: Observations) -> dict[str, int]:
    """Number of observations by name of their flag, every name present."""
    flags = observations.flags.cpu().numpy()
    return {qc.name: int((flags == int(qc)).sum()) for qc in QC}


def _settings_by_stream(table: Table, settings: QCSettings | Mapping[str, QCSettings]) -> dict[str, QCSettings]:
    streams = sorted(set(table.stream.tolist()))
    return {stream: settings if isinstance(settings, QCSettings) else settings[stream] for stream in streams}


def _parts(
    table: Table, alive: Bool[np.ndarray, "obs"], by_stream: Mapping[str, QCSettings]
) -> list[tuple[np.ndarray, QCSettings]]:
    return [(alive & (table.stream == stream), own) for stream, own in by_stream.items()]


def _tightest(by_stream: Mapping[str, QCSettings]) -> QCSettings:
    """Default settings but for the tolerances of copies, the smallest of all streams."""
    every = by_stream.values()
    return QCSettings(
        duplicate_distance=min((own.duplicate_distance for own in every), default=0.0),
        duplicate_time=min((own.duplicate_time for own in every), key=parse_duration, default="0s"),
    )


def _with_outcome(observations: Observations, flags: np.ndarray, reasons: list[str]) -> Observations:
    batches, start = [], 0
    for batch in observations.batches:
        part = slice(start, start + len(batch))
        own = torch.from_numpy(flags[part].copy()).to(batch.flags.device)
        batches.append(replace(batch, flags=own, reasons=tuple(reasons[part])))
        start += len(batch)
    return replace(observations, batches=tuple(batches))
