"""Drills of the orchestrator: its server is killed and started anew, or it calls runs crashed that are healthy.

The truth about cycles is in the store, so neither may publish one twice or lose one; what Prefect shows of the run may
be incomplete. Runs use a server as an operator keeps it (orchestrator.py), one for all trials.
"""

from __future__ import annotations

import random
import time as clock
from typing import Any

from cycler_da.drills import system as tiny
from cycler_da.drills.ending import continued
from cycler_da.drills.meanwhile import meanwhile
from cycler_da.drills.orchestrator import Orchestrator
from cycler_da.drills.trials import Ground, Outcome, is_subset

LONGEST = 3.0  # s; a run of the small system under Prefect, once its first cycle has begun
AWAY = (0.0, 5.0)  # s from the end of the server to its next start
LIMIT = 900.0  # s; the client asks a server that is gone again and again, a minute long


def server_killed(ground: Ground, draw: random.Random) -> Outcome:
    """`kill -9` of the server at any instant of a run, and another start of it: the run ends as if alone."""
    server = ground.orchestrator

    def strike() -> None:
        server.kill()
        clock.sleep(draw.uniform(*AWAY))
        server.begin()

    with ground.drill() as drill:
        begun = drill.store().chain_folder.is_dir
        with meanwhile(once=begun, after=draw.uniform(0.0, LONGEST), strike=strike) as failures:
            results = drill.served.run_together([_job(drill, server)])
        server.restart_if_gone()
        return _ended(ground, drill, results, failures)


def called_crashed(ground: Ground, draw: random.Random) -> Outcome:
    """Runs that are healthy are marked crashed, and the experiment is started again beside them: published once."""
    server, struck = ground.orchestrator, []

    def is_running() -> bool:
        return bool(server.running("tiny"))

    def strike() -> None:
        for run in server.running("tiny"):
            server.call_crashed(run)
            struck.append(run)

    with ground.drill() as drill:
        after = draw.uniform(0.0, 1.0)
        jobs = [_job(drill, server), _job(drill, server, start_after=draw.uniform(0.0, 2 * LONGEST))]
        with meanwhile(once=is_running, after=after, strike=strike) as failures:
            results = drill.served.run_together(jobs)
        return _ended(ground, drill, results, failures or ([] if struck else ["no run was called crashed"]))


def _job(drill: tiny.Drill, server: Orchestrator, **more: Any) -> dict[str, Any]:
    arguments = drill.arguments(orchestrator="prefect")
    return drill.job(arguments=arguments, environment=server.environment, kill_after=LIMIT, **more)


def _ended(ground: Ground, drill: tiny.Drill, results: list[tiny.Result], failures: list[str]) -> Outcome:
    wrong = (drill.store().chain_folder / "revisions").exists() or not is_subset(drill, ground.undisturbed)
    codes = [result.code for result in results]
    if wrong or failures or any(code not in (0, 75) for code in codes):
        return Outcome(False, wrong, told=f"{failures} ended with {codes}: {results[0].end}")
    return continued(ground, drill, results[0])
