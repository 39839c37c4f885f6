"""Benchmark `letkf_speed`: time and memory of a LETKF analysis, beside DAPPER's, and how they grow.

First part: two-layer fields of 64 x 64 points, 40 members, 400 observations of single values, half-width 4 cells. Both
programs make the same analysis; the largest difference of any member at any point is in the table. The programs take
turns, and a ratio is the median over turns, so that other work on the machine slows both; processor seconds of one
process do not depend on it, seconds of the clock do. "every second point": ours with weights on every second
point and interpolation, DAPPER's with one analysis for each square of 2 x 2 points.

Second part: members, observations or grid points are multiplied, each case in a process of its own whose peak of
resident memory is read at its end (it includes Python and torch, row "nothing"). The largest case (512 x 512, 80
members, 100 000 observations) is also done by two worker processes that are killed above 4 GiB.

States are white noise: the time does not depend on them. Takes 10 minutes of two cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from cycler_da.bench import letkf_peer, memory
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.executor import LocalExecutorSpec, ThreadsExecutorSpec
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.schemes.ensemble.ensemble_transform import LocalTransform, transform_weights
from cycler_da.schemes.ensemble.mapper import Mapper, one_by_one
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

SEED = 20261126
ERROR_VARIANCE = 0.1
SECONDS, CPU_SECONDS, MEMORY, DIFFERENCE = "seconds", "processor seconds", "peak memory, GB", "largest difference"
RATIO, CPU_RATIO = "DAPPER's seconds / these", "DAPPER's processor seconds / these"
OURS, PEER, ALONE = "cycler", "DAPPER", "cycler, in a fresh process"


class Took(NamedTuple):
    """Seconds of the clock, and of this process on a processor."""

    clock: float
    cpu: float


@dataclass(frozen=True)
class Case:
    """One analysis."""

    n: int = 64  # points along each side
    members: int = 40
    observations: int = 400
    layers: int = 2
    half_width: float = 4.0  # cells
    stride: int = 1
    least_taper: float = letkf_peer.LEAST_TAPER

    @property
    def name(self) -> str:
        """Name in the table."""
        stride = "" if self.stride == 1 else ", every second point"
        return f"{self.n} x {self.n}, {self.members} members, {self.observations} obs{stride}"

    def states(self) -> Float[Tensor, "member layer y x"]:
        """White noise, float32."""
        shape = (self.layers, self.n, self.n)
        return Noise(SEED).normal("states", shape, members=range(self.members), dtype=torch.float32)

    def cells(self) -> np.ndarray:
        """Observed values: different ones, as (layer, y, x)."""
        shape = (self.layers, self.n, self.n)
        chosen = Noise(SEED).generator("cells").choice(np.prod(shape), self.observations, replace=False)
        return np.stack(np.unravel_index(chosen, shape), axis=1)

    def values(self) -> Float[Tensor, "obs"]:
        """Observed values."""
        return Noise(SEED).shared_normal("values", (self.observations,), dtype=torch.float64)

    def transform(self, states: Float[Tensor, "member layer y x"]) -> LocalTransform:
        """Our analysis up to the point where members are moved."""
        layer, y, x = torch.from_numpy(self.cells()).unbind(1)
        return transform_weights(
            states[:, layer, y, x].to(torch.float64),
            self.values(),
            error_variance=torch.full((self.observations,), ERROR_VARIANCE, dtype=torch.float64),
            positions=torch.stack([y, x], dim=1).to(torch.float64),
            layout=self._layout(),
            radius=self.half_width,
            weight_stride=self.stride,
            least_taper=self.least_taper,
        )

    def peer(self, states: Float[Tensor, "member layer y x"]) -> letkf_peer.PeerAnalysis:
        """DAPPER's analysis."""
        members = states.to(torch.float64).numpy()
        return letkf_peer.PeerAnalysis(
            members, self.cells(), self.values().numpy(), ERROR_VARIANCE, self.half_width, self.stride
        )

    def _layout(self) -> Layout:
        axes = tuple(Axis(name, self.n, periodic=True) for name in ("y", "x"))
        variables = tuple(Variable(f"q{i + 1}", "1", f"layer {i + 1}") for i in range(self.layers))
        return Layout("benchmark", variables, Grid(axes), np.timedelta64(3600, "s"))


BASE = Case()
LARGE = Case(n=512, members=80, observations=100_000, layers=1, stride=2, least_taper=0.0)


@benchmark("letkf_speed", summary="time and memory of the LETKF, beside DAPPER's, and their growth")
def letkf_speed(quick: bool, progress: Progress) -> BenchResult:
    """Time everything."""
    turns = 2 if quick else 7
    growth = grown(BASE, factors=(2,) if quick else (4,)) + ([] if quick else [LARGE])
    steps = len(growth) + 3
    rows: list[Row] = []
    for i_case, case in enumerate((BASE, replace(BASE, stride=2))):
        progress(i_case, steps, f"{case.name}, beside DAPPER")
        rows += compared(case, turns=turns)
    for i_case, case in enumerate(growth):
        progress(2 + i_case, steps, case.name)
        seconds, largest = _apart(measure, case)
        rows += [Row(case.name, ALONE, CPU_SECONDS, seconds), Row(case.name, ALONE, MEMORY, largest)]
    rows.append(Row("nothing", ALONE, MEMORY, _apart(peak_memory, None)))
    if not quick:
        progress(steps - 1, steps, f"{LARGE.name}, 2 workers")
        rows += by_workers(LARGE, n_workers=2)
    config = {"base": asdict(BASE), "large": asdict(LARGE), "turns": turns}
    return BenchResult("letkf_speed", config, (SEED,), tuple(rows), _notes())


