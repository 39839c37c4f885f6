"""Series over cycles as one picture, for reports and messages: scores and observation counts of all chains.

One figure of three rows: RMSE with spread, fair CRPS, and observations by what became of them. Scores
are those of all variables pooled ("all") unless another variable is asked for; lines are analyses, dashes
backgrounds, dots the spread of the analysis.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.dates
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cycler_da.errors import MissingProduct
from cycler_da.plots import style
from cycler_da.plots.archive import ChainRecord, CycleRecord, read_chains
from cycler_da.plots.png import write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = 7.4
_LOG_FROM = 8.0  # ratio of the largest to the smallest score above which the axis is logarithmic


def draw_series(experiment_folder: Path, out: Path, *, variable: str = "all") -> Path:
    """Write the figure of an experiment's series to the PNG file `out`; returns its path.

    Raises MissingProduct when no chain has a complete cycle.
    """
    chains = [chain for chain in read_chains(experiment_folder) if chain.cycles]
    if not chains:
        raise MissingProduct(f"series of {experiment_folder}: no chain has a complete cycle; run the experiment first")
    with matplotlib.rc_context(style.RC):
        figure = _figure(chains, experiment_folder.name, variable)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_png(figure, out, title=f"{experiment_folder.name}: scores and observations")
    return out


def _figure(chains: list[ChainRecord], name: str, variable: str) -> Figure:
    figure = Figure(figsize=(style.WIDTH_INCHES, _HEIGHT), dpi=style.DPI)
    figure.text(0.018, 1 - 0.2 / _HEIGHT, name, fontsize=11, fontweight="bold", va="center")
    newest = max(chain.cycles[-1].valid for chain in chains)
    figure.text(0.018, 1 - 0.42 / _HEIGHT, f"Cycles up to {style.clock_text(newest)}", fontsize=9, va="center")
    rows = [figure.add_axes((0.085, bottom, 0.89, 0.20)) for bottom in (0.605, 0.335, 0.065)]
    what = "all variables, normalised" if variable == "all" else variable
    _draw_score(rows[0], chains, variable, score="rmse", title=f"RMSE and spread of {what}", has_spread=True)
    _draw_score(rows[1], chains, variable, score="fair_crps", title=f"Fair CRPS of {what}", has_spread=False)
    _draw_counts(rows[2], chains)
    for row in rows[1:]:
        row.set_xlim(rows[0].get_xlim())
    figure.legend(
        *rows[0].get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(0.01, 1 - 0.55 / _HEIGHT),
        ncols=3,
        frameon=False,
        handlelength=2.6,
    )
    return figure


def _draw_score(
    axes: Axes, chains: list[ChainRecord], variable: str, *, score: str, title: str, has_spread: bool
) -> None:
    drawn: list[np.ndarray] = []
    for chain, colour in zip(chains, _colours(len(chains)), strict=True):
        for field, look in (("background", {"dashes": (4, 2), "linewidth": 1.0}), ("analysis", {"linewidth": 1.6})):
            values = _values(chain, _reader(field, variable, score))
            if np.isfinite(values).any():
                axes.plot(_times(chain), values, color=colour, label=f"{chain.name}, {field}", **look)
                drawn.append(values)
        if has_spread:
            spread = _values(chain, _reader("analysis", variable, "spread"))
            if np.isfinite(spread).any():
                axes.plot(_times(chain), spread, color=colour, marker=".", markersize=3, linestyle="none",
                          label=f"{chain.name}, spread")  # fmt: skip
    _finish(axes, title)
    positive = np.concatenate(drawn)[np.concatenate(drawn) > 0] if drawn else np.zeros(0)
    if positive.size and positive.max() > _LOG_FROM * positive.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)


def _draw_counts(axes: Axes, chains: list[ChainRecord]) -> None:
    for chain, colour in zip(chains, _colours(len(chains)), strict=True):
        used = _values(chain, lambda cycle: cycle.counts.get("used"))
        rest = _values(chain, _not_used)
        if np.isfinite(used).any():
            axes.plot(_times(chain), used, color=colour, linewidth=1.6)
            axes.plot(_times(chain), rest, color=colour, linewidth=1.0, dashes=(1.5, 1.5))
    _finish(axes, "Observations: used (lines), withheld or rejected (dots)")
    axes.set_ylim(bottom=0)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.grid(axis="y", color="#e7ebee", linewidth=0.6)
    axes.set_axisbelow(True)
    locator = matplotlib.dates.AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(locator))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _times(chain: ChainRecord) -> np.ndarray:
    return np.array([cycle.valid for cycle in chain.cycles])


def _values(chain: ChainRecord, read: Callable[[CycleRecord], float | None]) -> np.ndarray:
    found = [read(cycle) for cycle in chain.cycles]
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def _reader(field: str, variable: str, score: str) -> Callable[[CycleRecord], float | None]:
    return lambda cycle: cycle.scores.get(field, {}).get(variable, {}).get(score)


def _not_used(cycle: CycleRecord) -> float | None:
    return float(sum(count for flag, count in cycle.counts.items() if flag != "used")) if cycle.counts else None


def _colours(n_chains: int) -> list[str]:
    return [style.SERIES_COLOURS[i % len(style.SERIES_COLOURS)] for i in range(n_chains)]
