"""Options of the filters of `kolmogorov_masf`: searched on a truth that is not scored, for each grid and sensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cycler_da.bench.pattern_search import pattern_search
from cycler_da.bench.turbulence.kolmogorov_masf_case import Case, Setting, cycle
from cycler_da.bench.turbulence.kolmogorov_masf_methods import LETKF, Searched
from cycler_da.errors import AnalysisFailed
from cycler_da.forecast.base import ForecastModel


def search_all(
    searched: Mapping[str, Searched], case: Case, setting: Setting, models: Mapping[bool, ForecastModel]
) -> tuple[dict[str, Any], list[str]]:
    """Schemes of least RMSE, the learned ones after the LETKF of the same search, and how they were found.

    `models` by whether they are learned.
    """
    chosen, notes = dict[str, Any](), list[str]()
    for name, one in searched.items():
        first = chosen.get(LETKF) if one.is_learned else None
        chosen[name], told = search(one, case, setting, models[one.is_learned], first=first)
        notes.append(f"{setting.label}, {name}: {told}")
    return chosen, notes


def search(
    searched: Searched, case: Case, setting: Setting, model: ForecastModel, *, first: Any = None
) -> tuple[Any, str]:
    """The scheme of least RMSE on a truth, and a sentence on how it was found."""

    def rmse(point: tuple[float, ...]) -> float:
        try:
            found = cycle(case, searched.make(*point), model, setting, first=first).mean("rmse")
        except AnalysisFailed:
            return np.inf
        return found if np.isfinite(found) else np.inf

    found = pattern_search(searched.axes, searched.start, rmse)
    values = ", ".join(f"{name} {value:g}" for name, value in zip(searched.axes, found.point, strict=True))
    return searched.make(*found.point), f"{values}, best of {found.n_scored}{found.ends}"


def unsearched(searched: Mapping[str, Searched]) -> dict[str, Any]:
    """The schemes with which the search would begin."""
    return {name: one.make(*one.start) for name, one in searched.items()}
