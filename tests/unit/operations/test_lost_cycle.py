"""Another run in the way: one that has taken the cycle, and one that has made the cycle before it again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cycler_da.agenda import Period
from cycler_da.bench.operations.soak_case import CHAIN
from cycler_da.cycle import STAGES
from cycler_da.cycle.running import run_stage
from cycler_da.cycle_plan import run_plan
from cycler_da.errors import LostLock, MissingProduct, PreviousReplaced
from cycler_da.products.failure import read_failure


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


def test_a_cycle_whose_previous_one_is_made_again_meanwhile_is_made_from_the_new_one(full_case, open_case, monkeypatch):
    before, time = full_case.times[1:3]
    experiment, clock = open_case(before)
    run_plan(experiment, pending=experiment.ready)
    clock.time = time
    analyse = STAGES["assimilate"]

    def assimilate(work):
        if work.time == time:
            forced, _ = open_case(time, force=True, period=Period(before, before))
            run_plan(forced)
        return analyse(work)

    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "assimilate", assimilate)
        with pytest.raises(PreviousReplaced, match="20200101T0600Z was made again by another run") as ended:
            run_plan(experiment, pending=experiment.ready)
    assert ended.value.exit_code == 75
    store = experiment.store(CHAIN)
    assert store.complete_cycles() == [*full_case.times[:2]]
    assert read_failure(store.chain_folder) is None  # nothing has failed: the next look makes it
    run_plan(experiment, pending=experiment.ready)
    link = store.manifest(time)["inputs"]["previous_manifest"]["sha256"]
    assert link == store.link_to(before).manifest_sha256
    assert store.verify() == []
