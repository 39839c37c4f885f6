"""The runbook names every log event, alert, exit code and command of the operator, so that nobody meets a new one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cycler_da import errors
from cycler_da.cli import app
from cycler_da.operations.alerts import ACTIONS

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
CODE = [path for folder in ("cycler", "flows") for path in (ROOT / folder).rglob("*.py")]


def _found(pattern: str) -> list[str]:
    """What a pattern finds in the whole code, each once."""
    return sorted({name for path in CODE for name in re.findall(pattern, path.read_text(encoding="utf-8"))})


def _exit_codes(of: type[errors.CyclerError]) -> Iterator[int]:
    yield of.exit_code
    for child in of.__subclasses__():
        yield from _exit_codes(child)


def test_there_are_events_and_alerts_to_look_for() -> None:
    assert len(_found(r'"event=([a-z_]+)')) > 20 and len(_found(r'Alert\(f?"([a-z_]+)')) > 5


@pytest.mark.parametrize("event", _found(r'"event=([a-z_]+)'))
def test_every_log_event_is_in_the_runbook(event: str) -> None:
    assert re.search(rf"\b{event}\b", RUNBOOK), f"docs/operations.md does not say what event={event} means"


@pytest.mark.parametrize("alert", _found(r'Alert\(f?"([a-z_]+)'))
def test_every_alert_is_in_the_runbook(alert: str) -> None:
    assert re.search(rf"\| `{alert}[`.]", RUNBOOK), f"docs/operations.md has no line for the alert {alert}"


#: As constants, in words (`typer.Exit(65`), of errors, and those for which an alert says what to do.
EXIT_CODES = {
    *map(int, _found(r"EXIT_[A-Z_]+ *= *(\d+)") + _found(r"Exit\((\d+)")),
    *_exit_codes(errors.CyclerError),
    *ACTIONS,
}


def test_there_are_exit_codes_to_look_for() -> None:
    assert {0, 3, 4, 64, 65, 69, 70, 73, 75, 78, 130} <= EXIT_CODES


@pytest.mark.parametrize("code", sorted(EXIT_CODES))
def test_every_exit_code_is_in_the_runbook(code: int) -> None:
    assert f"\n| {code} |" in RUNBOOK, f"docs/operations.md has no line for exit code {code}"


@pytest.mark.parametrize("name", ["run", "serve", "watch", "status", "verify", "replay", "retain", "check", "drill"])
def test_every_command_of_the_operator_is_in_the_runbook(name: str) -> None:
    assert name in {command.name or command.callback.__name__ for command in app.registered_commands}
    assert re.search(rf"`cycler {name}[ `]", RUNBOOK)
