"""Score sums: the mergeable half of every score of a field.

`ensemble_sums` reduces one field (members and truth) to sums over its points; `a + b` is the sum over both;
`scores.py` turns sums into scores. So an RMSE is the root of a mean over all points of all cycles, and no
score is ever an average of scores.

Ensemble sizes are never mixed: the error of a mean, the spread/skill ratio and the rank histogram depend on
M, so `+` refuses, and `merge_by_size` keeps sizes apart (a cycle that lost members is then seen in a table
as a line of its own). NaN in truth or member makes the sums of that variable NaN. Points that shall not
count (no radar coverage, say) are named by an explicit mask, never guessed from NaN.

The pooled variable `all` is not stored: it follows from the sums of the variables and `scale`, the size by
which each variable is divided before pooling (climatological standard deviation, say).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.errors import DataError, LayoutMismatch
from cycler_da.verification import statistics
from cycler_da.verification.totals import Totals, as_totals, merge, stored_as

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

#: Name of the pool of all normalised variables; no variable may have it.
POOLED = "all"
_FORMAT = "cycler score sums 1"


@dataclass(frozen=True)
class ScoreSums:
    """Sums over points of one or more verified fields; add them with `+`.

    Statistics of each variable: count, error, squared_error, absolute_error, fair_crps; of ensembles also
    variance and ranks (M + 1); with thresholds also contingency (4 for each) and exceedance (2 (M + 1) for each).
    """

    n_members: int  # 1: a deterministic forecast
    n_fields: int  # number of fields merged so far
    totals: Totals
    scale: Mapping[str, float] | None = None  # variable -> size in its units
    thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in channel order, without the pool."""
        return tuple(self.totals.values)

    def __add__(self, other: ScoreSums) -> ScoreSums:
        """Merge; raises LayoutMismatch when members, variables, scale or thresholds differ."""
        for what in ("variables", "scale", "thresholds", "n_members"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs:
                hint = "; keep ensemble sizes apart with merge_by_size" if what == "n_members" else ""
                raise LayoutMismatch(f"cannot merge scores: {what} differ, got {theirs}, expected {mine}{hint}")
        return ScoreSums(
            n_members=self.n_members,
            n_fields=self.n_fields + other.n_fields,
            totals=self.totals + other.totals,
            scale=self.scale,
            thresholds=self.thresholds,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain objects for strict JSON; `from_json` gives back the same bits."""
        return {
            "format": _FORMAT,
            "n_members": self.n_members,
            "n_fields": self.n_fields,
            "scale": None if self.scale is None else dict(self.scale),
            "thresholds": {name: list(values) for name, values in self.thresholds.items()},
            "totals": self.totals.to_json(),
        }

    @staticmethod
    def from_json(description: Mapping[str, Any]) -> ScoreSums:
        """Read what `to_json` wrote; raises DataError for anything else."""
        with stored_as(_FORMAT, description):
            scale = description["scale"]
            return ScoreSums(
                n_members=int(description["n_members"]),
                n_fields=int(description["n_fields"]),
                totals=Totals.from_json(description["totals"]),
                scale=None if scale is None else {name: float(value) for name, value in scale.items()},
                thresholds={name: tuple(map(float, values)) for name, values in description["thresholds"].items()},
            )


def merge_by_size(parts: Iterable[ScoreSums]) -> dict[int, ScoreSums]:
    """Merge sums of each ensemble size apart: number of members -> sums, in order of first appearance."""
    sizes: dict[int, list[ScoreSums]] = {}
    for part in parts:
        sizes.setdefault(part.n_members, []).append(part)
    return {n_members: merge(same) for n_members, same in sizes.items()}


def ensemble_sums(
    members: Float[np.ndarray, "member channel *space"],
    truth: Float[np.ndarray, "channel *space"],
    *,
    scale: Float[np.ndarray, "channel"] | None = None,
    names: Sequence[str] | None = None,
    mask: Bool[np.ndarray, "*channel_space"] | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
) -> ScoreSums:
    """Reduce an ensemble and the truth to score sums.

    `names`: variables in channel order (default: "channel_0", ...). `mask`: true where points count, of shape
    `(channel, *space)` or `(*space)`. `thresholds`: variable -> values in its units. Members, truth and scale
    are in physical units. Raises LayoutMismatch for shapes and names that do not fit, DataError for fewer
    than two members and for a scale that is not positive.
    """
    if members.ndim < 2 or members.shape[0] < 2:
        raise DataError(
            f"cannot verify an ensemble of shape {members.shape}: expected (member, channel, *space) with at "
            "least 2 members; for a single forecast use deterministic_sums"
        )
    return _field_sums(members, truth, scale, names, mask, thresholds)


def deterministic_sums(
    forecast: Float[np.ndarray, "channel *space"],
    truth: Float[np.ndarray, "channel *space"],
    *,
    scale: Float[np.ndarray, "channel"] | None = None,
    names: Sequence[str] | None = None,
    mask: Bool[np.ndarray, "*channel_space"] | None = None,
    thresholds: Mapping[str, Sequence[float]] | None = None,
) -> ScoreSums:
    """Reduce a single forecast and the truth to score sums; its CRPS is its absolute error.

    Arguments and errors as in `ensemble_sums`.
    """
    return _field_sums(forecast[None], truth, scale, names, mask, thresholds)


def _field_sums(
    members: np.ndarray,
    truth: np.ndarray,
    scale: np.ndarray | None,
    names: Sequence[str] | None,
    mask: np.ndarray | None,
    thresholds: Mapping[str, Sequence[float]] | None,
) -> ScoreSums:
    names = tuple(f"channel_{index}" for index in range(truth.shape[0])) if names is None else tuple(names)
    mask = np.ones(truth.shape, dtype=bool) if mask is None else np.asarray(mask)
    limits = {name: tuple(float(value) for value in values) for name, values in (thresholds or {}).items()}
    _require_fitting(members, truth, names, mask, limits)
    mask = np.broadcast_to(mask, truth.shape)
    totals = {
        name: _variable_totals(
            members[:, channel][:, mask[channel]].astype(np.float64),
            truth[channel][mask[channel]].astype(np.float64),
            limits.get(name, ()),
        )
        for channel, name in enumerate(names)
    }
    return ScoreSums(
        n_members=members.shape[0],
        n_fields=1,
        totals=Totals(totals),
        scale=None if scale is None else _named_scale(scale, names),
        thresholds=limits,
    )


def _variable_totals(members: np.ndarray, truth: np.ndarray, thresholds: tuple[float, ...]) -> dict[str, Any]:
    # Infinite members give NaN sums, which is what the table must show; numpy need not warn as well.
    with np.errstate(invalid="ignore", over="ignore"):
        error = statistics.error(members, truth)
        totals = {
            "count": float(truth.size),
            "error": error.sum(),
            "squared_error": (error**2).sum(),
            "absolute_error": np.abs(error).sum(),
        }
        if members.shape[0] == 1:
            totals["fair_crps"] = totals["absolute_error"]
        else:
            totals["fair_crps"] = statistics.fair_crps(members, truth).sum()
            totals["variance"] = statistics.variance(members).sum()
            totals["ranks"] = statistics.rank_counts(members, truth)
        if thresholds:
            mean = members.mean(axis=0)
            totals["contingency"] = np.stack(
                [statistics.contingency_counts(mean, truth, threshold=limit) for limit in thresholds]
            )
            totals["exceedance"] = np.stack(
                [statistics.exceedance_counts(members, truth, threshold=limit) for limit in thresholds]
            )
    return {name: as_totals(value) for name, value in totals.items()}


def _named_scale(scale: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    scale = np.asarray(scale, dtype=np.float64)
    if scale.shape != (len(names),) or not np.all(np.isfinite(scale) & (scale > 0)):
        raise DataError(f"cannot normalise scores by scale {scale}: expected one positive number for each of {names}")
    return {name: float(value) for name, value in zip(names, scale, strict=True)}


def _require_fitting(
    members: np.ndarray, truth: np.ndarray, names: tuple[str, ...], mask: np.ndarray, limits: Mapping[str, Any]
) -> None:
    if members.shape[1:] != truth.shape:
        raise LayoutMismatch(
            f"cannot verify: members have shape {members.shape}, expected (member, *{truth.shape}) like the truth"
        )
    if len(set(names)) != truth.shape[0] or POOLED in names or len(names) != truth.shape[0]:
        raise LayoutMismatch(
            f"cannot verify: names are {names}, expected {truth.shape[0]} different names, none of them {POOLED!r}"
        )
    if mask.dtype != bool or mask.shape not in (truth.shape, truth.shape[1:]):
        raise LayoutMismatch(
            f"cannot verify: mask is {mask.dtype} {mask.shape}, expected bool {truth.shape} or {truth.shape[1:]}"
        )
    unknown = sorted(set(limits) - set(names))
    if unknown:
        raise LayoutMismatch(f"cannot verify: thresholds name {unknown}, expected some of {names}")
