"""The embedded server forgets old runs, keeps the newest ones, and its file does not grow for ever."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cycler_flows import history
from cycler_flows.history import ENABLED, FEWEST, KEEP, PERIOD, history_settings, retention, shrink
from cycler_flows.server import EmbeddedServer

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def database(folder: Path, ages_in_days: list[float], *, inner: int = 0) -> Path:
    """A database with top-level runs that ended some days ago, and inner ones of today."""
    path = folder / "prefect.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table flow_run (end_time text, parent_task_run_id text)")
        ends = [(str((NOW - timedelta(days=age)).replace(tzinfo=None)), None) for age in ages_in_days]
        connection.executemany("insert into flow_run values (?, ?)", ends + [(str(NOW), "a task")] * inner)
        connection.commit()
    return path


def test_runs_are_kept_for_two_weeks_when_there_are_many(tmp_path: Path) -> None:
    path = database(tmp_path, [0.1 * k for k in range(2 * FEWEST)])
    assert retention(path, now=NOW) == KEEP == timedelta(days=14)


def test_the_newest_runs_stay_after_a_long_pause(tmp_path: Path) -> None:
    path = database(tmp_path, [30.0 + k for k in range(2 * FEWEST)], inner=FEWEST)  # runs of cycles do not count
    assert retention(path, now=NOW) == timedelta(days=30 + FEWEST - 1, hours=1)


def test_a_few_old_runs_all_stay(tmp_path: Path) -> None:
    assert retention(database(tmp_path, [300.0] * (FEWEST - 1)), now=NOW) > timedelta(days=3000)


def test_what_is_no_database_of_prefect_is_told_and_the_age_alone_decides(tmp_path: Path, caplog) -> None:
    assert retention(tmp_path / "prefect.db") == KEEP and not caplog.records
    (tmp_path / "prefect.db").write_bytes(b"no database at all, but long enough to be looked at" * 50)
    assert retention(tmp_path / "prefect.db") == KEEP
    shrink(tmp_path / "prefect.db")
    assert ["history_unknown" in r.getMessage() or "not_shrunk" in r.getMessage() for r in caplog.records] == [True] * 2


def test_what_the_user_says_about_the_history_stands(tmp_path: Path) -> None:
    said = {PERIOD: "86400", ENABLED: "events"}
    assert history_settings(tmp_path, said) == said
    assert history_settings(tmp_path, {})[PERIOD] == str(14 * 86400)


@pytest.mark.parametrize(("kept", "is_shrunk"), [(0.1, True), (0.9, False)])
def test_a_file_that_is_mostly_free_is_made_small(
    tmp_path: Path, kept: float, is_shrunk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "LARGEST_FREE", 4000)
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table log (text text)")
        connection.executemany("insert into log values (?)", [("x" * 1000,) for _ in range(200)])
        connection.execute(f"delete from log where rowid > {200 * kept}")
        connection.commit()
    before = path.stat().st_size
    shrink(path)
    assert (path.stat().st_size < 0.5 * before) is is_shrunk
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select count(*) from log").fetchone() == (200 * kept,)


@pytest.mark.slow
def test_the_server_deletes_an_old_run_and_keeps_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import temporary_settings

    monkeypatch.setenv("PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS", "2")
    server, path = EmbeddedServer(tmp_path / "home"), history.database_of(tmp_path / "home")
    try:
        server.wait(300)
        with temporary_settings(updates={"api.url": server.api_url}), get_client(sync_client=True) as client:
            make_runs(client)
        month_ago = str(datetime.now(UTC).replace(tzinfo=None) - timedelta(days=30))
        with closing(sqlite3.connect(path, timeout=30.0)) as connection:
            connection.execute("update flow_run set end_time = ? where name = 'old'", (month_ago,))
            connection.commit()
        deadline = time.monotonic() + 120
        while names(path) != ["new"] and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        server.stop()
    assert names(path) == ["new"]
    monkeypatch.setattr(history, "_NEWEST", history._NEWEST.replace(f"offset {FEWEST - 1}", "offset 0"))
    assert retention(path) == KEEP  # what is asked of Prefect's own tables is there


def make_runs(client) -> None:
    from prefect import flow
    from prefect.states import Completed

    @flow(name="experiment")
    def experiment() -> None:
        """Never called."""

    for name in ("old", "new"):
        client.create_flow_run(experiment, name=name, state=Completed())


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path, timeout=10.0)) as connection:
        return [name for (name,) in connection.execute("select name from flow_run order by name")]
