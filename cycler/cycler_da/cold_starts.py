"""Cold starts: times at which an experiment begins anew, without the analyses before.

They are written down in the folder of the experiment, so that a command without the switch knows them too: such
a cycle has no previous one, and cycles before the newest cold start are run only where they are asked for
(`cycler run --from --to`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cycler_da.errors import ConfigError, DataError
from cycler_da.products.atomic import write_json_atomically
from cycler_da.products.store import Store
from cycler_da.times import iso_time, parse_time

log = logging.getLogger(__name__)

FILE_NAME = "cold_starts.json"


def read_cold_starts(experiment_folder: Path) -> list[np.datetime64]:
    """Times of all cold starts, oldest first; raises DataError for a damaged file."""
    path = experiment_folder / FILE_NAME
    try:
        return sorted(parse_time(text) for text in json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):  # a root that is no folder shows itself when it is written to
        return []
    except (OSError, ValueError, TypeError, ConfigError) as error:
        raise DataError(f"{path} cannot be read ({error}); it is a list of ISO times, write it anew") from error


def add_cold_start(
    experiment_folder: Path, time: np.datetime64, *, valid_times: np.ndarray, stores: Sequence[Store] = ()
) -> None:
    """Write a cold start down; once is enough.

    Raises ConfigError unless it is the valid time of a cycle that none of the chains in `stores` has made: what is
    complete is not made again, so the cold start would be no start of anything.
    """
    if time not in valid_times:
        nearest = valid_times[np.argmin(np.abs(valid_times - time))]
        raise ConfigError(f"cold start at {iso_time(time)}: no cycle is valid then; the nearest is {iso_time(nearest)}")
    known = read_cold_starts(experiment_folder)
    if time in known:
        return
    _require_not_made(stores, time, valid_times)
    experiment_folder.mkdir(parents=True, exist_ok=True)
    times = [iso_time(one) for one in sorted([*known, time])]
    write_json_atomically(experiment_folder / FILE_NAME, times)
    log.warning("experiment=%s cold_start=%s earlier cycles are not caught up", experiment_folder.name, iso_time(time))


def _require_not_made(stores: Sequence[Store], time: np.datetime64, valid_times: np.ndarray) -> None:
    made = [store.chain for store in stores if store.is_complete(time)]
    if not made:
        return
    newest = max(latest for store in stores if (latest := store.latest()) is not None)
    later = valid_times[valid_times > newest]
    advice = f"the first time that can be taken is {iso_time(later[0])}" if len(later) else "no later cycle is left"
    raise ConfigError(
        f"cold start at {iso_time(time)}: chain {made[0]} has made the cycle of {iso_time(time)}, and what is "
        f"complete is not made again; {advice}"
    )
