"""Results of a benchmark as values, as NAME.json, and as the Markdown table made from that JSON.

A result says what made it (config, commit, machine, seeds, command), so that every number in the project can
be made again. The Markdown is a rendering of what was read back from the JSON, never of the values in memory:
the two files cannot disagree. Both texts are complete before either file is touched, and each file is renamed
into place. Numbers have four significant digits in the table and all digits in the JSON; missing and NaN are
"-" in the table. There is no time stamp: the same result gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cycler_da.errors import DataError
from cycler_da.products.atomic import write_atomically

_FORMAT = "cycler benchmark 1"
_NUMBERS = ("value", "low", "high")


@dataclass(frozen=True)
class Row:
    """One number: a metric of a method in a case, with its 95 % interval and sample size where known."""

    case: str
    method: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class BenchResult:
    """All numbers of one benchmark; `commit`, `machine` and `command` are filled in by `run_benchmark`."""

    name: str
    config: Mapping[str, Any]  # JSON-ready
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    commit: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


def write(result: BenchResult, out: Path) -> tuple[Path, Path]:
    """Write NAME.json and NAME.md into a folder and return their paths.

    Raises DataError when two rows name the same case, method and metric, and CannotWrite when the file system
    refuses; files of an earlier run are then left as they were.
    """
    _require_distinct(result)
    text = json.dumps(_describe(result), indent=1, allow_nan=False) + "\n"
    table = markdown(_rebuild(json.loads(text)))
    paths = (Path(out) / f"{result.name}.json", Path(out) / f"{result.name}.md")
    write_atomically(paths[0], lambda private: _write_text(private, text))
    write_atomically(paths[1], lambda private: _write_text(private, table))
    return paths


def read(path: Path) -> BenchResult:
    """Read NAME.json; raises DataError when it is not the JSON of a benchmark."""
    try:
        description = json.loads(Path(path).read_text(encoding="utf-8"))
        return _rebuild(description)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot read benchmark {path}: got {error!r}, expected the JSON that `cycler bench` writes; run it again"
        ) from error


def markdown(result: BenchResult) -> str:
    """The result as Markdown: what made it, the table, the notes."""
    facts = [
        ("command", f"`{result.command}`"),
        ("commit", result.commit),
        ("seeds", ", ".join(map(str, result.seeds))),
        *[(f"machine, {key}", value) for key, value in result.machine.items()],
        *[(f"config, {key}", _plain(value)) for key, value in result.config.items()],
    ]
    parts = [f"# {result.name}", pivot(result.rows)]
    if any(row.low is not None for row in result.rows):
        parts.append("In parentheses: 95 % interval.")
    if result.notes:
        parts.append("\n".join(f"- {note}" for note in result.notes))
    parts.append("\n".join(f"- {key}: {value}" for key, value in facts if value not in ("", "``")))
    return "\n\n".join(parts) + "\n"


def pivot(rows: Sequence[Row]) -> str:
    """A Markdown table: one line for each case and method, one column for each metric, in order of appearance.

    A column n is added when rows have a sample size; where it differs within a line it stands in the cells.
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault((row.case, row.method), {})[row.metric] = row
    sizes = {key: {row.n for row in line.values() if row.n is not None} for key, line in lines.items()}
    has_n = any(row.n is not None for row in rows)
    heading = ["case", "method", *metrics, *(["n"] if has_n else [])]
    body = []
    for (case, method), line in lines.items():
        is_same = len(sizes[case, method]) == 1
        cells = [format_cell(line.get(metric), with_n=not is_same) for metric in metrics]
        size = str(min(sizes[case, method])) if is_same else "-"
        body.append([case, method, *cells, *([size] if has_n else [])])
    rule = ["---", "---", *(["---:"] * (len(heading) - 2))]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in cells) + " |" for cells in (heading, rule, *body))


def format_cell(row: Row | None, *, with_n: bool = False) -> str:
    """A row as the text of a table cell: 0.1234 (0.1200 to 0.1270)."""
    if row is None:
        return "-"
    text = format_number(row.value)
    if row.low is not None and row.high is not None and math.isfinite(row.low) and math.isfinite(row.high):
        text += f" ({format_number(row.low)} to {format_number(row.high)})"
    return f"{text} n={row.n}" if with_n and row.n is not None else text


def format_number(value: float) -> str:
    """Four significant digits, with an exponent only below 0.0001 and from a million on; NaN is "-"."""
    if math.isnan(value):
        return "-"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if float(value).is_integer() and abs(value) < 1e6:
        return str(int(value))
    size = math.floor(math.log10(abs(value)))
    return f"{value:.3e}" if not -4 <= size < 6 else f"{value:.{max(0, 3 - size)}f}"


def _describe(result: BenchResult) -> dict[str, Any]:
    rows = [{key: _encode(value) for key, value in asdict(row).items()} for row in result.rows]
    order = ("name", "config", "commit", "machine", "seeds", "command")
    return {"format": _FORMAT} | {key: getattr(result, key) for key in order} | {"rows": rows, "notes": result.notes}


def _rebuild(description: Mapping[str, Any]) -> BenchResult:
    if description["format"] != _FORMAT:
        raise ValueError(f"format {description['format']!r} instead of {_FORMAT!r}")
    fields = {key: value for key, value in description.items() if key != "format"}
    rows = tuple(Row(**{key: _decode(key, value) for key, value in row.items()}) for row in fields.pop("rows"))
    return BenchResult(rows=rows, seeds=tuple(fields.pop("seeds")), notes=tuple(fields.pop("notes")), **fields)


def _encode(value: Any) -> Any:
    return str(float(value)) if isinstance(value, float) and not math.isfinite(value) else value


def _decode(key: str, value: Any) -> Any:
    return float(value) if key in _NUMBERS and value is not None else value


def _require_distinct(result: BenchResult) -> None:
    seen = set()
    for row in result.rows:
        key = (row.case, row.method, row.metric)
        if key in seen:
            raise DataError(f"benchmark {result.name} has two values of {key}; expected one row for each")
        seen.add(key)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
