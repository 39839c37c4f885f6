"""Finish: summary and manifest of the cycle, and its publication."""

from __future__ import annotations

from cycler_da.cycle.fallback import FULL, level
from cycler_da.cycle.forecasting import forecast_until
from cycler_da.cycle.work import CycleWork, Facts
from cycler_da.errors import EXIT_COMPLETE, EXIT_DEGRADED, EXIT_NO_OBSERVATIONS
from cycler_da.products.manifest import Inputs, build_manifest
from cycler_da.times import iso_time

#: The stages whose facts end in the summary.
BEFORE = ("background", "observations", "quality_control", "assimilate", "products", "verify", "plot")


def finish(work: CycleWork) -> Facts:
    """Write summary and manifest and publish; after this the cycle is complete.

    Raises PreviousReplaced when the cycle before is no longer the one that this cycle was made from.
    """
    work.require_same_parent()
    done = {name: work.done_facts(name) for name in BEFORE}
    reasons = [reason for facts in done.values() for reason in facts.get("degraded", [])]
    delivery = done["observations"].get("delivery", "final")
    rung = done["assimilate"].get("rung", FULL)
    summary = {
        "delivery": delivery,
        "fallback": {"rung": rung, "level": level(rung)},
        "valid_time": iso_time(work.time),
        "forecast_until": forecast_until(work),
        "scores": done["verify"].get("scores", {}),
        "calibration": done["verify"].get("calibration", {}),
        "alerts": [*done["assimilate"].get("alerts", []), *done["verify"].get("alerts", [])],
        "counts": done["quality_control"].get("counts", {}),
        "diagnostics": done["assimilate"].get("diagnostics", {}),
        "seconds": {name: facts["seconds"] for name, facts in done.items()},
        "cpu_seconds": {name: facts["cpu_seconds"] for name, facts in done.items() if "cpu_seconds" in facts},
        "degraded": reasons,
        "exit_code": _exit_code(work, done, reasons),
        "images": done["plot"].get("images", []),
    }
    work.write_json("diag/summary.json", summary)
    inputs = Inputs(
        config=work.setting.config.digest,
        previous=work.parent,
        observations=done["observations"].get("files", {}),
        weights=work.weights,
        other={"stream_checks": work.setting.config.stream_checks},
    )
    manifest = build_manifest(
        work.folder,
        experiment=work.setting.config.name,
        chain=work.chain.name,
        time=work.time,
        inputs=inputs,
        token=work.lock.token,
        facts={
            "seed": work.setting.config.seed,
            "degraded": reasons,
            "exit_code": summary["exit_code"],
            "delivery": delivery,
            "fallback": rung,
            "history": work.chain.model.history,
            "forecast_until": summary["forecast_until"],
        },
    )
    work.store.publish(work.time, manifest, lock=work.lock, replace=work.replaces)
    return summary


def _exit_code(work: CycleWork, done: dict[str, Facts], reasons: list[str]) -> int:
    if not work.is_start and done["assimilate"].get("n_used") == 0:
        return EXIT_NO_OBSERVATIONS
    return EXIT_DEGRADED if reasons else EXIT_COMPLETE
