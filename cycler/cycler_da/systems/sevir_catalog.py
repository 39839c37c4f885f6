"""The catalogue of SEVIR: which events there are, which are whole, and which published split they belong to.

One row for each event and sensor; here those of VIL. `pct_missing` is a share from 0 to 1 in spite of its name, and all
published loaders keep 0 alone. The same id may stand in several rows. Times of splits are those of the middle frame:

    neurips       train < 2019-06-01 <= test                                  13 + 12 frames from 0, 12, 24
    earthformer   train < 2019-01-01 <= validation < 2019-06-01 <= test       25 frames, every 12th start
    diffcast      train < 2019-01-01 <= validation < 2019-10-01 <= test       25 frames, every 5th start
Sources: Veillette et al. (2020), NeurIPS; Gao et al. (2022), Earthformer, NeurIPS; Yu et al. (2024), DiffCast, CVPR;
the rules as in their released code.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.times import parse_time

N_FRAMES = 49
Row = TypeVar("Row")


@dataclass(frozen=True)
class SevirEvent:
    """One VIL row of the catalogue."""

    id: str
    file: str  # relative to the archive's folder `data`
    row: int  # in that file
    time: np.datetime64  # of the middle frame
    kind: str  # "" for events chosen at random
    lower_left: tuple[float, float]  # latitude, longitude
    missing: float  # share of the pixels, 0 to 1

    @property
    def is_whole(self) -> bool:
        """True where every pixel of every frame was seen."""
        return self.missing == 0.0


@dataclass(frozen=True)
class Split:
    """Rule of a published split; `validation` is None where there is none."""

    validation: np.datetime64 | None
    test: np.datetime64
    length: int  # frames of a sample
    stride: int  # between starts

    def part(self, time: np.datetime64) -> str:
        """train, validation or test."""
        if time >= self.test:
            return "test"
        return "validation" if self.validation is not None and time >= self.validation else "train"

    def starts(self, n_frames: int = N_FRAMES) -> list[int]:
        """First frames of the samples of an event."""
        return list(range(0, n_frames - self.length + 1, self.stride))


SPLITS: Mapping[str, Split] = {
    "neurips": Split(None, np.datetime64("2019-06-01T00:00:00", "s"), 25, 12),
    "earthformer": Split(np.datetime64("2019-01-01T00:00:00", "s"), np.datetime64("2019-06-01T00:00:00", "s"), 25, 12),
    "diffcast": Split(np.datetime64("2019-01-01T00:00:00", "s"), np.datetime64("2019-10-01T00:00:00", "s"), 25, 5),
}


def read_events(path: str | Path) -> list[SevirEvent]:
    """Every VIL row of CATALOG.csv (plain or .gz), in its order.

    Raises MissingInput when the file is absent, DataError, naming line and column, for a row that cannot be understood.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"SEVIR catalogue {path} does not exist; it is s3://sevir/CATALOG.csv")
    return [read_row(_event, path, line, row) for line, row in catalog_rows(path)]


def catalog_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of VIL of CATALOG.csv (plain or .gz) with their numbers; raises DataError when it cannot be read."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            for row in reader:
                if row.get("img_type") == "vil":
                    yield reader.line_num, row
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise DataError(
            f"SEVIR catalogue {path} cannot be read ({error!r}); it is damaged or cut short: fetch it again"
        ) from error


def read_row(make: Callable[[dict[str, str]], Row], path: Path, line: int, row: dict[str, str]) -> Row:
    """What a line means; raises DataError, naming it, for one that cannot be understood."""
    try:
        return make(row)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise DataError(
            f"SEVIR catalogue {path}, line {line}: {error!r}; expected the columns of s3://sevir/CATALOG.csv"
        ) from error


def select(
    events: Sequence[SevirEvent],
    *,
    split: str | None = None,
    part: str | None = None,
    kind: str | None = None,
    most_missing: float = 0.0,
) -> list[SevirEvent]:
    """Events of a part of a split, of a kind (a part of its name), with at most a share of missing pixels.

    Raises ConfigError for an unknown split or part.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; valid: {', '.join(SPLITS)}")
    if part is not None and (split is None or part not in ("train", "validation", "test")):
        raise ConfigError(f"part {part!r}: expected train, validation or test, of a split ({', '.join(SPLITS)})")
    return [
        event
        for event in events
        if event.missing <= most_missing
        and (part is None or SPLITS[str(split)].part(event.time) == part)
        and (kind is None or kind.lower() in event.kind.lower())
    ]


def _event(row: dict[str, str]) -> SevirEvent:
    return SevirEvent(
        id=row["id"],
        file=row["file_name"],
        row=int(row["file_index"]),
        time=parse_time(row["time_utc"]),
        kind=row["event_type"],
        lower_left=(float(row["llcrnrlat"]), float(row["llcrnrlon"])),
        missing=float(row["pct_missing"] or 1.0),
    )
