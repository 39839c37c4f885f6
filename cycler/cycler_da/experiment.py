"""An experiment as a plan: which cycles are pending, how one is opened, and what closes it.

Preparation (nature run, synthetic observation files) is done once, before the first cycle, and only for what
is missing. The closing table merges the score sums of all cycles after the spin-up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from cycler_da.agenda import Agenda, Period
from cycler_da.arrivals import Arrivals
from cycler_da.clock import Clock, WallClock
from cycler_da.cold_starts import read_cold_starts
from cycler_da.cycle import STAGES, CycleWork
from cycler_da.errors import LockedCycle, MissingInput
from cycler_da.executor import Executor
from cycler_da.nature import Nature
from cycler_da.obs.files import require_folder
from cycler_da.opened_cycle import CONFIG, OpenedCycle, refresh_page
from cycler_da.origin import require_same_origin
from cycler_da.preparation import Say, draw_stream, open_or_make_nature
from cycler_da.products.atomic import write_atomically
from cycler_da.products.failure import clear_failure_of, write_failure
from cycler_da.products.store import Store, require_space
from cycler_da.setting import Setting, Stream, load_setting
from cycler_da.tables.closing import closing_markdown, closing_rows
from cycler_da.tables.innovations import innovation_rows
from cycler_da.tables.report import Row, pivot
from cycler_da.times import time_stamp
from cycler_da.verification.sums import ScoreSums

log = logging.getLogger(__name__)

SCORES = "diag/scores.json"

PREPARE = "prepare"  # what comes before all stages, in notes of failures

#: Cycles of a chain for which a look of a service must have space; what it makes later, retention may make room for.
SERVED_AHEAD = 8


class Experiment:
    """All chains of one config; implements `cycle_plan.ExperimentPlan` and `ServedPlan`."""

    stages = tuple(STAGES)

    def __init__(
        self,
        setting: Setting,
        *,
        force: bool = False,
        clock: Clock | None = None,
        period: Period | None = None,
        is_served: bool = False,
    ) -> None:
        # One thread, as in the workers: the bytes of a member must not depend on where it was computed.
        torch.set_num_threads(1)
        self.setting = setting
        self.name = setting.config.name
        self.folder = setting.root / setting.config.name
        self.chains: Sequence[str] = tuple(chain.name for chain in setting.chains)
        self._clock, self._period, self._force = clock or WallClock(), period, force
        self._is_served = is_served
        self._forced_done: set[tuple[str, str]] = set()
        self._executor: Executor | None = None
        self._nature: Nature | None = None

    def store(self, chain: str) -> Store:
        """The store of a chain."""
        return Store(self.setting.root, self.name, chain)

    def prepare(self, say: Say = lambda text: None) -> None:
        """Make what the config asks for and is missing: nature run, observation files; check what is there.

        Raises ConfigError or WeightsMismatch when the store holds cycles of another config or model, MissingInput when
        the folder of a stream is absent: that is a wrong path, while one file that is absent degrades one cycle. A
        service that has cycles goes on: for it the folder has gone, and its files are missing.
        """
        for chain in self.setting.chains:
            made_again = self.pending(chain.name) if self._force else ()
            require_same_origin(self.setting, chain, self.store(chain.name), made_again=set(made_again))
        self._tell_notes()
        self._nature = open_or_make_nature(self.setting, say)
        for stream in self.setting.streams:
            if stream.network is not None:
                draw_stream(self.setting, stream, self._nature, say=say)
            elif any(self.pending(chain) for chain in self.chains):
                self._require_folder(stream)
        require_space(self.setting.root, self._expected_bytes())
        notes = "".join(f"# note: {note}\n" for note in self.setting.notes)
        _write_text(self.folder / CONFIG, notes + yaml.safe_dump(self.setting.config.resolved(), sort_keys=False))

    def _tell_notes(self) -> None:
        """Log what `cycler check` notes; a service says it before its first cycle alone, not with every look."""
        if self._is_served and any(self.store(chain).latest() is not None for chain in self.chains):
            return
        for note in self.setting.notes:
            log.warning("event=config_note text=%s", note)

    def _require_folder(self, stream: Stream) -> None:
        try:
            require_folder(stream.folder, stream.name)
        except MissingInput as error:
            if not self._is_served or all(self.store(chain).latest() is None for chain in self.chains):
                raise
            log.warning("event=folder_absent stream=%s text=%s", stream.name, error)

    @property
    def agenda(self) -> Agenda:
        """What there is to do, by the clock and the cold starts of this moment."""
        cold_starts = tuple(read_cold_starts(self.folder))
        return Agenda(Arrivals(self.setting, self._clock), cold_starts, self._period, self._force)

    def pending(self, chain: str) -> list[np.datetime64]:
        """Valid times that are not complete or have their final pass due, oldest first; with force all of them."""
        return self.agenda.pending(self.store(chain))

    def ready(self, chain: str) -> list[np.datetime64]:
        """Pending cycles up to the first one that still waits for an observation file."""
        return self.agenda.ready(self.store(chain))

    def is_final_pass(self, chain: str, time: np.datetime64) -> bool:
        """Tell whether a pending cycle is published and stays so until it is made again; never with force."""
        return not self._force and self.store(chain).is_complete(time)

    @contextmanager
    def open_cycle(self, chain: str, time: np.datetime64) -> Iterator[OpenedCycle]:
        """Take the lock of a cycle; what goes wrong before its first stage is noted as a failure of the chain."""
        is_final_pass = self.is_final_pass(chain, time)
        with ExitStack() as stack:
            try:
                opened = self._opened(stack, chain, time)
            except LockedCycle:
                raise  # another run is at work, which is no failure
            except Exception as error:
                write_failure(self.store(chain).chain_folder, time, "open", error, is_final_pass=is_final_pass)
                raise
            yield opened

    def _opened(self, stack: ExitStack, chain: str, time: np.datetime64) -> OpenedCycle:
        store, setting, agenda = self.store(chain), self.setting, self.agenda
        lock = stack.enter_context(store.lock(time))
        is_forced = self._force and (chain, time_stamp(time)) not in self._forced_done
        is_complete = store.is_complete(time)
        repeat = is_forced or (is_complete and agenda.is_final_pass(store, time))
        work = CycleWork(
            setting,
            setting.chain(chain),
            time,
            store,
            lock,
            self._workers(),
            self._nature,
            replaces=is_complete and repeat,
            is_final_pass=is_complete and not is_forced,
            delivery=agenda.delivery(store, time),
            is_cold_start=time in agenda.cold_starts,
        )
        if is_forced:
            store.discard_work(time)
            self._forced_done.add((chain, time_stamp(time)))
        return OpenedCycle(work, is_complete and not repeat, is_backfill=self._period is not None)

    def note_failure(self, error: Exception) -> None:
        """Note for every chain that the experiment could not be prepared, at the cycle that it would make next."""
        for chain in self.chains:
            store = self.store(chain)
            latest = store.latest()
            ahead = [time for time in self.setting.valid_times if latest is None or time > latest]
            write_failure(store.chain_folder, ahead[0] if ahead else self.setting.valid_times[-1], PREPARE, error)

    def forget_failure(self) -> None:
        """The experiment could be prepared: an earlier failure of that is over."""
        for chain in self.chains:
            clear_failure_of(PREPARE, self.store(chain).chain_folder)

    def finish_experiment(self) -> dict[str, Any]:
        """Write the closing table and the page, where they do not stand already.

        A served experiment does not close: its page has a table, and the cost of a look must not grow with its age.
        """
        if self._is_served:
            return {"table": [], **refresh_page(self.folder)}
        rows = self.closing_rows()
        text = closing_markdown(rows)
        _write_text(self.folder / "scores.md", text + "\n")
        innovations = innovation_rows({chain: self.counted_cycles(chain) for chain in self.chains})
        _write_text(self.folder / "innovations.md", pivot(innovations) + "\n")
        table = [{"case": r.case, "method": r.method, "metric": r.metric, "value": r.value} for r in rows]
        return {"table": table, "markdown": text, **refresh_page(self.folder)}

    def closing_rows(self) -> tuple[Row, ...]:
        """Scores of every chain after the spin-up, with persistence from the first chain."""
        parts: dict[str, dict[str, list[ScoreSums]]] = {}
        for chain in self.chains:
            for kind, sums in self._chain_sums(chain).items():
                if kind != "persistence":
                    parts.setdefault(chain, {})[kind] = sums
                elif chain == self.chains[0]:
                    parts["persistence"] = {"background": sums}
        return closing_rows(parts, variable=self.setting.config.verification.headline)

    def close(self) -> None:
        """Give the workers back."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def counted_cycles(self, chain: str) -> list[Path]:
        """Folders of the complete cycles of a chain after the spin-up."""
        store = self.store(chain)
        return [store.cycle_folder(time) for time in self._counted_times(store)]

    def _counted_times(self, store: Store) -> list[np.datetime64]:
        spin_up = self.setting.config.verification.spin_up
        return [time for time in self.setting.valid_times[1 + spin_up :] if store.is_complete(time)]

    def _chain_sums(self, chain: str) -> dict[str, list[ScoreSums]]:
        """Sums of all counted cycles whose file of them is kept; raises MissingProduct for a damaged one."""
        store = self.store(chain)
        sums: dict[str, list[ScoreSums]] = {}
        for time in self._counted_times(store):
            if (store.cycle_folder(time) / SCORES).is_file():
                for kind, part in json.loads(store.product(time, SCORES).read_text()).items():
                    sums.setdefault(kind, []).append(ScoreSums.from_json(part))
        return sums

    def _workers(self) -> Executor:
        if self._executor is None:
            self._executor = self.setting.executor.build()  # type: ignore[attr-defined]
        return self._executor

    def _expected_bytes(self) -> int:
        """Bytes of the cycles to be made; a service counts those that are due, and some of them only."""
        state = 4 * int(np.prod(self.setting.layout.state_shape))
        return state * sum(
            self._n_expected(chain) * (2 * self.setting.chain(chain).members + 8) for chain in self.chains
        )

    def _n_expected(self, chain: str) -> int:
        pending = self.pending(chain)
        if not self._is_served:
            return len(pending)
        now = self._clock.now()
        return min(len([time for time in pending if time <= now]), SERVED_AHEAD)