def compared(case: Case, *, turns: int) -> list[Row]:
    """Ours and DAPPER's in turns, each with one process and with two."""
    states = case.states()
    with ExitStack() as stack:
        ways: dict[str, Callable[[], Any]] = {}
        workers = stack.enter_context(LocalExecutorSpec(workers=2, memory_limit="0").build())
        threads = stack.enter_context(ThreadsExecutorSpec(workers=2).build())
        ways[OURS] = partial(_analyse, case, states, one_by_one)
        ways[f"{OURS}, 2 threads"] = partial(_analyse, case, states, threads.map)
        ways[f"{OURS}, 2 workers"] = partial(_analyse, case, states, workers.map)
        if letkf_peer.is_installed():
            peer = case.peer(states).prepare()
            pool = stack.enter_context(letkf_peer.process_map(2))
            ways[PEER] = partial(peer, map)
            ways[f"{PEER}, 2 processes"] = partial(peer, pool)
        found = {name: way() for name, way in ways.items()}  # also warms up
        turns_of: dict[str, list[Took]] = {name: [] for name in ways}
        for _ in range(turns):
            for name, way in ways.items():
                turns_of[name].append(_time(way))
    rows = []
    for name, taken in turns_of.items():
        rows.append(Row(case.name, name, SECONDS, median(took.clock for took in taken), n=turns))
        if name in (OURS, PEER):
            rows.append(Row(case.name, name, CPU_SECONDS, median(took.cpu for took in taken), n=turns))
    return rows + (_beside_peer(case, found, turns_of) if PEER in found else [])


def _beside_peer(case: Case, found: Mapping[str, Any], turns_of: Mapping[str, list[Took]]) -> list[Row]:
    """Ratios, medians over turns, and the largest difference of the two analyses."""
    n, parallel, rows = len(turns_of[OURS]), f"{OURS}, 2 workers", []
    threads = f"{OURS}, 2 threads"
    cpu = [theirs.cpu / mine.cpu for mine, theirs in zip(turns_of[OURS], turns_of[PEER], strict=True)]
    rows.append(Row(case.name, f"{OURS} against {PEER}", CPU_RATIO, median(cpu), n=n))
    for ours, peer in ((OURS, PEER), (threads, PEER), (parallel, PEER), (parallel, f"{PEER}, 2 processes")):
        ratios = [theirs.clock / mine.clock for mine, theirs in zip(turns_of[ours], turns_of[peer], strict=True)]
        rows.append(Row(case.name, f"{ours} against {peer}", RATIO, median(ratios), n=n))
    difference = np.abs(found[OURS].to(torch.float64).numpy() - found[PEER]).max()
    return [*rows, Row(case.name, f"{OURS} against {PEER}", DIFFERENCE, float(difference))]


def grown(base: Case, *, factors: tuple[int, ...]) -> list[Case]:
    """The base with more members, with more observations, and with more points at the same density of observations."""
    cases = [base]
    cases += [replace(base, members=base.members * factor) for factor in factors]
    cases += [replace(base, observations=base.observations * factor) for factor in factors]
    cases += [replace(base, n=base.n * factor, observations=base.observations * factor**2) for factor in factors]
    return cases


def measure(case: Case) -> tuple[float, float]:
    """Processor seconds and peak memory of one analysis on one thread of this process."""
    torch.set_num_threads(1)
    states = case.states()
    return _time(partial(_analyse, case, states, one_by_one)).cpu, peak_memory(None)


def by_workers(case: Case, *, n_workers: int) -> list[Row]:
    """The same by worker processes, with the peak memory of the largest of them."""
    states = case.states()
    with LocalExecutorSpec(workers=n_workers, memory_limit="4GiB").build() as executor:
        list(executor.map(peak_memory, range(n_workers)))  # the workers have started
        seconds = _time(partial(_analyse, case, states, executor.map)).clock
        largest = max(executor.map(peak_memory, range(4 * n_workers)))
    method = f"{OURS}, {n_workers} workers"
    return [Row(case.name, method, SECONDS, seconds), Row(case.name, f"{method}, each", MEMORY, largest)]


def peak_memory(_: object) -> float:
    """Largest resident memory that this program has had, in GB."""
    return memory.peak() * 2**20 / 1e9


def _analyse(case: Case, states: Tensor, mapper: Mapper) -> Tensor:
    return case.transform(states).apply(states, mapper=mapper)


def _time(work: Callable[[], Any]) -> Took:
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - clock, time.process_time() - cpu)


def _apart(function: Callable[[Any], Any], argument: Any) -> Any:
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, argument).result()


def _notes() -> tuple[str, ...]:
    absent = () if letkf_peer.is_installed() else ("DAPPER is not installed (extra `peers`): ours alone.",)
    return (
        *absent,
        "One thread for each process. Seconds of the clock, and so all with two processes, suffer from whatever else "
        "the machine does; processor seconds hardly do.",
        "Our states are float32 and what is computed is float64, DAPPER's states are float64, hence the difference of "
        "some 1e-7.",
        "Every second point: the two programs approximate differently, so that the difference is no error.",
        "The largest case leaves out no small tapers.",
    )
