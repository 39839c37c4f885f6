"""The one family of expected errors, and the exit code of each.

Everything below `CyclerError` is a condition an operator can act on: it is shown without a traceback.
Any other exception is a bug and keeps its traceback. Exit codes follow BSD sysexits where one fits.
"""

from __future__ import annotations

EXIT_COMPLETE = 0
EXIT_DEGRADED = 3
EXIT_NO_OBSERVATIONS = 4
EXIT_USAGE = 64
EXIT_INTERNAL = 70
EXIT_TEMPORARY = 75


class CyclerError(Exception):
    """An expected failure: what was attempted, what was found, what was expected, what to do."""

    exit_code = EXIT_INTERNAL


def exit_code_of(error: BaseException) -> int:
    """Exit code of what ended a run: its own, 75 of the operating system, 70 of a bug."""
    code: int = getattr(error, "exit_code", EXIT_TEMPORARY if isinstance(error, OSError) else EXIT_INTERNAL)
    return code


class ConfigError(CyclerError):
    """A config file or option that cannot be used (unknown key, wrong type, contradiction)."""

    exit_code = 78


class LayoutMismatch(CyclerError):
    """Two fields, weights or files that do not share variables, grid or step."""

    exit_code = 65


class ObsFileError(CyclerError):
    """An observation file that cannot be read or breaks the observation contract."""

    exit_code = 65


class DataError(CyclerError):
    """A field file that cannot be read, is damaged or holds values that no field can have."""

    exit_code = 65


class MissingInput(CyclerError):
    """A required input that is not there (nature file, radar data, previous cycle)."""

    exit_code = 69


class WeightsMismatch(CyclerError):
    """Weights whose hash, layout or network is not the one asked for."""

    exit_code = 78


class MissingProduct(CyclerError):
    """A product of an earlier cycle that should be in the store and is not, or fails its checksum."""

    exit_code = 65


class AnalysisFailed(CyclerError):
    """An analysis that is not finite or not plausible; nothing of it is published."""

    exit_code = EXIT_INTERNAL


class CannotWrite(CyclerError):
    """The store refuses a write: disk full, quota, permission, read-only file system."""

    exit_code = 73


class LockedCycle(CyclerError):
    """Another run owns this cycle; try again later."""

    exit_code = 75


class PreviousReplaced(LockedCycle):
    """Another run has made the cycle before this one again meanwhile; the next run follows the new one."""


class LostLock(LockedCycle):
    """This run lost its lock to a newer one and must not publish."""
