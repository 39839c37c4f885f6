"""Benchmark of replay: are archived cycles the same bits when they are made again, and whoever makes the members?

The default two-layer QG experiment (64 x 64, 32 members, learned forecast model) runs for 30 cycles with two schemes,
without an orchestrator, in one process. Then

    replay        cycles drawn at random are made again from what their manifests name (`cycler replay --sample`):
                  cycles that differ in any value of any file, fields of members compared
    workers       the first cycles are run anew with threads, with 1, 2 and 4 worker processes, and with 2 of which
                  one is killed while it works and replaced: fields of members compared, and those that differ
    control       a bit of an archived field is flipped: cycles for which the replay tells it. A comparison that cannot
                  fail shows nothing

All on one machine: other machines and GPUs may differ in last digits (docs/decisions/0006). About 10 CPU minutes;
`--quick` 90 s.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.shares import share_row
from cycler_da.cycle_plan import run_plan
from cycler_da.drills.meanwhile import meanwhile
from cycler_da.errors import ConfigError
from cycler_da.experiment import open_experiment
from cycler_da.products.store import Store
from cycler_da.replay.again import replay as make_again
from cycler_da.replay.shadow import ArchivedCycle, sample_cycles
from cycler_da.tables.report import BenchResult, Row

SEED = 7
QG = Path("config/experiments/qg_default.yaml")
SCHEME = "localization_radius_cells: 4, weight_stride: 2, inflation: 1.02"
CHAINS = ("letkf", "interpolant_filter")

#: Name -> executor. The archive is made by the serial one.
WORKERS = {
    "2 threads": "{kind: threads, workers: 2}",
    "1 process": "{kind: local, workers: 1}",
    "2 processes": "{kind: local, workers: 2}",
    "4 processes": "{kind: local, workers: 4}",
}
KILLED = "2 processes, one killed"


@dataclass(frozen=True)
class Case:
    """A folder in which the experiment is run several times, on the same nature run and observation files."""

    folder: Path

    def run(self, name: str, *, cycles: int, executor: str = "{kind: serial}") -> Path:
        """Run the experiment below `name`; returns its folder."""
        changes = [f"root={self.folder / name}", f"nature.path={self.folder}/nature.nc", f"cycles.count={cycles}"]
        changes += [f"observations.insitu.folder={self.folder}/obs", f"executor={executor}", "plots=false"]
        changes += [f"chains=[{', '.join(f'{{name: {k}, scheme: {{kind: {k}, {SCHEME}}}}}' for k in CHAINS)}]"]
        with open_experiment(QG, changes) as experiment:
            run_plan(experiment)
            return experiment.folder

    def stores(self, experiment: Path) -> dict[str, Store]:
        """The stores of an experiment folder by chain."""
        return {chain: Store(experiment.parent, experiment.name, chain) for chain in CHAINS}


@benchmark("replay", summary="archived cycles made again bit for bit, and with 1, 2, 4 workers, one of them killed")
def replay(quick: bool, progress: Progress) -> BenchResult:
    """Run, replay, and run again with other workers."""
    cycles, n_replays, n_again, n_flips = (3, 3, 2, 1) if quick else (30, 50, 4, 10)
    names = ["2 processes"] if quick else list(WORKERS)
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder))
        progress(0, 3 + len(names), "run")
        archive = case.run("archive", cycles=cycles)
        progress(1, 3 + len(names), "replay")
        rows = list(_replays(sample_cycles(archive, None, count=n_replays, seed=SEED)))
        for number, name in enumerate(names):
            progress(2 + number, 3 + len(names), name)
            again = case.run(name.replace(" ", "_"), cycles=n_again, executor=WORKERS[name])
            rows += _members(case, name, archive, again)
        progress(2 + len(names), 3 + len(names), KILLED)
        rows += _members(case, KILLED, archive, _killed(case, n_again))
        rows += _control(sample_cycles(archive, None, count=n_flips, seed=SEED + 1))
    return BenchResult(
        name="replay",
        config={"file": str(QG), "cycles": cycles, "chains": list(CHAINS), "cycles made by other workers": n_again},
        seeds=(SEED,),
        rows=tuple(rows),
        notes=(
            "A field is one variable of one member in one file. A cycle counts as different when any variable of "
            "background, analysis, increment, feedback, carry or statistics has another bit.",
            "The worker that is killed dies by SIGKILL while a cycle is being made; another process takes its place.",
        ),
    )


def _replays(cycles: list[ArchivedCycle]) -> Iterator[Row]:
    for chain in CHAINS:
        found = [make_again(one) for one in cycles if one.chain == chain]
        yield share_row("replay", chain, "cycles that differ", sum(not one.is_same for one in found), len(found))
        yield Row("replay", chain, "fields compared", float(sum(one.n_members for one in found)), n=len(found))


def _members(case: Case, name: str, archive: Path, again: Path) -> Iterator[Row]:
    """Compare the hashes of all members of all fields with those of the archive."""
    before, now = case.stores(archive), case.stores(again)
    for chain in CHAINS:
        compared = different = 0
        times = now[chain].complete_cycles()
        for time in times:
            recorded = _fields(before[chain], time)
            found = _fields(now[chain], time)
            compared += len(recorded)
            different += sum(found.get(key) != value for key, value in recorded.items())
        case_name = f"workers: {name}"
        yield Row(case_name, chain, "fields compared", float(compared), n=len(times))
        yield Row(case_name, chain, "fields that differ", float(different), n=len(times))


def _fields(store: Store, time: np.datetime64) -> dict[tuple[str, ...], Any]:
    arrays = store.manifest(time)["arrays"]
    return {
        (file, name, member): value
        for file, variables in arrays.items()
        for name, values in variables.items()
        for member, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def _killed(case: Case, cycles: int) -> Path:
    """Run with two worker processes, one of which is killed while the second cycle after the start is made."""
    struck: list[int] = []
    cycles_made, work = (f"killed/*/{CHAINS[0]}/{name}/*" for name in ("cycles", "work"))

    def is_second() -> bool:
        return len(list(case.folder.glob(cycles_made))) > 1 and any(case.folder.glob(work))

    def strike() -> None:
        victim = random.Random(SEED).choice(_at_work())
        struck.append(victim.pid or 0)
        victim.kill()

    with meanwhile(once=is_second, after=0.0, strike=strike) as failures:
        experiment = case.run("killed", cycles=cycles, executor=WORKERS["2 processes"])
    if failures or not struck:
        raise ConfigError(f"no worker was killed: {failures or 'the run had ended before'}; run the benchmark again")
    return experiment


def _at_work() -> list[multiprocessing.process.BaseProcess]:
    """Worker processes of this process that are alive."""
    return [child for child in multiprocessing.active_children() if "Dask" in child.name]


def _control(cycles: list[ArchivedCycle]) -> Iterator[Row]:
    told = 0
    for archived in cycles:
        path = archived.folder / "analysis.nc"
        whole = path.read_bytes()
        content, draw = bytearray(whole), random.Random(f"{SEED}/{archived.name}")
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        found = make_again(archived)
        told += bool(found.damaged) and any("analysis.nc" in text for text in found.damaged)
        path.write_bytes(whole)
    yield share_row("control", "flipped bit", "told", told, len(cycles))