def open_experiment(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    force: bool = False,
    period: Period | None = None,
    is_served: bool = False,
    say: Say = lambda text: None,
) -> Experiment:
    """Load a config, prepare the experiment and return its plan."""
    experiment = Experiment(load_setting(path, overrides), force=force, period=period, is_served=is_served)
    try:
        experiment.prepare(say)
    except Exception as error:
        if is_served:
            experiment.note_failure(error)
        raise
    experiment.forget_failure()
    return experiment


def load_plan(config_path: str, overrides: Sequence[str] = ()) -> Experiment:
    """Make the plan of a config file, which closes the experiment at its end."""
    return open_experiment(Path(config_path), overrides, say=log.info)


def load_served_plan(config_path: str, overrides: Sequence[str] = ()) -> Experiment:
    """Make the plan of a config file for one look of a service; what a scheduled flow calls."""
    return open_experiment(Path(config_path), overrides, is_served=True, say=log.info)


def table_of(facts: Mapping[str, Any]) -> tuple[Row, ...]:
    """Rows of a closing table from the facts of a finished experiment."""
    return tuple(Row(r["case"], r["method"], r["metric"], r["value"]) for r in facts.get("table", []))


def _write_text(path: Path, text: str) -> None:
    """Write a text file whole; one that says the same already is left alone."""
    if path.is_file() and path.read_text() == text:
        return

    def write(private: Path) -> None:
        private.write_text(text)

    write_atomically(path, write)
