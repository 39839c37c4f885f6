"""Run an experiment as a Prefect flow, on the embedded server or on the one the user has configured.

The loop is `cycler_da.cycle_plan.run_plan`, the same as without Prefect; Prefect is the shell around it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cycler_da.cycle_plan import CycleEvent, ExperimentPlan, run_plan

#: Function that makes a plan of a config file: `(path, overrides) -> ExperimentPlan`.
LOADER = "cycler_da.experiment:load_plan"
#: The same for a look of a service: the plan does not close the experiment.
SERVED_LOADER = "cycler_da.experiment:load_served_plan"

OnEvent = Callable[[CycleEvent], None]


def run_experiment(
    plan_source: Callable[[], ExperimentPlan] | str | Path,
    overrides: Sequence[str] = (),
    *,
    on_event: OnEvent | None = None,
) -> dict[str, Any]:
    """Run all pending cycles of an experiment under Prefect and return what `run_plan` returns.

    `plan_source` makes the plan (whoever made it closes it), or is the path of a config file (then `overrides` are
    its `key=value` changes). Without pending cycles Prefect is not started at all. Raises what the cycles raise,
    StoppedOnRequest after SIGTERM, and OrchestratorFailed when Prefect cannot be started.
    """
    if callable(plan_source):
        return _run(plan_source(), on_event)
    with closing(load_plan(str(plan_source), overrides)) as plan:
        return _run(plan, on_event)


def _run(plan: ExperimentPlan, on_event: OnEvent | None) -> dict[str, Any]:
    if not any(plan.pending(chain) for chain in plan.chains):
        return run_plan(plan, on_event=on_event)
    emit = on_event or (lambda event: None)
    emit(CycleEvent("orchestrator_starting"))

    from cycler_flows.session import prefect_session

    with prefect_session(plan.folder.parent) as session:
        from cycler_flows.artifacts import ArtifactWriter
        from cycler_flows.shell import PrefectShell
        from cycler_flows.stopping import StopRequest

        emit(CycleEvent("orchestrator_ready", facts={"page": session.page}))
        stop = StopRequest()
        with stop.shield(), ArtifactWriter() as artifacts:
            shell = PrefectShell(artifacts, shield=stop.shield)
            facts = shell.experiment(
                plan.name, lambda: run_plan(plan, on_event=on_event, shell=shell, stop_requested=stop.is_set)
            )
    return dict(facts)


def load_plan(config_path: str, overrides: Sequence[str] = (), *, loader: str = LOADER) -> ExperimentPlan:
    """Make the plan of a config file; `loader` names the function as `module:function`."""
    make: Callable[[str, list[str]], ExperimentPlan] = pkgutil.resolve_name(loader)
    return make(config_path, list(overrides))
