"""A stage that fails because another run has taken its cycle says that, and not what it missed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cycler_da.cycle.running import run_stage
from cycler_da.errors import LostLock, MissingProduct


class _Cleared:
    """A store whose work folder another run has emptied."""

    def stage_is_done(self, time, name, *, key):
        raise MissingProduct("stage background has left no marker")


class _Lock:
    def __init__(self, is_held: bool) -> None:
        self.is_held = is_held

    def require_held(self) -> None:
        if not self.is_held:
            raise LostLock("lost to token 2")


@pytest.mark.parametrize(("is_held", "expected"), [(False, LostLock), (True, MissingProduct)])
def test_the_lost_lock_is_the_reason_when_it_is(is_held, expected):
    work = SimpleNamespace(store=_Cleared(), lock=_Lock(is_held), time=None, key="k")
    with pytest.raises(expected) as caught:
        run_stage(work, "assimilate")
    assert caught.type is expected
