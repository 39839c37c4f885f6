"""How a command ends: exit code and text of what it did not expect."""

from __future__ import annotations

import errno

import pytest
import typer
from typer.testing import CliRunner

from cycler_da.cli.shell import expected_errors


def ending(error: BaseException) -> tuple[int, str]:
    """Exit code and output of a command in which `error` is raised."""
    app = typer.Typer()

    @app.command()
    def command() -> None:
        with expected_errors():
            raise error

    done = CliRunner().invoke(app)
    return done.exit_code, done.output


def test_a_bug_ends_with_its_traceback_and_the_exit_code_of_a_bug() -> None:
    code, text = ending(ZeroDivisionError("by zero"))
    assert code == 70
    assert "Traceback (most recent call last)" in text and "ZeroDivisionError: by zero" in text


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EIO, 75), (errno.EACCES, 75), (errno.ENOSPC, 73), (errno.EROFS, 73)]
)
def test_an_error_of_the_operating_system_is_one_line_and_an_exit_code_of_its_own(number: int, code: int) -> None:
    found, text = ending(OSError(number, "what it said", "/store/file"))
    assert found == code
    assert text.startswith("FATAL ERROR: ") and "/store/file" in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("error", [typer.Exit(3), typer.BadParameter("no")])
def test_what_a_command_ends_with_by_itself_is_left_as_it_is(error: Exception) -> None:
    assert ending(error)[0] == getattr(error, "exit_code", None)


def test_an_interruption_ends_with_130_and_one_line() -> None:
    code, text = ending(KeyboardInterrupt())
    assert code == 130 and len(text.splitlines()) == 1
