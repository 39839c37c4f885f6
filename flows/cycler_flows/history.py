"""History of runs in the database of the embedded server: what is kept, and that the file shrinks again.

Prefect's own clean-up, which is off unless asked for, deletes runs that ended more than `KEEP` ago, with their tasks,
logs and artifacts, at the start of its server and then every hour. A pause of some weeks must not empty the page: where
the `FEWEST` newest runs are older, they stay. Space that is free is used again; at a start, a file that is mostly free
is made small. Of a server that the user runs nothing is touched.

Limit: which runs are the newest is read from Prefect's tables; where they have changed, `KEEP` alone decides.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

log = logging.getLogger(__name__)

KEEP = timedelta(days=14)
FEWEST = 100  # runs that stay, whatever their age; the runs of their cycles not counted
LARGEST_FREE = 50_000_000  # bytes

PERIOD = "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD"
ENABLED = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"
_NEWEST = (
    "select end_time from flow_run where end_time is not null and parent_task_run_id is null "
    f"order by end_time desc limit 1 offset {FEWEST - 1}"
)


def history_settings(home: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Settings of the embedded server, to be given before it starts; those of the user stand."""
    period = str(round(retention(database_of(home)).total_seconds()))
    wanted = {ENABLED: "events,flow_runs", PERIOD: period}
    return {name: environment.get(name, value) for name, value in wanted.items()}


def database_of(home: Path) -> Path:
    """The database of a Prefect folder."""
    return home / "prefect.db"


def retention(database: Path, *, now: datetime | None = None) -> timedelta:
    """How old a run may become: `KEEP`, or the age of the oldest of the `FEWEST` newest ones."""
    if not database.is_file():
        return KEEP
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(_NEWEST).fetchone()
        oldest = None if found is None else datetime.fromisoformat(found[0])
    except (sqlite3.Error, ValueError, TypeError) as error:
        log.warning("event=history_unknown database=%s error=%s", database, error)
        return KEEP
    if oldest is None:  # fewer than that: none of them is too old
        return timedelta(days=36500)
    oldest = oldest if oldest.tzinfo else oldest.replace(tzinfo=UTC)
    return max(KEEP, (now or datetime.now(UTC)) - oldest + timedelta(hours=1))


def shrink(database: Path) -> None:
    """Give back the space of deleted runs, when it is most of a large file; nobody may use the database meanwhile."""
    if not database.is_file():
        return
    try:
        with closing(sqlite3.connect(database, timeout=5.0)) as connection:
            free, pages, size = (
                connection.execute(f"pragma {name}").fetchone()[0]
                for name in ("freelist_count", "page_count", "page_size")
            )
            if free * size > LARGEST_FREE and 2 * free > pages:
                connection.execute("vacuum")
                log.info("event=history_shrunk database=%s freed_mb=%d", database, free * size // 10**6)
    except sqlite3.Error as error:  # it goes on as it is; what is damaged the server itself tells
        log.warning("event=history_not_shrunk database=%s error=%s", database, error)
