"""The list of faults a forecasting centre has to expect, which of them are drilled here, and what tests the others."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from cycler_da.drills import (
    arriving,
    computing,
    ending,
    failing,
    keeping,
    orchestrating,
    serving,
    storing,
    surrounding,
)
from cycler_da.drills.trials import FaultDrill
from cycler_da.errors import ConfigError

DRILLS = (
    FaultDrill("kill", 1, "kill -9 at a named point of a cycle", ending.killed_at_a_point, 60),
    FaultDrill("kill_instant", 1, "kill -9 at any instant", ending.killed_at_an_instant, 40),
    FaultDrill("kill_forced", 1, "kill -9 while a published cycle is replaced", ending.killed_while_forced, 15),
    FaultDrill("server", 2, "kill -9 of the orchestrator's server", orchestrating.server_killed, 6),
    FaultDrill("worker", 3, "kill -9 of a worker", computing.worker_killed, 8),
    FaultDrill("scheduler", 4, "kill -9 of the dask scheduler", computing.scheduler_killed, 6),
    FaultDrill("broken_file", 5, "a file of random bytes, cut short, of another grid", arriving.broken_file, 20),
    FaultDrill("flipped_bit", 6, "a flipped bit in an observation file", arriving.flipped_bit, 20),
    FaultDrill("bad_values", 7, "NaN, infinity, marks of missing values, gross errors", arriving.bad_values, 15),
    FaultDrill("lying_file", 8, "wrong grid, unit or sign with metadata that lie", arriving.lying_file, 20),
    FaultDrill("doubled", 9, "observations that come twice", arriving.doubled, 10),
    FaultDrill("another_time", 10, "observations of another time", arriving.another_time, 10),
    FaultDrill("nothing_arrives", 11, "no observation at all", arriving.nothing_arrives, 15),
    FaultDrill("disk", 13, "writes refused at a random size", ending.refused_by_the_disk, 20),
    FaultDrill("race", 14, "runs that race", ending.raced, 15),
    FaultDrill("cycle_gone", 15, "a deleted cycle", storing.cycle_is_gone, 10),
    FaultDrill("second_run", 16, "a second run, with another config or the same", storing.second_run, 10),
    FaultDrill("weights", 17, "weights that are damaged or of another network", surrounding.wrong_weights, 20),
    FaultDrill("stop", 21, "SIGTERM and Ctrl-C", ending.asked_to_stop, 20),
    FaultDrill("setting", 25, "unknown keys and wrong values", surrounding.wrong_setting, 11),
    FaultDrill("surroundings", 28, "time zone, locale, file mode, home", surrounding.other_surroundings, 10),
    FaultDrill("late", 12, "late files, a final pass, killed looks", serving.late_observations, 20),
    FaultDrill("blow_up", 18, "an analysis that is not finite or has no spread", failing.blown_up, 25),
    FaultDrill("outliers", 19, "one observation or one in twenty off by 20 errors", failing.outliers, 15),
    FaultDrill("slow_disk", 20, "writes that stall or fail once", keeping.slow_disk, 40),
    FaultDrill("paused", 21, "a run that is stopped and resumed beside another", serving.paused, 20),
    FaultDrill("readers", 22, "readers during publication", keeping.read_meanwhile, 10),
    FaultDrill("archive", 23, "an archive that fails or is killed", keeping.archived, 20),
    FaultDrill("backfill", 24, "a backfill beside the service", serving.backfilled, 10),
    FaultDrill("memory", 26, "no more memory", failing.short_of_memory, 20),
    FaultDrill("no_maps", 27, "maps or page that fail", failing.nothing_is_drawn, 8),
    FaultDrill("store_bit", 29, "a flipped bit in a published file", storing.bit_in_the_store, 60),
    FaultDrill("called_crashed", 30, "healthy runs that are called crashed", orchestrating.called_crashed, 6),
)

#: Parts of faults of the list that have no drill here, and what tests them.
NOT_DRILLED = {
    3: "loss of a GPU and of its memory: not tested",
    19: "a stream with a bias: the drift of the chi-square, `cycler bench passport`, tells of a spread, not of a bias",
    20: "name resolution: no part of Cycler asks for a name but the sinks of alerts, which are tried again",
    23: "an archive of a file that grows: published files never do",
}


def chosen(names: Sequence[str]) -> list[FaultDrill]:
    """Drills by name, all without names; raises ConfigError with the nearest valid name."""
    known = {one.name: one for one in DRILLS}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"unknown drill {name!r}; valid: {', '.join(known)}.{hint}")
    return [one for one in DRILLS if not names or one.name in names]
