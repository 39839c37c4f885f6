"""Exit codes are an interface: schedulers and operators act on them."""

from __future__ import annotations

import inspect

import pytest

from cycler_da import errors

# BSD sysexits.h: EX_USAGE 64, EX_DATAERR 65, EX_UNAVAILABLE 69, EX_SOFTWARE 70, EX_CANTCREAT 73, EX_TEMPFAIL 75,
# EX_CONFIG 78.
SYSEXITS = {
    "ConfigError": 78,
    "WeightsMismatch": 78,
    "LayoutMismatch": 65,
    "ObsFileError": 65,
    "DataError": 65,
    "MissingProduct": 65,
    "MissingInput": 69,
    "AnalysisFailed": 70,
    "CannotWrite": 73,
    "LockedCycle": 75,
    "PreviousReplaced": 75,
    "LostLock": 75,
}


def test_every_expected_error_has_its_published_exit_code():
    family = {
        name: kind.exit_code
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.CyclerError) and kind is not errors.CyclerError
    }
    assert family == SYSEXITS


def test_outcomes_that_are_not_errors_have_small_distinct_codes():
    assert (errors.EXIT_COMPLETE, errors.EXIT_DEGRADED, errors.EXIT_NO_OBSERVATIONS) == (0, 3, 4)


@pytest.mark.parametrize("name", SYSEXITS)
def test_an_error_keeps_its_text(name):
    error = getattr(errors, name)("file a.nc: got 3, expected 4")
    assert str(error) == "file a.nc: got 3, expected 4"
    assert isinstance(error, errors.CyclerError)
