"""Innovation statistics of an experiment, read from the feedback files of its published cycles.

For every chain and every variable of a stream: chi-square, bias and RMS of the innovations, the error that was assumed
and the spread, and the estimates of Desroziers et al. (2005) of the errors of observations, background and analysis
(`verification.innovations` has the equations). Observations that were used and those that were withheld stand apart:
the estimates need what was assimilated, and withheld ones are independent of the analysis. Rejected ones do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.errors import DataError
from cycler_da.obs.base import QC
from cycler_da.products.feedback import read_feedback
from cycler_da.products.manifest import MANIFEST, read_manifest
from cycler_da.tables.report import Row
from cycler_da.verification.innovations import InnovationSums, innovation_scores, innovation_sums
from cycler_da.verification.totals import Totals

if TYPE_CHECKING:
    Columns = Mapping[str, Mapping[str, np.ndarray]]

#: Flag of the observations of a group -> what they are called.
COUNTED = {QC.USED: "used", QC.PASSIVE: "withheld"}
#: Statistics in the order of the columns.
SHOWN = (
    "chi_square",
    "bias",
    "rms",
    "assumed_error",
    "desroziers_error",
    "spread",
    "desroziers_background",
    "desroziers_analysis",
)


def innovation_rows(chains: Mapping[str, Sequence[Path]]) -> tuple[Row, ...]:
    """Statistics of every chain: name -> folders of its cycles. Cases are the chains, methods the groups."""
    rows = []
    for chain, cycles in chains.items():
        scores = innovation_scores(read_innovations(cycles))
        for group, found in scores.items():
            rows += [Row(chain, group, name, found[name], n=int(found["n"])) for name in SHOWN if name in found]
    return tuple(rows)


def read_innovations(cycles: Sequence[Path]) -> InnovationSums:
    """Sums over cycles by "stream/variable" and "stream/variable, withheld"; cycles without feedback add nothing."""
    total = InnovationSums(Totals({}))
    for cycle in cycles:
        paths = sorted((cycle / "feedback").glob("*.nc"))
        n_members = _count_members(cycle) if paths else 0
        for path in paths:
            for part in _file_sums(path, n_members=n_members):
                total = total + part
    return total


def normalised_innovation(sums: InnovationSums) -> float:
    """RMS of background innovations over the error that was assumed, all used and withheld observations together."""
    counts = {group: float(total["count"][0]) for group, total in sums.totals.values.items()}
    squares = sum(
        counts[group] * float(total["innovation_squared"][0] / total["error_squared"][0])
        for group, total in sums.totals.values.items()
    )
    return float(np.sqrt(squares / sum(counts.values()))) if counts else float("nan")


def _file_sums(path: Path, *, n_members: int) -> Iterator[InnovationSums]:
    columns = read_feedback(path)
    for variable, flags in columns["EffectiveQC"].items():
        for flag, what in COUNTED.items():
            mask = flags == int(flag)
            if mask.any():
                suffix = "" if flag == QC.USED else f", {what}"
                yield _group_sums(columns, variable, mask, f"{path.stem}/{variable}{suffix}", n_members=n_members)


def _group_sums(columns: Columns, variable: str, mask: np.ndarray, group: str, *, n_members: int) -> InnovationSums:
    spread = columns["hofx_spread"][variable]
    is_assimilated = "oman" in columns and not group.endswith("withheld")
    return innovation_sums(
        columns["ombg"][variable],
        group=group,
        error=columns["EffectiveError"][variable],
        spread=spread if n_members > 1 else np.zeros_like(spread),
        n_members=n_members,
        residual=columns["oman"][variable] if is_assimilated else None,
        mask=mask,
    )


def _count_members(cycle: Path) -> int:
    """Members of the background, from the manifest: the field file itself may have been retired."""
    recorded = read_manifest(cycle)["arrays"].get("background.nc", {})
    counts = [len(members) for members in recorded.values() if isinstance(members, Mapping)]
    if not counts:
        raise DataError(
            f"{cycle / MANIFEST} names no members of background.nc, but there is feedback; see `cycler verify`, then "
            "run the cycle again with --force"
        )
    return counts[0]
