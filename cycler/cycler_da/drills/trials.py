"""What comes of a drill: trials, each broken at a random point, and the counts that are reported.

recovered   the same command (or the next one, where an operator must act first) ended as it should, with the bytes
            of a run that nothing disturbed, or with those of the run that the rule names (without the bad file, say)
wrong       something was published that is neither: this must never happen
cycles      commands until everything was as it should be
lost        complete cycles that were there before and are not any more
"""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cycler_da.drills import system as tiny
from cycler_da.drills.orchestrator import Orchestrator, make_orchestrator
from cycler_da.layout import Layout
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.times import time_stamp

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of one trial."""

    recovered: bool
    wrong: bool = False
    cycles: int = 1
    lost: int = 0
    told: str = ""  # what happened when it is not as it should be


Trial = Callable[["Ground", random.Random], Outcome]


@dataclass(frozen=True)
class FaultDrill:
    """A fault, and how one trial of it goes; `number` is that of the list in docs/faults.md."""

    name: str
    number: int
    fault: str
    trial: Trial
    trials: int  # how many are run where nothing else is asked for


@dataclass(frozen=True)
class Ground:
    """Where drills take place: the shared system, a server of commands, and what undisturbed runs give."""

    system: tiny.TinySystem
    server: tiny.CommandServer
    room: Path

    @property
    def layout(self) -> Layout:
        """Layout of the small system."""
        return TwoLayerQGSpec(size=tiny.SIZE).layout()

    @contextmanager
    def drill(self) -> Iterator[tiny.Drill]:
        """A folder of its own with a copy of the observations, removed at the end."""
        folder = Path(tempfile.mkdtemp(dir=self.room))
        try:
            tiny.copy_observations(self.system, folder)
            yield tiny.Drill(self.system, self.server, folder, folder / "store")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def undisturbed(self) -> tiny.Hashes:
        """Hashes of all members of a run that nothing disturbed."""
        return self._run(lambda drill: None, code=0)

    @cached_property
    def without_insitu(self) -> tiny.Hashes:
        """The first cycles of the run for which the file of one stream never came."""
        return self._run(lambda drill: drill.obs_file().unlink(), "cycles.count=1", code=3)

    @cached_property
    def cold_started(self) -> tiny.Hashes:
        """What a service makes that begins anew at the first cycle."""
        with self.drill() as drill:
            drill.cold_start()
            result = drill.served.run_together([drill.look(tiny.LATER)])[0]
            if result.code != 3:
                raise RuntimeError(f"the undisturbed cold start ended with {result.code}: {result.output}")
            return drill.hashes()

    @cached_property
    def orchestrator(self) -> Orchestrator:
        """A Prefect server, started with its first use."""
        server = make_orchestrator(self.room / "prefect")
        server.start()
        return server

    def close(self) -> None:
        """End what was started."""
        if "orchestrator" in self.__dict__:
            self.orchestrator.kill()

    def first(self, hashes: tiny.Hashes, count: int = 2) -> tiny.Hashes:
        """The start and the first cycles."""
        return dict(list(hashes.items())[:count])

    def _run(self, prepare: Callable[[tiny.Drill], object], *settings: str, code: int) -> tiny.Hashes:
        with self.drill() as drill:
            prepare(drill)
            result = drill.run(*settings)
            if result.code != code:
                raise RuntimeError(f"the undisturbed run ended with {result.code}, expected {code}: {result.output}")
            return drill.hashes()


@contextmanager
def open_ground() -> Iterator[Ground]:
    """Make the system and start the server; all of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="cycler-drills-") as folder:
        server = tiny.CommandServer()
        try:
            (Path(folder) / "system").mkdir()
            with closing(Ground(tiny.make_system(Path(folder) / "system"), server, Path(folder))) as ground:
                yield ground
        finally:
            server.close()


def judged(
    drill: tiny.Drill, result: tiny.Result, expected: tiny.Hashes, *, code: int = 0, cycles: int = 1, told: str = ""
) -> Outcome:
    """Compare a store with the hashes that it must have; all complete cycles must be among them, and whole."""
    found = drill.hashes()
    strange = {stamp for stamp, arrays in found.items() if expected.get(stamp) != arrays}
    problems = drill.store().verify()
    is_wrong = bool(strange) or bool(problems)
    is_as_expected = result.code == code and found == expected and not problems
    text = "" if is_as_expected else f"{told} code {result.code}, expected {code}; {problems or sorted(strange)}"
    if not is_as_expected and result.code != code:
        text += f"; {result.end}"
    return Outcome(is_as_expected, is_wrong, cycles, told=text)


def is_subset(drill: tiny.Drill, expected: tiny.Hashes) -> bool:
    """True when every complete cycle is one that an undisturbed run gives."""
    return all(expected.get(stamp) == arrays for stamp, arrays in drill.hashes().items())


def run_trials(
    drills: Sequence[FaultDrill], ground: Ground, *, trials: int | None, seed: int, on_trial: Callable[[str], None]
) -> dict[str, list[Outcome]]:
    """Run all trials of all drills; each has its own random numbers, by seed, name and number.

    A trial that ends with an error of its own has not shown a recovery, and the others go on.
    """
    found: dict[str, list[Outcome]] = {}
    for one in drills:
        for number in range(trials or one.trials):
            on_trial(one.name)
            found.setdefault(one.name, []).append(_outcome(one, ground, random.Random(f"{seed}/{one.name}/{number}")))
    return found


def _outcome(one: FaultDrill, ground: Ground, draw: random.Random) -> Outcome:
    try:
        return one.trial(ground, draw)
    except Exception as error:
        log.exception("drill %s", one.name)
        return Outcome(False, told=f"the trial itself ended with {type(error).__name__}: {error}")


def stamp_of(cycle: int) -> str:
    """Name of a cycle of the small system."""
    return time_stamp(tiny.TIMES[cycle])
