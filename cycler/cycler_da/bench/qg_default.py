"""Benchmarks of the default two-layer QG experiment: its scores over several truths, and what a cycle costs.

`qg_default` runs the experiment's own config with other nature runs (seeds) and longer, and adds the LETKF with
the true model, the bar that no learned model can be expected to pass. Scores are for all cycles after the
spin-up; the interval is over the seeds (Student's t), each seed one independent value.
`cycle_cost` runs the default experiment with maps and reports seconds of each stage, memory and disk.
"""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.config import ExperimentConfig, load_config
from cycler_da.cycle_plan import CycleEvent, run_plan
from cycler_da.experiment import Experiment
from cycler_da.setting import build_setting
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.consistency import t_quantile

CONFIG = Path("config/experiments/qg_default.yaml")
TRUE_MODEL = {"kind": "numerical", "system": {"kind": "two_layer_qg", "size": 64}}
METRICS = ("rmse", "fair_crps", "spread_skill")


@benchmark("qg_default", summary="scores of the default QG experiment over several truths, beside the true model")
def qg_default(quick: bool, progress: Progress) -> BenchResult:
    """Run the default experiment for every seed."""
    seeds, count, spin_up, members = ([5], 12, 6, 16) if quick else ([5, 6, 7], 60, 30, 32)
    values: dict[tuple[str, str, str], list[float]] = {}
    for i_seed, seed in enumerate(seeds):
        with tempfile.TemporaryDirectory() as folder:
            changes = [
                *_changes(folder, seed),
                f"cycles.count={count}",
                f"verification.spin_up={spin_up}",
                f"ensemble.members={members}",
                f"nature.steps={count}",
                "plots=false",
            ]
            config = _with_true_model(load_config(CONFIG, changes))
            for row in _scores(
                config, lambda done, total, what, i=i_seed: progress(i * total + done, len(seeds) * total, what)
            ):
                values.setdefault((row.case, row.method, row.metric), []).append(row.value)
    return BenchResult(
        name="qg_default",
        config={"file": str(CONFIG), "members": members, "cycles": count, "spin_up": spin_up},
        seeds=tuple(seeds),
        rows=tuple(_over_seeds(key, found) for key, found in values.items()),
        notes=(
            f"{members} members, {count} daily cycles, the first {spin_up} left out. "
            "5 % of the 8192 values are observed, error 0.1 standard deviations.",
            "Units: climatological standard deviations. letkf_true_model forecasts with the truth's own solver.",
            "observations_only: optimal interpolation from climatology. persistence: the analysis before.",
        ),
    )


@benchmark("cycle_cost", summary="seconds of every stage, memory and disk of the default QG experiment")
def cycle_cost(quick: bool, progress: Progress) -> BenchResult:
    """Run the default experiment with maps and read what it recorded."""
    count = 3 if quick else 10
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(CONFIG, [*_changes(folder, 5), f"cycles.count={count}", "verification.spin_up=0"])
        list(_scores(config, progress))
        rows = [
            Row("seconds of a stage", chain, stage, seconds, n=count)
            for chain, stage, seconds in _stage_seconds(Path(folder) / "runs" / config.name)
        ]
        cycles = list((Path(folder) / "runs" / config.name).glob("*/cycles/*"))
        size = sum(path.stat().st_size for cycle in cycles for path in cycle.rglob("*") if path.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows.append(Row("whole process", "all chains", "peak memory (MiB)", peak))
    rows.append(
        Row("one published cycle", "mean of all chains", "disk (MiB)", size / len(cycles) / 2**20, n=len(cycles))
    )
    notes = (f"{config.ensemble.members} members, executor {config.executor['kind']}, {count} cycles after the start.",)
    return BenchResult("cycle_cost", {"file": str(CONFIG), "cycles": count}, (5,), tuple(rows), notes)


def _changes(folder: str, seed: int) -> list[str]:
    return [
        f"root={folder}/runs",
        f"nature.path={folder}/nature.nc",
        f"nature.seed={seed}",
        f"observations.insitu.folder={folder}/obs",
        f"observations.insitu.draw.seed={seed}",
        f"seed={2020 + seed}",
        "executor={kind: serial}",
    ]


def _with_true_model(config: ExperimentConfig) -> ExperimentConfig:
    described = config.resolved()
    letkf = next(chain for chain in described["chains"] if chain["name"] == "letkf")
    described["chains"].append({**letkf, "name": "letkf_true_model", "forecast": TRUE_MODEL})
    return ExperimentConfig.model_validate(described)


def _scores(config: ExperimentConfig, progress: Progress) -> Iterator[Row]:
    total = len(config.chains) * (config.cycles.count + 1)
    done = 0

    def show(event: CycleEvent) -> None:
        nonlocal done
        if event.kind == "cycle_finished":
            done += 1
            progress(done, total, event.chain)

    with Experiment(build_setting(config)) as experiment:
        experiment.prepare()
        run_plan(experiment, on_event=show)
        yield from (row for row in experiment.closing_rows() if row.metric in METRICS)


def _over_seeds(key: tuple[str, str, str], found: list[float]) -> Row:
    case, method, metric = key
    if len(found) < 2:
        return Row(case, method, metric, found[0], n=1)
    half = t_quantile(0.975, len(found) - 1) * stdev(found) / len(found) ** 0.5
    return Row(case, method, metric, mean(found), mean(found) - half, mean(found) + half, len(found))


def _stage_seconds(folder: Path) -> Iterator[tuple[str, str, float]]:
    for chain in sorted(path.parent for path in folder.glob("*/cycles")):
        seconds: dict[str, list[float]] = {}
        for summary in sorted((chain / "cycles").glob("*/diag/summary.json"))[1:]:
            for stage, cost in json.loads(summary.read_text())["seconds"].items():
                seconds.setdefault(stage, []).append(cost)
        for stage, costs in seconds.items():
            yield chain.name, stage, mean(costs)
