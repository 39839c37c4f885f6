"""Tuning: the options of one chain that score best over a training period, reported over a disjoint one.

    candidates = all combinations of the values of the options
    training   = cycles 1 ... n of the experiment, the spin-up left out       chooses
    report     = a new start at cycle n, the cycles after it, again without spin-up       judges
The best candidate and the config's own options are cycled through the report period, so that what is gained there was
not chosen there. With `report_changes` (another nature run, say) the report is of another truth as well.

Every candidate is an experiment of its own below the folder of the search, with one chain. A candidate that is scored
leaves `score.json` beside its cycles, which are then removed unless `keep`; the same command goes on where it stopped,
and within a candidate where its cycles stopped. A candidate whose analysis fails is listed with its reason.

Scores: rmse and fair_crps of the background or analysis against nature (the variable of `verification.headline`), and
innovation, the RMS of y - H(x_b) over the assumed error, which needs no truth.
Limits: a full grid, no model of the score between its points; one truth for the choice unless the config has more.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cycler_da.config import ExperimentConfig, load_config
from cycler_da.cycle_plan import CycleEvent, run_plan
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.experiment import Experiment
from cycler_da.products.atomic import write_atomically
from cycler_da.setting import Setting, build_setting
from cycler_da.tables.innovations import normalised_innovation, read_innovations
from cycler_da.tables.report import Row, pivot
from cycler_da.times import iso_time, parse_duration, parse_time

METRICS = ("rmse", "fair_crps", "innovation")
KINDS = ("analysis", "background")
TRAINING, REPORT = "training", "report"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Search:
    """What is searched: options of a chain's scheme, and how candidates are compared."""

    config: Path
    chain: str
    options: Mapping[str, tuple[Any, ...]]  # option of the scheme -> values to try
    training_cycles: int
    out: Path
    changes: tuple[str, ...] = ()  # of the config, key=value
    report_changes: tuple[str, ...] = ()  # of the config in the report period, key=value
    metric: str = "rmse"
    kind: str = "analysis"
    keep: bool = False

    def __post_init__(self) -> None:
        for name, got, valid in (("metric", self.metric, METRICS), ("kind", self.kind, KINDS)):
            if got not in valid:
                raise ConfigError(f"tune: {name} is {got!r}; valid: {', '.join(valid)}")
        if not self.options:
            raise ConfigError("tune: nothing to search; give --over OPTION=VALUE,VALUE,... at least once")

    def candidates(self) -> list[dict[str, Any]]:
        """All combinations of values, the first option slowest."""
        return [dict(zip(self.options, values, strict=True)) for values in itertools.product(*self.options.values())]


@dataclass(frozen=True)
class Outcome:
    """Scores of one candidate over one period; NaN with a reason where it failed."""

    options: Mapping[str, Any]
    period: str
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def value(self, search: Search) -> float:
        """What candidates are compared by: smaller is better, infinite where there is no score."""
        found = self.scores.get(_key(search), math.nan)
        return found if math.isfinite(found) else math.inf


def parse_option(text: str) -> tuple[str, tuple[Any, ...]]:
    """Read OPTION=VALUE,VALUE,...; values are YAML (numbers, null, words); raises ConfigError."""
    name, separator, values = text.partition("=")
    if not separator or not name.strip() or not values.strip():
        raise ConfigError(f"--over {text!r}: write OPTION=VALUE,VALUE,..., such as inflation=1,1.02,1.05")
    try:
        read = tuple(yaml.safe_load(value) for value in values.split(","))
    except yaml.YAMLError as error:
        raise ConfigError(f"--over {text!r}: a value is not YAML: {error}") from error
    if len(set(map(repr, read))) != len(read):
        raise ConfigError(f"--over {text!r}: a value stands twice")
    return name.strip(), read


def tune(search: Search, *, say: Say = lambda text: None, on_event: Callable[[CycleEvent], None] | None = None) -> str:
    """Search, report, write `tune.md` and `tune.json` into the folder of the search; returns the Markdown.

    Raises ConfigError for an option or a value that the scheme refuses, before any cycle, and when no candidate could
    be scored.
    """
    settings = [candidate(search, options, TRAINING) for options in search.candidates()]
    candidate(search, {}, REPORT)
    outcomes = []
    for i_candidate, (options, setting) in enumerate(zip(search.candidates(), settings, strict=True), start=1):
        outcome = _outcome(search, options, TRAINING, setting, on_event=on_event)
        say(f"{i_candidate}/{len(settings)} {_label(options)}: {_shown(search, outcome)}")
        outcomes.append(outcome)
    best = min(outcomes, key=lambda outcome: outcome.value(search))
    if math.isinf(best.value(search)):
        raise ConfigError(f"tune: no candidate could be scored; the first failed with: {outcomes[0].reason}")
    reports = []
    choices: tuple[Mapping[str, Any], ...] = ({}, best.options)
    for choice in choices:
        setting = candidate(search, choice, REPORT)
        reports.append(_outcome(search, choice, REPORT, setting, on_event=on_event))
        say(f"report, {_label(choice)}: {_shown(search, reports[-1])}")
    text = _markdown(search, outcomes, best, reports)
    _write(search.out / "tune.json", json.dumps(_description(search, outcomes, best, reports), indent=1) + "\n")
    _write(search.out / "tune.md", text)
    return text


