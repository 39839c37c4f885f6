"""Checks of radar streams: clutter (see `qc_clutter`), and missing pixels that were written as no echo.

    missing as zero    in a box of `box` cells a side nothing observed is echo, though at `share` of its observations
                       the background has echo even one spread below its mean: an outage and no clear sky

Limit: a storm that ends everywhere in a box at once looks the same, and is kept alive for as long as the background
is sure of it. Flags: BUDDY for clutter, FIRST_GUESS for missing as zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cycler_da.obs.qc_checks import Case, Verdict, nothing
from cycler_da.obs.qc_clutter import clutter

if TYPE_CHECKING:
    from cycler_da.obs.qc_settings import MissingAsZero


def is_clutter(case: Case) -> Verdict:
    """Speckle, range rings and spikes among what is left of a stream."""
    table, settings = case.table, case.settings.clutter
    if settings is None or not case.alive.any():
        return nothing(case)
    kinds = np.full(len(table), "", dtype="U8")
    some = case.alive
    kinds[some] = clutter(table.value[some], table.index[some], table.grid, settings)
    return Verdict(kinds != "", lambda i: f"{table.quantity(i, table.value[i])} is part of a {kinds[i]}")


def is_missing_as_zero(case: Case) -> Verdict:
    """All observations of a box in which nothing is echo and the background is sure that there is some."""
    table, settings = case.table, case.settings.missing_as_zero
    if settings is None or not case.alive.any():
        return nothing(case)
    some = np.flatnonzero(case.alive)
    n_seen, n_echo, n_expected, box = _counts(case, settings, some)
    fails = (n_seen >= settings.least) & (n_echo == 0) & (n_expected >= settings.share * n_seen)
    out, box_of = np.zeros(len(table), dtype=bool), np.zeros(len(table), dtype=np.int64)
    out[some], box_of[some] = fails[box], box

    def why(i: int) -> str:
        k = box_of[i]
        return (
            f"none of {n_seen[k]} observations of a box of {settings.box} cells is echo, the background has it at "
            f"{n_expected[k]} of them: missing written as zero?"
        )

    return Verdict(out, why)


def _counts(
    case: Case, settings: MissingAsZero, some: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observations, echoes and expected echoes of every box, and the box of every observation."""
    table = case.table
    columns = np.floor((table.index[some] + 0.5) / settings.box).astype(np.int64)
    _, box = np.unique(columns, axis=0, return_inverse=True)
    box = box.reshape(-1)
    expected = table.hx_mean[some] - table.hx_spread[some] >= settings.echo
    echo = table.value[some] >= settings.echo
    sums = [np.bincount(box, weights=part).astype(np.int64) for part in (np.ones(len(some)), echo, expected)]
    return sums[0], sums[1], sums[2], box
