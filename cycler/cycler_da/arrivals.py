"""Arrivals: whether the observations of a cycle have come, how long it waits for them, and what came late.

With valid time t, data time `now` and the cut-offs of the streams (after the valid time):

    early pass   runs when now >= t and every stream has its file or now >= t + cutoff; a file that is
                 absent then counts as missing (a stream that is `required` stops the cycle instead)
    final pass   runs once, when now >= t + final, the longest of the streams: as a revision, if a file or the
                 cycle before is not what the early pass used; else the early pass is declared final

The next background starts from whatever is published when it is made. So early cycles follow the newest final
ones, and the final cycles form a chain of their own: each is made from the final one before it (`agenda.delivery`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.clock import Clock
from cycler_da.errors import MissingInput, MissingProduct
from cycler_da.obs.files import find_obs_file
from cycler_da.products.failure import clear_failure
from cycler_da.products.manifest import SUCCESS, read_manifest
from cycler_da.products.provenance import sha256_file
from cycler_da.products.store import Store
from cycler_da.setting import Setting, Stream
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)

EARLY, FINAL = "early", "final"


@dataclass(frozen=True)
class Arrivals:
    """The rules of one experiment at the data time of its clock."""

    setting: Setting
    clock: Clock

    def missing(self, time: np.datetime64) -> list[Stream]:
        """Streams whose file of this cycle is not there."""
        return [stream for stream in self.setting.streams if _file_of(stream, time) is None]

    def runs_at(self, time: np.datetime64) -> np.datetime64:
        """Data time from which the early pass may run, as the files are now."""
        waits = [time + stream.cutoff for stream in self.missing(time)]
        return max([time, *waits])

    def may_run(self, time: np.datetime64, *, is_start: bool) -> bool:
        """Tell whether a cycle may run now; a start has no observations to wait for."""
        return bool(self.clock.now() >= (time if is_start else self.runs_at(time)))

    def final_at(self, time: np.datetime64) -> np.datetime64:
        """Data time from which a cycle is final; its valid time where no stream has a final pass."""
        waits = [time + stream.final for stream in self.setting.streams if stream.final is not None]
        return max([time, *waits])

    def delivery(self, time: np.datetime64) -> str:
        """Which pass a cycle made now belongs to."""
        return FINAL if self.clock.now() >= self.final_at(time) else EARLY

    def due_finals(
        self, store: Store, *, previous: Mapping[np.datetime64, np.datetime64 | None]
    ) -> list[np.datetime64]:
        """Complete cycles whose final pass is due and would differ, oldest first.

        One that would not differ is declared final in the store, once the cycle before it is final. A cycle after one
        that is made again is made again, too, for its background differs. One that another process replaces just now is
        left to that process.
        """
        found: list[np.datetime64] = []
        if all(stream.final is None for stream in self.setting.streams):
            return found
        for time in store.complete_cycles():
            if time not in previous or self.delivery(time) == EARLY:
                continue
            try:
                if is_final(store, time):
                    continue
                is_due = previous[time] in found or self.differs(store, time, previous[time])
            except (FileNotFoundError, MissingProduct) as error:
                log.info("cycle=%s is being replaced by another process: %s", time_stamp(time), error)
                continue
            if is_due:
                found.append(time)
            elif follows_final(store, previous[time]):
                store.declare_final(time)
                clear_failure(store.chain_folder, done=time)
        return found

    def differs(self, store: Store, time: np.datetime64, previous: np.datetime64 | None) -> bool:
        """Tell whether observations or the cycle before are not what a published cycle was made from.

        A file that was used and has gone since is no news: the cycle keeps its copy.
        """
        inputs: Mapping[str, Any] = store.manifest(time)["inputs"]
        link = inputs["previous_manifest"]
        if link is not None and previous is not None and store.link_to(previous).manifest_sha256 != link["sha256"]:
            return True
        used = inputs["observations"]
        paths = {stream.name: _file_of(stream, time) for stream in self.setting.streams}
        return any(path is not None and _differs(path, used.get(name)) for name, path in paths.items())


def is_final(store: Store, time: np.datetime64) -> bool:
    """Tell whether no further pass of a published cycle will come."""
    folder = store.cycle_folder(time)
    if _delivery_of(folder, (folder / SUCCESS).stat().st_mtime_ns) == FINAL:
        return True
    return store.is_declared_final(time)


def follows_final(store: Store, previous: np.datetime64 | None) -> bool:
    """Tell whether the cycle before stays as it is: it is final, or there is none, or it has gone or is damaged."""
    if previous is None or not store.is_complete(previous):
        return True
    try:
        return is_final(store, previous)
    except (FileNotFoundError, MissingProduct):
        return True


@lru_cache(maxsize=100_000)
def _delivery_of(folder: Path, published: int) -> str:
    """The pass of a publication; it is remembered, for a service asks about every cycle in every look."""
    return str(read_manifest(folder)["facts"].get("delivery", FINAL))


def _file_of(stream: Stream, time: np.datetime64) -> Path | None:
    """File of a stream and cycle; a folder that has gone (a disk, a network) brings as little as an empty one."""
    try:
        return find_obs_file(stream.folder, stream.name, time_stamp(time))
    except MissingInput:
        return None


def _differs(path: Path, used: str | None) -> bool:
    try:
        return sha256_file(path) != used
    except OSError:
        return False  # a file that cannot be read brings nothing
