"""Single bad observations: each comes back with its flag, and the analysis is the one without them, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import fault_system as tiny
import numpy as np
import observation_damage as damage
import pytest
import torch

from cycler_da.layout import Layout
from cycler_da.obs.base import QC
from cycler_da.products.feedback import read_feedback
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

pytestmark = pytest.mark.faults

#: How many observations of the file go bad.
N_BAD = 5

Spoil = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _all(bad: float) -> Spoil:
    return lambda value, error: np.full_like(value, bad)


BAD: dict[str, tuple[Spoil, QC]] = {
    "NaN": (_all(np.nan), QC.MISSING),
    "infinity": (_all(np.inf), QC.MISSING),
    "-99": (_all(-99.0), QC.MISSING),
    "255": (_all(255.0), QC.FIRST_GUESS),
    "+20 sigma": (lambda value, error: value + 20.0 * error, QC.FIRST_GUESS),
    "-20 sigma": (lambda value, error: value - 20.0 * error, QC.FIRST_GUESS),
    "marks of others": (lambda value, error: np.array([-np.inf, -999.0, -9999.0, 1e20, np.nan]), QC.MISSING),
}


@pytest.fixture(scope="module")
def layout() -> Layout:
    return TwoLayerQGSpec(size=tiny.SIZE).layout()


def _flags(drill: tiny.Drill, stream: str = "insitu") -> dict[str, tuple[int, str]]:
    """Flag and reason of every observation by its identity."""
    path = drill.store().cycle_folder(tiny.CYCLES[0]) / "feedback" / f"{stream}.nc"
    groups = read_feedback(path)
    return {
        str(key): (int(flag), str(reason))
        for name in groups["EffectiveQC"]
        for key, flag, reason in zip(
            groups["ObsId"][name], groups["EffectiveQC"][name], groups["Reason"][name], strict=True
        )
        if key
    }


@pytest.fixture(scope="module")
def good_ids(make_drill: Callable[[], tiny.Drill]) -> dict[str, int]:
    """Flag of every observation in the undisturbed run."""
    drill = make_drill()
    assert drill.run("cycles.count=1").code == 0
    return {key: flag for key, (flag, _) in _flags(drill).items()}


@pytest.fixture(scope="module")
def chosen(make_drill: Callable[[], tiny.Drill], layout: Layout, good_ids: dict[str, int]) -> torch.Tensor:
    """Which observations of the file go bad: some that are used when they are good."""
    batch = damage.rows(make_drill().obs_file(), layout)
    used = np.flatnonzero([good_ids[key] == QC.USED for key in batch.ids.tolist()])
    mask = torch.zeros(len(batch), dtype=torch.bool)
    mask[torch.from_numpy(used[:: len(used) // N_BAD][:N_BAD].copy())] = True
    return mask


@pytest.fixture(scope="module")
def without_chosen(make_drill: Callable[[], tiny.Drill], layout: Layout, chosen: torch.Tensor) -> tiny.Hashes:
    """The run for which the chosen observations never came."""
    drill = make_drill()
    damage.keep(drill.obs_file(), layout, ~chosen)
    assert drill.run("cycles.count=1").code == 0
    return drill.hashes()


@pytest.mark.parametrize("what", BAD)
def test_bad_values_are_rejected_one_by_one_and_change_nothing_else(
    drill: tiny.Drill,
    layout: Layout,
    good_ids: dict[str, int],
    chosen: torch.Tensor,
    without_chosen: tiny.Hashes,
    what: str,
) -> None:
    spoil, flag = BAD[what]
    batch = damage.rows(drill.obs_file(), layout)
    bad_ids = batch.ids[chosen.numpy()]
    damage.set_values(
        drill.obs_file(), layout, chosen, spoil(batch.values[chosen].numpy(), batch.error[chosen].numpy())
    )
    result = drill.run("cycles.count=1")
    assert result.code == 0, result.output
    assert drill.hashes() == without_chosen
    flags = _flags(drill)
    assert {flags[key][0] for key in bad_ids} == {flag}
    assert all(flags[key][1] for key in bad_ids)  # each with a reason
    assert {key: entry[0] for key, entry in flags.items() if key not in set(bad_ids)} == {
        key: number for key, number in good_ids.items() if key not in set(bad_ids)
    }
    assert drill.summary()["counts"][flag.name] >= N_BAD


def test_an_observation_that_is_not_there_changes_the_analysis(
    without_chosen: tiny.Hashes, undisturbed: tiny.Hashes
) -> None:
    """The drills above compare with something: good observations do change the analysis."""
    stamp = tiny.time_stamp(tiny.CYCLES[0])
    assert without_chosen[stamp]["background.nc"] == undisturbed[stamp]["background.nc"]
    for name in ("q1", "q2"):
        for member, value in undisturbed[stamp]["analysis.nc"][name].items():
            assert without_chosen[stamp]["analysis.nc"][name][member] != value


@pytest.mark.parametrize("chain", [tiny.LETKF, tiny.INTERPOLANT], ids=lambda chain: chain["name"])
def test_valid_files_without_observations_publish_the_background_with_a_label(
    drill: tiny.Drill, layout: Layout, chain: dict
) -> None:
    for stream in tiny.STREAMS:
        damage.rewrite(drill.obs_file(stream), layout, lambda batch: [])
    result = drill.run("cycles.count=1", f"chains={[chain]}")
    assert result.code == 4, result.output
    tiny.require_background_as_analysis(drill, chain=chain["name"])
    assert (drill.store(chain["name"]).cycle_folder(tiny.CYCLES[0]) / "obs" / "in.insitu.nc").is_file()


def test_one_file_without_observations_is_no_fault(drill: tiny.Drill, layout: Layout) -> None:
    damage.rewrite(drill.obs_file("buoys"), layout, lambda batch: [])
    result = drill.run("cycles.count=1")
    assert result.code == 0, result.output
    assert drill.summary()["degraded"] == []


def test_one_observation_alone_is_used(drill: tiny.Drill, layout: Layout) -> None:
    damage.rewrite(drill.obs_file("buoys"), layout, lambda batch: [])
    damage.keep(drill.obs_file("insitu"), layout, torch.arange(len(damage.rows(drill.obs_file(), layout))) == 7)
    result = drill.run("cycles.count=1")
    assert result.code == 0, result.output
    assert drill.summary()["counts"] == {"USED": 1}
    hashes = drill.hashes()[tiny.time_stamp(tiny.CYCLES[0])]
    assert hashes["analysis.nc"] != hashes["background.nc"]


def test_when_all_are_rejected_the_background_is_published_with_a_label(drill: tiny.Drill) -> None:
    nothing_passes = [f"observations.{stream}.qc.bounds={{q1: [1, 2], q2: [1, 2]}}" for stream in tiny.STREAMS]
    result = drill.run("cycles.count=1", *nothing_passes)
    assert result.code == 4, result.output
    tiny.require_background_as_analysis(drill)
    assert set(drill.summary()["counts"]) == {"BOUNDS"}
    assert {flag for flag, _ in _flags(drill).values()} == {int(QC.BOUNDS)}


def test_every_observation_twice_counts_once(drill: tiny.Drill, layout: Layout, undisturbed: tiny.Hashes) -> None:
    n_once = len(damage.rows(drill.obs_file(), layout))
    damage.rewrite(drill.obs_file(), layout, lambda batch: [batch, batch])
    assert len(damage.rows(drill.obs_file(), layout)) == 2 * n_once
    result = drill.run("cycles.count=1")
    assert result.code == 0, result.output
    assert drill.hashes() == dict(list(undisturbed.items())[:2])
    assert drill.summary()["counts"]["THINNED"] >= n_once


def test_the_file_of_one_stream_delivered_as_another_one_counts_once(make_drill: Callable[[], tiny.Drill]) -> None:
    once, twice = make_drill(), make_drill()
    once.obs_file("buoys").unlink()
    twice.obs_file("buoys").write_bytes(twice.obs_file("insitu").read_bytes())
    results = once.server.run_together([once.job("cycles.count=1"), twice.job("cycles.count=1")])
    assert [result.code for result in results] == [3, 0], results
    counts = twice.summary()["counts"]
    assert counts["USED"] == counts["THINNED"] == once.summary()["counts"]["USED"]


@pytest.mark.parametrize("by", [np.timedelta64(-1, "D"), np.timedelta64(1, "D"), np.timedelta64(-365, "D")], ids=str)
def test_observations_of_another_day_are_rejected_for_their_time(
    drill: tiny.Drill, layout: Layout, by: np.timedelta64
) -> None:
    for stream in tiny.STREAMS:
        damage.shift_time(drill.obs_file(stream), layout, by)
    result = drill.run("cycles.count=1")
    assert result.code == 4, result.output
    tiny.require_background_as_analysis(drill)
    flags = _flags(drill)
    assert {flag for flag, _ in flags.values()} == {int(QC.DOMAIN)}
    assert all("is outside (2020-01-01T00:00:00Z, 2020-01-02T00:00:00Z]" in reason for _, reason in flags.values())


def test_the_file_of_another_day_under_this_days_name_is_rejected(drill: tiny.Drill) -> None:
    for stream in tiny.STREAMS:
        drill.obs_file(stream).write_bytes(drill.obs_file(stream, tiny.CYCLES[1]).read_bytes())
    result = drill.run("cycles.count=1")
    assert result.code == 4, result.output
    tiny.require_background_as_analysis(drill)
