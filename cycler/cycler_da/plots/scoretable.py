"""The closing score table: scores pooled over cycles, one row for each chain and field.

Scores of single cycles are never averaged where that is not what they mean. With N cycles that verify on
the same grid

    rmse = sqrt(mean rmse_n^2),   spread = sqrt(mean spread_n^2),   fair CRPS = mean CRPS_n
    spread/skill = c spread / rmse,   c = sqrt((M + 1) / M)   read off one cycle as ratio_n rmse_n / spread_n

(Fortin et al. 2014, J. Hydrometeor. 15, eq. 15 for c). Any other score is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cycler_da.plots.archive import ChainRecord, CycleRecord

#: Scores in the order of the table's columns.
SCORES = ("rmse", "fair_crps", "spread", "spread_skill")

#: What a chain itself makes; every other field is a reference forecast.
_OWN = ("background", "analysis")


@dataclass(frozen=True)
class Row:
    """Pooled scores of one field of one chain: variable (or "all") to score to value."""

    chain: str
    field: str
    n_cycles: int
    scores: Mapping[str, Mapping[str, float]]


#: Chooses the cycles that a table pools.
Choice = Callable[[ChainRecord], Sequence[CycleRecord]]


def all_cycles(chain: ChainRecord) -> Sequence[CycleRecord]:
    """Every cycle of the chain that was read."""
    return chain.cycles


def later_half(chain: ChainRecord) -> Sequence[CycleRecord]:
    """The later half of the cycles, the middle one included."""
    return chain.cycles[len(chain.cycles) // 2 :]


def after(spin_up: int) -> Choice:
    """All but the first `spin_up` cycles of the chain; those too old to be read count as well."""
    return lambda chain: chain.cycles[max(0, spin_up - (chain.n_complete - len(chain.cycles))) :]


def score_rows(chains: Iterable[ChainRecord], choose: Choice = all_cycles) -> list[Row]:
    """Pool the scores of the chosen cycles of every chain.

    Cycles that were not verified are left out, and so is the start, whose analysis no observation has seen.
    """
    rows: list[Row] = []
    for chain in chains:
        chosen = [cycle for cycle in choose(chain) if "background" in cycle.scores]
        for name in _fields(chosen):
            scored = [cycle for cycle in chosen if name in cycle.scores]
            rows.append(Row(chain.name, name, len(scored), _pool(scored, name)))
    return _merge_references(rows)


def pooled(cycles: list[Mapping[str, float]]) -> dict[str, float]:
    """Pool scores of one variable over cycles (see the module); scores that some cycle lacks are left out."""
    columns = {
        name: np.array([cycle[name] for cycle in cycles], dtype=np.float64)
        for name in SCORES
        if cycles and all(cycle.get(name) is not None for cycle in cycles)
    }
    result: dict[str, float] = {}
    for name in ("rmse", "spread"):
        if name in columns:
            result[name] = float(np.sqrt(np.mean(columns[name] ** 2)))
    if "fair_crps" in columns:
        result["fair_crps"] = float(np.mean(columns["fair_crps"]))
    ratio = _small_ensemble_factor(columns)
    if ratio is not None and result["rmse"] > 0:
        result["spread_skill"] = ratio * result["spread"] / result["rmse"]
    return result


def _merge_references(rows: list[Row]) -> list[Row]:
    """Move reference forecasts to the end; one that scores alike in every chain is written once, chain ""."""
    own = [row for row in rows if row.field in _OWN]
    references: dict[str, list[Row]] = {}
    for row in rows:
        if row.field not in _OWN:
            references.setdefault(row.field, []).append(row)
    for found in references.values():
        first = found[0]
        is_same = all((row.n_cycles, row.scores) == (first.n_cycles, first.scores) for row in found)
        own += [replace(first, chain="")] if is_same else found
    return own


def _small_ensemble_factor(columns: Mapping[str, np.ndarray]) -> float | None:
    if not {"spread_skill", "rmse", "spread"} <= columns.keys():
        return None
    usable = columns["spread"] > 0
    if not usable.any():
        return None
    factors = columns["spread_skill"][usable] * columns["rmse"][usable] / columns["spread"][usable]
    return float(np.median(factors))


def _fields(cycles: list[CycleRecord]) -> list[str]:
    """Background and analysis first, then reference forecasts in the order they appear."""
    found = dict.fromkeys(name for cycle in cycles for name in cycle.scores)
    first = [name for name in _OWN if name in found]
    return first + [name for name in found if name not in first]


def _pool(cycles: list[CycleRecord], name: str) -> dict[str, dict[str, float]]:
    variables = dict.fromkeys(variable for cycle in cycles for variable in cycle.scores[name])
    return {
        variable: pooled([cycle.scores[name][variable] for cycle in cycles if variable in cycle.scores[name]])
        for variable in variables
    }
