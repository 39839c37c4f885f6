"""Deploy an experiment to a real Prefect server, where workers of a process work pool run its looks.

    python -m cycler_flows.deployments CONFIG --every 5min --pool cycler

registers the scheduled flow of `watch.py` under the experiment's name; running it again replaces the schedule. With
`--heartbeat-automation` the server marks a run as crashed when its process has been silent for 90 s. The code is not
copied: every worker needs the same version of Cycler installed and must see the config, the store and the data
under the same paths. All commands of a full set-up are in docs/operations.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from cycler_da.errors import EXIT_COMPLETE, ConfigError, CyclerError
from cycler_da.times import parse_duration
from cycler_flows.run import SERVED_LOADER, load_plan
from cycler_flows.serve import look_deployment

#: A run that lives sends a heartbeat every 30 s (PREFECT_FLOWS_HEARTBEAT_FREQUENCY); three may be missed.
HEARTBEAT = 30
SILENCE = timedelta(seconds=90)
AUTOMATION = "cycler: crash silent runs"
ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut")


def deploy(
    config_path: str | Path,
    every: timedelta,
    pool: str,
    *,
    overrides: Sequence[str] = (),
    loader: str = SERVED_LOADER,
) -> str:
    """Register the scheduled flow of an experiment with the configured server; returns `flow/deployment`.

    Raises ConfigError when the config cannot be used, no server is configured or the pool does not exist.
    """
    path = Path(config_path).resolve()
    plan = load_plan(str(path), overrides, loader=loader)
    plan.close()
    _require_pool(pool)
    deployment = look_deployment(path, every, name=plan.name, overrides=overrides, loader=loader)
    deployment.work_pool_name = pool
    deployment.job_variables = {
        "working_dir": str(Path.cwd()),  # what relative paths in the config mean
        "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)},
    }
    deployment.apply()
    return deployment.full_name


def crash_silent_runs() -> None:
    """Let the server mark runs as crashed whose process ended without a word (kill -9, power cut)."""
    from prefect.automations import Automation
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture
    from prefect.states import StateType

    from cycler_flows.shell import NOTHING_TO_DO, STATE_NAMES, STOPPED

    heartbeat = "prefect.flow-run.heartbeat"
    states = {*ENDS, *STATE_NAMES.values(), STOPPED, NOTHING_TO_DO}  # an event has the name of the state, not its type
    ends = {f"prefect.flow-run.{state}" for state in states}
    trigger = EventTrigger(
        after={heartbeat},
        expect={heartbeat} | ends,
        match={"prefect.resource.id": ["prefect.flow-run.*"]},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    message = f"no heartbeat for {SILENCE.seconds} s: the process ended without a word; the next look continues"
    actions = [ChangeFlowRunState(state=StateType.CRASHED, message=message)]
    automation = Automation(name=AUTOMATION, trigger=trigger, actions=actions)
    if not _has_automation():
        automation.create()


def _has_automation() -> bool:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return bool(client.request("POST", "/automations/filter", json=_named(AUTOMATION)).json())


def _named(name: str) -> dict:
    return {"automations": {"name": {"any_": [name]}}}


def _require_pool(pool: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise ConfigError("no Prefect server is configured; set PREFECT_API_URL, such as http://127.0.0.1:4200/api")
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            raise ConfigError(
                f"the Prefect server has no work pool {pool!r}; make one with `prefect work-pool create {pool} "
                "--type process`"
            ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cycler_flows.deployments", description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--every", required=True, help="how often to look for observations: 5min, 1h")
    parser.add_argument("--pool", required=True, help="name of a process work pool")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a config value")
    parser.add_argument("--loader", default=SERVED_LOADER, help="function that makes the plan, module:function")
    parser.add_argument("--heartbeat-automation", action="store_true", help="mark silent runs as crashed")
    options = parser.parse_args(arguments)
    try:
        seconds = parse_duration(options.every) / np.timedelta64(1, "s")
        every = timedelta(seconds=float(seconds))
        name = deploy(options.config, every, options.pool, overrides=options.set, loader=options.loader)
        if options.heartbeat_automation:
            crash_silent_runs()
    except CyclerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"deployed {name}; run once now: prefect deployment run '{name}'\n")
    return EXIT_COMPLETE


if __name__ == "__main__":
    sys.exit(main())
