"""The last failure of a chain: which cycle and stage, why, and with which exit code; gone when the chain went on.

That is when the cycle, or a later one, is done. A backfill of earlier cycles does not end it, and the failure of a
final pass, behind which new cycles go on, ends with that pass alone.

It lies beside the cycles of the chain, so that whoever watches a service need not have run it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cycler_da.errors import ConfigError, CyclerError, exit_code_of
from cycler_da.products.atomic import write_json_atomically
from cycler_da.times import iso_time, parse_time, time_stamp

log = logging.getLogger(__name__)

FILE_NAME = "failure.json"


def write_failure(
    chain_folder: Path, time: np.datetime64, stage: str, error: Exception, *, is_final_pass: bool = False
) -> None:
    """Note a failure; where the disk refuses even that, the log has it."""
    content = {
        "cycle": time_stamp(time),
        "stage": stage,
        "is_final_pass": is_final_pass,
        "cause": str(error) if isinstance(error, CyclerError | OSError) else f"a bug, {type(error).__name__}: {error}",
        "exit_code": exit_code_of(error),
        "when": iso_time(np.datetime64("now", "s")),
    }
    try:
        write_json_atomically(chain_folder / FILE_NAME, content)
    except (OSError, CyclerError) as refusal:
        log.warning("chain=%s: its failure is not noted: %s", chain_folder.name, refusal)


def read_failure(chain_folder: Path) -> dict[str, Any] | None:
    """The failure, None when the chain is well."""
    try:
        content = json.loads((chain_folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def clear_failure(chain_folder: Path, *, done: np.datetime64) -> None:
    """Forget the failure if it was that of the cycle `done`, or of an earlier one that was not a final pass."""
    failure = read_failure(chain_folder) or {}
    failed = _time_of(failure) or done
    if failed == done or (failed < done and not failure.get("is_final_pass", False)):
        (chain_folder / FILE_NAME).unlink(missing_ok=True)


def clear_failure_of(stage: str, chain_folder: Path) -> None:
    """Forget the failure if it was one of this stage."""
    if (read_failure(chain_folder) or {}).get("stage") == stage:
        (chain_folder / FILE_NAME).unlink(missing_ok=True)


def _time_of(failure: Mapping[str, Any]) -> np.datetime64 | None:
    """Time of the cycle that failed; None where no cycle is named."""
    try:
        return parse_time(str(failure.get("cycle", "")))
    except ConfigError:
        return None
