"""The closing table of an experiment: methods by score, background beside analysis.

Rows are made from the score sums of every cycle, with jackknife intervals corrected for autocorrelation
(`verification.consistency`), and drawn on the terminal or as Markdown. A method that has no background or no
analysis (observations only, persistence) has "-" there. In every column the best value is bold: the smallest
error, the spread/skill ratio nearest to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cycler_da.tables.report import Row, format_cell
from cycler_da.verification.consistency import score_interval
from cycler_da.verification.scores import score
from cycler_da.verification.sums import POOLED, ScoreSums

#: Fields that are verified, in the order of the columns.
KINDS = ("background", "analysis")
#: Scores of the table with their headings.
SCORES = {"rmse": "RMSE", "fair_crps": "fair CRPS", "spread_skill": "spread/skill"}


def closing_rows(chains: Mapping[str, Mapping[str, Sequence[ScoreSums]]], *, variable: str = POOLED) -> tuple[Row, ...]:
    """Scores of every method with intervals: method -> "background" or "analysis" -> sums of each cycle in order.

    A single forecast has no spread/skill row. Cycles that lost members get a line of their own, "letkf
    (19 members)": ensemble sizes are never mixed. Cases are the kinds, so that `report.pivot` takes the rows too.
    """
    rows = []
    for method, kinds in chains.items():
        for kind, cycles in kinds.items():
            for label, same in _by_size(method, cycles):
                metrics = [metric for metric in SCORES if metric != "spread_skill" or same[0].n_members > 1]
                rows += [_score_row(kind, label, metric, same, variable) for metric in metrics]
    return tuple(rows)


def closing_table(rows: Sequence[Row], *, title: str = "", intervals: bool = False) -> Table:
    """Draw the closing table; `rows` have case "background" or "analysis" and the metrics of `SCORES`."""
    # Narrow enough for a terminal of 80 columns; there a long method name is folded, never a number.
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    table.add_column("method", overflow="fold", min_width=12)
    for kind in KINDS:
        for heading in SCORES.values():
            lines = f"{kind} {heading}".replace(" ", "\n").replace("/", "/\n")
            table.add_column(lines, justify="right", no_wrap=not intervals)
    for cells in _lines(rows, intervals=intervals, bold="[bold]{}[/bold]"):
        table.add_row(*cells)
    return table


def closing_markdown(rows: Sequence[Row], *, intervals: bool = True) -> str:
    """The same table as Markdown."""
    headings = ["method", *[f"{kind} {heading}" for kind in KINDS for heading in SCORES.values()]]
    rule = ["---", *["---:"] * (len(headings) - 1)]
    lines = [headings, rule, *_lines(rows, intervals=intervals, bold="**{}**")]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _by_size(method: str, cycles: Sequence[ScoreSums]) -> list[tuple[str, list[ScoreSums]]]:
    sizes: dict[int, list[ScoreSums]] = {}
    for cycle in cycles:
        sizes.setdefault(cycle.n_members, []).append(cycle)
    groups = sorted(sizes.items(), key=lambda group: -len(group[1]))
    labels = [method, *[f"{method} ({n_members} members)" for n_members, _ in groups[1:]]]
    return [(label, same) for label, (_, same) in zip(labels, groups, strict=False)]


def _score_row(kind: str, method: str, metric: str, cycles: Sequence[ScoreSums], variable: str) -> Row:
    estimate = score_interval(cycles, lambda sums: score(sums, variable, metric))
    return Row(kind, method, metric, estimate.value, estimate.low, estimate.high, estimate.n)


def _lines(rows: Sequence[Row], *, intervals: bool, bold: str) -> list[list[str]]:
    columns = [(kind, metric) for kind in KINDS for metric in SCORES]
    found = {(row.method, row.case, row.metric): row for row in rows}
    best = {column: _best([row for row in rows if (row.case, row.metric) == column]) for column in columns}
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        cells = []
        for kind, metric in columns:
            row = found.get((method, kind, metric))
            text = _cell(row, intervals=intervals)
            cells.append(bold.format(text) if row is not None and row is best[kind, metric] else text)
        lines.append([method, *cells])
    return lines


def _cell(row: Row | None, *, intervals: bool) -> str:
    if row is None or intervals:
        return format_cell(row)
    return format_cell(Row(row.case, row.method, row.metric, row.value))


def _best(rows: Sequence[Row]) -> Row | None:
    rows = [row for row in rows if math.isfinite(row.value)]
    if len(rows) < 2:
        return None
    return min(rows, key=_badness)


def _badness(row: Row) -> float:
    if row.metric != "spread_skill":
        return row.value
    return abs(math.log(row.value)) if row.value > 0 else math.inf
