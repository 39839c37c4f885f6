"""Jobs that kill their worker, for the tests of mapped analyses; workers import this module by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from cycler_da.schemes.ensemble.transform_tile import TileJob, move_tile


def kill_the_first_worker_of_the_second_tile(folder: str, job: TileJob) -> Any:
    """Move a tile; the second one kills its worker when it is met for the first time."""
    name = Path(folder) / f"{'again' if any(Path(folder).iterdir()) else 'killed'}.{os.getpid()}"
    if job.tile.rows.start == 8:
        name.touch()
        if name.name.startswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
    return move_tile(job)
