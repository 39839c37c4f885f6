"""Benchmark `radar_cost`: what a cycle of the radar default experiment costs, forecasts, products and maps included.

The interpolant filter of `config/experiments/radar_default.yaml`, 20 members, on the SEVIR storm: analysis of a tenth
of the pixels, forecasts to an hour from every analysis with all their products, maps. Once on one core (executor
serial) and once on all that the process may use (executor threads). Seconds by the clock, and seconds that processors
worked, are those that each cycle recorded of its stages, the mean over the cycles after the start; `compute` is all but
verification and plot, so it has the files and products of the forecasts in it. On a busy machine seconds by the clock
are those of a busy machine: the load (processes that want a core, mean of a minute) stands beside them, and what
processors worked is what a machine that does nothing else would need at most. About five CPU minutes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cycler_da.bench import memory
from cycler_da.bench.costs import disk_of_a_cycle, stage_seconds
from cycler_da.bench.radar.radar_case import SEVIR_FILE, real_data
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.config import ExperimentConfig, load_config
from cycler_da.cycle_plan import run_plan
from cycler_da.experiment import Experiment
from cycler_da.setting import build_setting
from cycler_da.tables.report import BenchResult, Row

CONFIG = Path("config/experiments/radar_default.yaml")
MEMBERS, CHAIN = 20, "interpolant_filter"
EXECUTORS = {"one core": "{kind: serial}", "all cores": "{kind: threads}"}
#: Stages that look at what was made; the others make it (products: forecasts to an hour, their files).
LOOKING = ("verify", "plot")


@benchmark("radar_cost", summary="seconds of every stage of a radar cycle with forecasts, products and maps")
def radar_cost(quick: bool, progress: Progress) -> BenchResult:
    """Run the experiment and read what it recorded."""
    data, count = real_data() / SEVIR_FILE, 2 if quick else 4
    rows: list[Row] = []
    for done, (case, executor) in enumerate(EXECUTORS.items()):
        progress(done, len(EXECUTORS), case)
        with tempfile.TemporaryDirectory() as folder:
            config = one_chain(
                load_config(
                    CONFIG,
                    [
                        f"root={folder}/runs",
                        f"nature.path={data}",
                        f"observations.pixels.folder={folder}/obs",
                        f"ensemble.members={MEMBERS}",
                        f"cycles.count={count}",
                        "verification.spin_up=0",
                        f"executor={executor}",
                    ],
                )
            )
            with Experiment(build_setting(config)) as experiment:
                experiment.prepare()
                run_plan(experiment)
                rows.append(Row(case, CHAIN, "load", os.getloadavg()[0]))
            rows += _rows(case, Path(folder) / "runs" / config.name, count)
    rows.append(Row("whole process", "", "peak memory (MiB)", memory.peak()))
    return BenchResult(
        name="radar_cost",
        config={"file": str(CONFIG), "chain": CHAIN, "members": MEMBERS, "cycles": count, "quick": quick},
        seeds=(config.seed,),
        rows=tuple(rows),
        notes=(f"{len(os.sched_getaffinity(0))} cores may be used. Frames of one SEVIR storm.",),
    )


def one_chain(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment with the filter alone."""
    described = config.resolved()
    described["chains"] = [chain for chain in described["chains"] if chain["name"] == CHAIN]
    return ExperimentConfig.model_validate(described)


def _rows(case: str, runs: Path, count: int) -> list[Row]:
    rows = []
    for what, recorded in (("seconds", "seconds"), ("processor seconds", "cpu_seconds")):
        spent = {stage: cost for _, stage, cost in stage_seconds(runs, of=recorded)}
        compute = sum(cost for stage, cost in spent.items() if stage not in LOOKING)
        every = {**spent, "compute": compute, "cycle": sum(spent.values())}
        rows += [Row(f"{what}, {case}", CHAIN, stage, cost, n=count) for stage, cost in every.items()]
    size, n_cycles = disk_of_a_cycle(runs)
    return [*rows, Row("disk", CHAIN, "MiB of a cycle", size, n=n_cycles)] if case == "one core" else rows
