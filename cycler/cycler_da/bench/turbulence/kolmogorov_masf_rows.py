"""Rows of `kolmogorov_masf`: methods on truths, with intervals over truths and differences on the same truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cycler_da.bench.independent import independent_row, spread_skill_row
from cycler_da.bench.turbulence.kolmogorov_masf_case import Case, Run, Setting, cycle
from cycler_da.bench.turbulence.kolmogorov_masf_methods import REFERENCES, Method
from cycler_da.errors import AnalysisFailed
from cycler_da.tables.report import Row

SCORES = {"rmse": "RMSE", "crps": "fair CRPS", "spread_skill": "spread/skill"}
SECONDS = "seconds per analysis"
#: Runs of the methods on one truth; what an analysis said that failed.
RunsOfTruth = Mapping[str, Run | str]


def runs_of_truth(listed: Mapping[str, Method], case: Case, setting: Setting, *, i_truth: int) -> RunsOfTruth:
    """Every method that is run on the truth of this number."""
    runs = dict[str, Run | str]()
    for name, method in listed.items():
        if method.truths is not None and i_truth >= method.truths:
            continue
        try:
            run = cycle(case, method.spec, method.model, setting, first=method.first)
        except AnalysisFailed as error:
            runs[name] = str(error)
        else:
            runs[name] = replace(run, analyses=[])  # nobody scores them again
    return runs


def setting_rows(label: str, truths: Sequence[RunsOfTruth], notes: list[str]) -> Iterator[Row]:
    """Rows of all methods, the first truth's; a row that says so for what has failed on any truth."""
    references = {name: [runs.get(name) for runs in truths] for name in REFERENCES}
    for name in truths[0]:
        found = [runs.get(name) for runs in truths]
        failures = [one for one in found if isinstance(one, str)]
        if failures:
            notes.append(f"failed, {label}, {name}: {failures[0]}")
            yield Row(label, name, "failed", 1.0)
            continue
        yield from metric_rows(label, name, runs_in(found))
        for reference, others in references.items():
            if reference != name and reference in truths[0]:
                yield difference_row(label, name, found, reference, others)
        yield Row(label, name, SECONDS, mean_seconds(runs_in(found)))


def runs_in(found: Sequence[Run | str | None]) -> list[Run]:
    """Those that are there and have not failed."""
    return [one for one in found if isinstance(one, Run)]


def difference_row(
    label: str, name: str, found: Sequence[Run | str | None], reference: str, others: Sequence[Run | str | None]
) -> Row:
    """RMSE less that of a reference, on the truths of both."""
    pairs = [
        one.mean("rmse") - other.mean("rmse")
        for one, other in zip(found, others, strict=True)
        if isinstance(one, Run) and isinstance(other, Run)
    ]
    return independent_row(label, name, f"{SCORES['rmse']} minus {reference}", pairs)


def metric_rows(label: str, name: str, runs: Sequence[Run]) -> list[Row]:
    """Means over truths of the means over steps; spread/skill of all steps and truths together."""
    rows = [independent_row(label, name, SCORES[key], [run.mean(key) for run in runs]) for key in ("rmse", "crps")]
    pooled = [run.pooled() for run in runs]
    return [*rows, spread_skill_row(label, name, SCORES["spread_skill"], *zip(*pooled, strict=True))]


def mean_seconds(runs: Sequence[Run]) -> float:
    """Processor seconds of one analysis."""
    return float(np.mean([run.seconds for run in runs]))