def candidate(search: Search, options: Mapping[str, Any], period: str) -> Setting:
    """One candidate as an experiment of one chain over one period."""
    changes = [*search.changes, *(search.report_changes if period == REPORT else ())]
    described = load_config(search.config, changes).resolved()
    chains = {chain["name"]: chain for chain in described["chains"]}
    if search.chain not in chains:
        raise ConfigError(f"no chain {search.chain!r} in {search.config}; valid: {', '.join(chains)}")
    chain = chains[search.chain]
    chain["scheme"] = {**chain["scheme"], **options}
    described |= {
        "chains": [chain],
        "plots": False,
        "root": str(search.out / period),
        "cycles": _cycles(described, search, period),
    }
    described["name"] = _name(described)
    config = ExperimentConfig.model_validate(described)
    try:
        return build_setting(config)
    except ConfigError as error:
        error.add_note(f"while building the candidate {_label(options)}")
        raise


def _cycles(described: Mapping[str, Any], search: Search, period: str) -> dict[str, Any]:
    cycles, spin_up, n_training = described["cycles"], described["verification"]["spin_up"], search.training_cycles
    n_report = cycles["count"] - n_training
    if min(n_training, n_report) - spin_up < 2:
        raise ConfigError(
            f"tune: {cycles['count']} cycles, {n_training} of them for training, leave {n_training - spin_up} and "
            f"{n_report - spin_up} after the spin-up of {spin_up}; expected at least 2 in each. Set --training-cycles, "
            "cycles.count or verification.spin_up"
        )
    if period == TRAINING:
        return {**cycles, "count": n_training}
    start = parse_time(cycles["start"]) + n_training * parse_duration(cycles["every"])
    return {**cycles, "start": iso_time(start), "count": n_report}


def _outcome(
    search: Search,
    options: Mapping[str, Any],
    period: str,
    setting: Setting,
    *,
    on_event: Callable[[CycleEvent], None] | None,
) -> Outcome:
    """Scores of a candidate, from its `score.json` or by running what is left of its cycles."""
    folder = setting.root / setting.config.name
    known = folder / "score.json"
    if known.is_file():
        read = json.loads(known.read_text())
        return Outcome(options, period, read["scores"], read["reason"])
    scores: dict[str, float] = {}
    reason = ""
    with Experiment(setting) as experiment:
        experiment.prepare()
        try:
            run_plan(experiment, on_event=on_event)
            scores = dict(_scores(experiment, search.chain))
        except AnalysisFailed as error:
            reason = str(error)
    _write(known, json.dumps({"scores": scores, "reason": reason}) + "\n")
    if not search.keep:
        shutil.rmtree(folder / search.chain, ignore_errors=True)
    return Outcome(options, period, scores, reason)


def _scores(experiment: Experiment, chain: str) -> Iterator[tuple[str, float]]:
    for row in experiment.closing_rows():
        if row.method == chain:
            yield f"{row.case} {row.metric}", row.value
    yield "innovation", normalised_innovation(read_innovations(experiment.counted_cycles(chain)))


def _key(search: Search) -> str:
    return "innovation" if search.metric == "innovation" else f"{search.kind} {search.metric}"


def _name(described: Mapping[str, Any]) -> str:
    """A name of everything the score depends on: another period or truth never finds the score of this one."""
    science = {key: value for key, value in described.items() if key not in ("name", "root", "executor", "summary")}
    return f"c{hashlib.sha256(json.dumps(science, sort_keys=True).encode()).hexdigest()[:12]}"


def _label(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "as in the config"


def _shown(search: Search, outcome: Outcome) -> str:
    return f"failed: {outcome.reason}" if outcome.reason else f"{_key(search)} {outcome.value(search):.5g}"


def _rows(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    for outcome in outcomes:
        label = _label(outcome.options)
        for name, value in outcome.scores.items():
            yield Row(outcome.period, label, name, value)
        if not outcome.scores:
            yield Row(outcome.period, f"{label} (failed)", "innovation", math.nan)


def _markdown(search: Search, outcomes: Sequence[Outcome], best: Outcome, reports: Sequence[Outcome]) -> str:
    ranked = sorted(outcomes, key=lambda outcome: outcome.value(search))
    block = yaml.safe_dump({"scheme": _scheme(search, best.options)}, default_flow_style=None, sort_keys=False)
    ends = [name for name, values in search.options.items() if len(values) > 2 and _is_end(best.options[name], values)]
    warning = (
        f"\nThe best value of {', '.join(ends)} is at the end of what was tried: search further.\n" if ends else ""
    )
    return (
        f"# Tuning of chain {search.chain}\n\n"
        f"{search.config}: {len(outcomes)} candidates, compared by {_key(search)} over {search.training_cycles} "
        "training cycles, best first; the report period follows them.\n\n"
        f"{pivot(tuple(_rows(ranked)))}\n\n{pivot(tuple(_rows(reports)))}\n{warning}\n```yaml\n{block}```\n"
    )


def _scheme(search: Search, options: Mapping[str, Any]) -> dict[str, Any]:
    chains = load_config(search.config, search.changes).chains
    return {**next(chain.scheme for chain in chains if chain.name == search.chain), **options}


def _is_end(value: Any, values: Sequence[Any]) -> bool:
    numbers = [one for one in values if isinstance(one, int | float)]
    return len(numbers) == len(values) and value in (min(numbers), max(numbers))


def _description(
    search: Search, outcomes: Sequence[Outcome], best: Outcome, reports: Sequence[Outcome]
) -> dict[str, Any]:
    return {
        "config": str(search.config),
        "chain": search.chain,
        "compared_by": _key(search),
        "best": _scheme(search, best.options),
        "outcomes": [
            {"period": o.period, "options": dict(o.options), "scores": _json(o.scores), "reason": o.reason}
            for o in (*outcomes, *reports)
        ],
    }


def _json(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda private: _write_text(private, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
