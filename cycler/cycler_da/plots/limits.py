"""Limits of the colour scales, chosen once for an experiment and kept.

They are estimated from the first cycle that is drawn and stored in `<experiment>/page/limits.json`; every
later cycle and every chain uses them, so that a loop does not flicker and chains can be compared. The
measure is the total standard deviation, sqrt(var(mean) + mean(spread^2)): the mean of an ensemble drawn from
climate is nearly flat, its spread is not, and together they give the size of the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cycler_da.layout import Layout, Variable
from cycler_da.plots import style
from cycler_da.plots.fields import CycleFields, VariableFields
from cycler_da.products.atomic import write_json_atomically

#: Deviations from zero that the colours of a signed field span, in standard deviations.
SIGNED_SPAN = 2.5
#: Size of the largest class bound of departures and spread, at most, in standard deviations.
LEVELS_SPAN = 2.0
N_LEVELS = 7
#: Classes of VIL departures and spread (kg m-2); SEVIR's six scoring levels span the same range.
VIL_LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROUND = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class VariableLimits:
    """Limits of one variable in its units; `levels` bound the classes of departures and spread."""

    low: float
    high: float
    levels: tuple[float, ...]

    @property
    def is_signed(self) -> bool:
        """True when the colours of the field are symmetric about zero."""
        return self.low == -self.high

    @property
    def exponent(self) -> int:
        """Power of ten that colour bars take out, zero for numbers of usual size."""
        exponent = int(np.floor(np.log10(0.99 * self.levels[-1])))
        return 0 if -2 <= exponent <= 3 else exponent


Limits = Mapping[str, VariableLimits]


def estimate_limits(fields: CycleFields) -> dict[str, VariableLimits]:
    """Choose limits for every variable of a cycle from its analysis mean and spread."""
    return {part.variable.name: _estimate(part) for part in fields.variables}


def limits_for(fields: CycleFields) -> Limits:
    """Limits of the experiment that the cycle belongs to; the first cycle drawn decides and stores them.

    A folder outside an experiment (one analysis of a user's own) gets limits of its own, which are not stored.
    """
    experiment = experiment_folder(fields.folder)
    if experiment is None:
        return estimate_limits(fields)
    path = experiment / "page" / "limits.json"
    stored = read_limits(path, fields.layout)
    if stored is None:
        stored = estimate_limits(fields)
        write_limits(path, stored, fields.layout)
    return stored


def experiment_folder(cycle_folder: Path) -> Path | None:
    """The experiment above a cycle, published (in `cycles`) or being made (in `work`); None for any other folder."""
    parents = cycle_folder.resolve().parents
    if len(parents) >= 3 and parents[0].name in ("cycles", "work", "revisions"):
        return parents[2]
    return None


def read_limits(path: Path, layout: Layout) -> dict[str, VariableLimits] | None:
    """Read stored limits; None when there are none, or they belong to another layout."""
    try:
        stored = json.loads(path.read_text())
        if stored["layout_digest"] != layout.digest:
            return None
        return {
            name: VariableLimits(float(one["low"]), float(one["high"]), tuple(map(float, one["levels"])))
            for name, one in stored["variables"].items()
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # damaged limits are only colours: choose them again


def write_limits(path: Path, limits: Limits, layout: Layout) -> None:
    """Store limits with the digest of the layout they belong to, in one step."""
    content = {"layout_digest": layout.digest, "variables": {name: asdict(one) for name, one in limits.items()}}
    write_json_atomically(path, content)


def round_up(value: float) -> float:
    """The next round number: 2.05e-5 gives 2.5e-5. Needs value > 0."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(f"{next(r for r in _ROUND if r * power >= value * (1 - 1e-9)) * power:.3g}")


def levels_below(top: float, n_levels: int = N_LEVELS) -> tuple[float, ...]:
    """The `n_levels` largest numbers of the ladder 1-2-5 that do not exceed `top`, rising."""
    power = int(np.floor(np.log10(top)))
    ladder = [float(f"{digit}e{exponent}") for exponent in range(power - n_levels, power + 1) for digit in (1, 2, 5)]
    return tuple([step for step in ladder if step <= top * (1 + 1e-9)][-n_levels:])


def _estimate(part: VariableFields) -> VariableLimits:
    if style.is_vil(part.variable):
        return VariableLimits(0.0, 80.0, VIL_LEVELS)
    present = np.isfinite(part.analysis)
    mean = part.analysis[present]
    if not mean.size:
        return VariableLimits(-1.0, 1.0, levels_below(LEVELS_SPAN))
    spread = np.zeros_like(mean) if part.analysis_spread is None else np.nan_to_num(part.analysis_spread[present])
    deviation = float(np.sqrt(np.var(mean) + np.mean(spread**2))) or 1.0
    low, high = _range(part.variable, mean, spread, deviation)
    return VariableLimits(low, high, levels_below(LEVELS_SPAN * deviation))


def _range(variable: Variable, mean: np.ndarray, spread: np.ndarray, deviation: float) -> tuple[float, float]:
    low, high = float(np.min(mean - spread)), float(np.max(mean + spread))
    never_negative = (variable.valid_min is not None and variable.valid_min >= 0) or low >= 0
    if not never_negative and abs(float(np.mean(mean))) < deviation:
        span = round_up(SIGNED_SPAN * deviation)
        return -span, span
    if never_negative and low <= 0.5 * high:
        return 0.0, round_up(max(high, deviation))
    margin = round_up(max(high - low, deviation) / 4)
    return float(np.floor(low / margin) * margin), float(np.ceil(high / margin) * margin)
