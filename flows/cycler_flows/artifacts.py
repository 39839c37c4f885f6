"""Artifacts: what the Prefect page shows of a cycle: counts and scores, the map, the final table.

They are written by a thread of their own, because a database write may stall for seconds, and a cycle must not
wait for its display. A failure is logged and forgotten; what is not written a while after the last cycle is given
up. Everything here is also in the store.
"""

from __future__ import annotations

import base64
import logging
import queue
import re
import threading
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Self

from prefect import artifacts

from cycler_da.cycle_plan import Facts

log = logging.getLogger(__name__)

FLUSH_TIMEOUT = 20.0  # s
LARGEST_IMAGE = 600_000  # bytes; an image is stored in Prefect's database


class ArtifactWriter:
    """Writes artifacts in the background, in the order in which they come."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self._maps: dict[str, tuple[str, Path]] = {}  # of the latest cycle of each chain
        self._thread = threading.Thread(target=self._work, name="artifacts", daemon=True)
        self._thread.start()

    def cycle(self, name: str, report: Facts) -> None:
        """Counts, scores and reasons of a cycle; called inside its flow run. Its map is kept for the end."""
        experiment, chain, stamp = name.split("/")
        self._add(
            lambda: artifacts.create_markdown_artifact(
                cycle_markdown(name, report), key=artifact_key(experiment, chain, "cycle"), description=stamp
            )
        )
        for image in list(report.get("images", ()))[:1]:
            self._maps[chain] = (stamp, Path(image))

    def experiment(self, name: str, facts: Facts) -> None:
        """The table of scores, the link to the page and the latest map of each chain; called inside the outer run.

        Maps of all cycles would be half a megabyte each in Prefect's database; the page of the experiment has them.
        """
        table, page = facts.get("table"), facts.get("page")
        if table:
            rows = [{str(column): value for column, value in row.items()} for row in table]
            self._add(lambda: artifacts.create_table_artifact(rows, key=artifact_key(name, "scores"), description=name))
        if page:
            link = Path(page).resolve().as_uri()
            self._add(lambda: artifacts.create_link_artifact(link, link_text="page", key=artifact_key(name, "page")))
        for chain, (stamp, image) in self._maps.items():
            self._add(partial(_image, image, artifact_key(name, chain, "map"), stamp))

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Wait until all is written, but not for long; to be called before the outermost run ends."""
        if self._given_up.is_set():
            return
        written = threading.Event()
        self._queue.put(written.set)
        if not written.wait(timeout):
            self._given_up.set()
            log.warning("event=artifacts_given_up after_s=%g", timeout)

    def close(self) -> None:
        """End the thread; what is not written yet is given up."""
        self._given_up.set()
        self._queue.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def _add(self, write: Callable[[], object]) -> None:
        context = copy_context()  # tells Prefect which run the artifact belongs to
        self._queue.put(lambda: context.run(_attempt, write))

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if not self._given_up.is_set():
                job()


def artifact_key(*parts: str) -> str:
    """Prefect's keys hold lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def cycle_markdown(name: str, report: Facts) -> str:
    """Say in Markdown how a cycle went."""
    lines = [f"## {name}", ""]
    lines += [f"- {reason}" for reason in report.get("reasons", ())] + [""]
    lines += _table(("observations", "count"), report.get("counts", {}).items())
    scores: Mapping[str, Mapping[str, Any]] = report.get("scores", {})
    metrics = list(dict.fromkeys(metric for row in scores.values() for metric in row))
    lines += _table(
        ("", *metrics), [(kind, *(_number(row.get(metric)) for metric in metrics)) for kind, row in scores.items()]
    )
    if report.get("page"):
        lines.append(f"Page: `{report['page']}`")
    return "\n".join(lines)


def _table(header: tuple[str, ...], rows: Any) -> list[str]:
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return []
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *cells)] + [""]


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _image(path: Path, key: str, stamp: str) -> None:
    """Store a map inside its artifact: a page served over HTTP may not open files of this machine."""
    if path.stat().st_size > LARGEST_IMAGE:
        artifacts.create_link_artifact(path.resolve().as_uri(), link_text=path.name, key=key, description=stamp)
    else:
        data = base64.b64encode(path.read_bytes()).decode()
        artifacts.create_image_artifact(f"data:image/png;base64,{data}", key=key, description=stamp)


def _attempt(write: Callable[[], object]) -> None:
    try:
        write()
    except Exception as error:
        log.warning("event=artifact_failed error=%s: %s (the cycle is not affected)", type(error).__name__, error)
