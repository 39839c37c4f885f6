"""Innovation statistics: do background, analysis and observation errors agree with what the system assumes?

With innovations d_b = y - H(x_b), residuals d_a = y - H(x_a) and increments d_ab = H(x_a) - H(x_b) = d_b - d_a,
an optimal analysis has (Desroziers et al. 2005, QJRMS 131, 3385, eqs. 1, 2, 3, 4)

    E[d_b d_b^T] = H B H^T + R        E[d_ab d_b^T] = H B H^T
    E[d_a d_b^T] = R                  E[d_ab d_a^T] = H A H^T

Diagonals are estimated by sums over observations that share statistics (one variable of one stream). The
innovation chi-square per observation is the mean of d_b^2 / ((1 + 1/M) s_b^2 + sigma_o^2), 1 when spread and
observation error are right; 1 + 1/M because the mean of M members errs more than the true mean
(the same factor as in the spread/skill ratio). Below 1: errors assumed too large; above 1: too small.

Limits: the estimates of Desroziers need observations that were assimilated, are unbiased (see `bias`) and, if
both errors are wrong, tell their sum better than their ratio. Withheld observations give the chi-square only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da.errors import LayoutMismatch
from cycler_da.verification.totals import Totals, as_totals, stored_as

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

_FORMAT = "cycler innovation sums 1"


@dataclass(frozen=True)
class InnovationSums:
    """Sums over observations by group ("stations/q1", say); add them with `+`, also when groups differ.

    A group that only one side has is kept: streams come and go from cycle to cycle.
    """

    totals: Totals

    def __add__(self, other: InnovationSums) -> InnovationSums:
        """Merge group by group; raises LayoutMismatch when a group has other statistics (no residuals, say)."""
        mine, theirs = self.totals.values, other.totals.values
        shared = [group for group in mine if group in theirs]
        both = Totals({g: mine[g] for g in shared}) + Totals({g: theirs[g] for g in shared})
        return InnovationSums(Totals({**mine, **theirs, **both.values}))

    def to_json(self) -> dict[str, Any]:
        """Plain objects for strict JSON; `from_json` gives back the same bits."""
        return {"format": _FORMAT, "totals": self.totals.to_json()}

    @staticmethod
    def from_json(description: Mapping[str, Any]) -> InnovationSums:
        """Read what `to_json` wrote; raises DataError for anything else."""
        with stored_as(_FORMAT, description):
            return InnovationSums(Totals.from_json(description["totals"]))


def innovation_sums(
    innovation: Float[np.ndarray, "obs"],
    *,
    group: str,
    error: Float[np.ndarray, "obs"],
    spread: Float[np.ndarray, "obs"],
    n_members: int,
    residual: Float[np.ndarray, "obs"] | None = None,
    mask: Bool[np.ndarray, "obs"] | None = None,
) -> InnovationSums:
    """Reduce the observations of one group (columns of a feedback file) to sums.

    `innovation` is ombg, `residual` oman, `error` the standard deviation the analysis used (EffectiveError),
    `spread` hofx_spread (denominator M - 1), all in the units of the variable. `mask`: true for the
    observations that count; without it a missing value makes the sums NaN. Raises LayoutMismatch when the
    columns differ in length.
    """
    columns = {"innovation": innovation, "error": error, "spread": spread}
    if residual is not None:
        columns["residual"] = residual
    columns = _selected(columns, mask, group)
    d_b, sigma_o, s_b = columns["innovation"], columns["error"], columns["spread"]
    totals = {
        "count": float(d_b.size),
        "innovation": d_b.sum(),
        "innovation_squared": (d_b**2).sum(),
        "error_squared": (sigma_o**2).sum(),
        "spread_squared": (s_b**2).sum(),
        "chi_square": (d_b**2 / ((1.0 + 1.0 / n_members) * s_b**2 + sigma_o**2)).sum(),
    }
    if residual is not None:
        d_a = columns["residual"]
        totals |= {
            "residual": d_a.sum(),
            "residual_squared": (d_a**2).sum(),
            "residual_innovation": (d_a * d_b).sum(),
        }
    return InnovationSums(Totals({group: {name: as_totals(value) for name, value in totals.items()}}))


def innovation_scores(sums: InnovationSums) -> dict[str, dict[str, float]]:
    """Final statistics by group, in the units of the variable.

    n, bias and rms of innovations, assumed_error and spread (rms), chi_square (per observation, expected 1).
    With residuals also residual_bias, residual_rms and the Desroziers estimates desroziers_error,
    desroziers_background and desroziers_analysis (standard deviations; NaN when the estimated variance is
    negative, which says that there are too few observations or that the analysis is far from optimal).
    """
    return {group: _group_scores(sums.totals.of(group)) for group in sums.totals.values}


def joint_chi_square(
    innovation: Float[np.ndarray, "obs"], hx: Float[np.ndarray, "member obs"], error: Float[np.ndarray, "obs"]
) -> float:
    """d^T (H B H^T + R)^-1 d for one window, with B from the ensemble; P observations expect the value P.

    Solved in the space of members (Woodbury), so P may be large. Without localization a small ensemble
    leaves most directions of B empty and the value comes out too large.
    """
    n_members = hx.shape[0]
    scaled = (hx - hx.mean(axis=0)) / (error * np.sqrt(n_members - 1))
    d = innovation / error
    projected = scaled @ d
    inner = np.eye(n_members) + scaled @ scaled.T
    return float(d @ d - projected @ np.linalg.solve(inner, projected))


def _selected(columns: dict[str, np.ndarray], mask: np.ndarray | None, group: str) -> dict[str, np.ndarray]:
    shapes = {name: np.shape(column) for name, column in columns.items()}
    if mask is not None:
        shapes["mask"] = np.shape(mask)
    if len(set(shapes.values())) != 1:
        raise LayoutMismatch(f"cannot sum innovations of {group}: columns have shapes {shapes}, expected equal ones")
    keep = slice(None) if mask is None else np.asarray(mask, dtype=bool)
    return {name: np.asarray(column, dtype=np.float64)[keep] for name, column in columns.items()}


def _group_scores(totals: Mapping[str, np.ndarray]) -> dict[str, float]:
    n_obs = float(totals["count"][0])
    mean = {name: float(total[0]) / n_obs if n_obs else float("nan") for name, total in totals.items()}
    scores = {
        "n": n_obs,
        "bias": mean["innovation"],
        "rms": _root(mean["innovation_squared"]),
        "assumed_error": _root(mean["error_squared"]),
        "spread": _root(mean["spread_squared"]),
        "chi_square": mean["chi_square"],
    }
    if "residual" in totals:
        cross = mean["residual_innovation"]
        scores |= {
            "residual_bias": mean["residual"],
            "residual_rms": _root(mean["residual_squared"]),
            "desroziers_error": _root(cross),
            "desroziers_background": _root(mean["innovation_squared"] - cross),
            "desroziers_analysis": _root(cross - mean["residual_squared"]),
        }
    return scores


def _root(value: float) -> float:
    return float(np.sqrt(value)) if value >= 0 else float("nan")
