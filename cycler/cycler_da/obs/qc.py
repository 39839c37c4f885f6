"""Quality control: every observation gets one flag and, unless it is used, the reason in words and numbers.

The checks run in this order and the first that fails decides:

    MISSING      value not finite, or one of `missing_values`
    PRE_QC       marked bad by the provider (an observation that arrives rejected keeps its flag)
    BOUNDS       outside [min, max] of `bounds`, else outside the variable's valid range widened by
                 `background_check` (or 5) observation errors
    DOMAIN       where the operator is not defined, or outside the time window
    BLACKLIST    station listed
    H_FAILED     H(x) of some background member not finite
    FIRST_GUESS  |y - mean H(x)| > k sqrt(var H(x) + error^2), k = `background_check`
    PASSIVE      arrives as passive
    THINNED      a copy of an observation that stays (see `obs.duplicates`)
    THINNED      shares a box of edge `thinning_box` with one that stays, chosen by keyed noise
    PASSIVE      in the `withheld_fraction` of its stream and variable, chosen by keyed noise

The checks up to FIRST_GUESS look at one observation alone; the others see only survivors. So the outcome
does not depend on the order of the observations, and bad ones change nothing for good ones. Numbers of
flags as in UFO. Background check: Dee et al. (2001), Q. J. R. Meteorol. Soc. 127, 2451-2471, with the
spread of the ensemble as background error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.noise import Noise
from cycler_da.obs import qc_checks as checks
from cycler_da.obs import qc_selection as selection
from cycler_da.obs.base import QC, Observations
from cycler_da.obs.qc_checks import Case, Verdict
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.obs.qc_table import make_table
from cycler_da.times import Window

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["CHECKS", "QCSettings", "flag_counts", "quality_control"]

#: Order and flag of the checks; the first that fails decides.
CHECKS: tuple[tuple[QC, Callable[[Case], Verdict]], ...] = (
    (QC.MISSING, checks.is_missing),
    (QC.PRE_QC, checks.arrives_rejected),
    (QC.BOUNDS, checks.is_out_of_bounds),
    (QC.DOMAIN, checks.is_out_of_domain),
    (QC.BLACKLIST, checks.is_blacklisted),
    (QC.H_FAILED, checks.h_failed),
    (QC.FIRST_GUESS, checks.is_far_from_background),
    (QC.PASSIVE, checks.arrives_passive),
    (QC.THINNED, selection.is_copy),
    (QC.THINNED, selection.is_thinned),
    (QC.PASSIVE, selection.is_withheld),
)


def quality_control(
    observations: Observations,
    background_hx: Float[Tensor, "member obs"],
    *,
    window: Window,
    settings: QCSettings,
    noise: Noise,
) -> Observations:
    """Flag every observation, given its model equivalents of all background members in the same order.

    Nothing is removed and no value is changed.
    """
    table = make_table(observations, background_hx)
    flags = np.zeros(len(table), dtype=np.int32)
    reasons = [""] * len(table)
    alive = np.ones(len(table), dtype=bool)
    for flag, check in CHECKS:
        verdict = check(Case(table, alive, window, settings, noise))
        failed = verdict.fails & alive
        flags[failed] = table.arrived[failed] if flag is QC.PRE_QC else int(flag)
        for i_obs in np.flatnonzero(failed):
            reasons[i_obs] = verdict.why(int(i_obs))
        alive = alive & ~failed
    return _with_outcome(observations, flags, reasons)


def flag_counts(observations: Observations) -> dict[str, int]:
    """Number of observations by name of their flag, every name present."""
    flags = observations.flags.cpu().numpy()
    return {qc.name: int((flags == int(qc)).sum()) for qc in QC}


def _with_outcome(observations: Observations, flags: np.ndarray, reasons: list[str]) -> Observations:
    batches, start = [], 0
    for batch in observations.batches:
        part = slice(start, start + len(batch))
        own = torch.from_numpy(flags[part].copy()).to(batch.flags.device)
        batches.append(replace(batch, flags=own, reasons=tuple(reasons[part])))
        start += len(batch)
    return replace(observations, batches=tuple(batches))
