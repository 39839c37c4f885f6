"""A cycle judges itself: withheld observations are seen by nobody, and what cannot be is not published."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.products.calibration import read_calibration
from cycler_da.products.feedback import read_feedback
from cycler_da.replay.again import replay
from cycler_da.replay.shadow import find_cycle
from cycler_da.schemes.base import Analysis
from cycler_da.schemes.letkf import Letkf
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec
from cycler_da.verification.window import unpack

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import fault_system as tiny
import observation_damage as damage

WITHHELD = [f"observations.{stream}.qc.withheld_fraction=0.4" for stream in tiny.STREAMS]
LAYOUT = TwoLayerQGSpec(size=tiny.SIZE).layout()
STAMP = tiny.time_stamp(tiny.CYCLES[0])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinySystem:
    return tiny.make_system(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def undisturbed(system: tiny.TinySystem, tmp_path_factory: pytest.TempPathFactory) -> tiny.Drill:
    drill = _drill(system, tmp_path_factory.mktemp("undisturbed"))
    run(drill)
    return drill


@pytest.fixture
def drill(system: tiny.TinySystem, tmp_path: Path) -> tiny.Drill:
    return _drill(system, tmp_path)


def _drill(system: tiny.TinySystem, folder: Path) -> tiny.Drill:
    tiny.copy_observations(system, folder)
    return tiny.Drill(system, None, folder, folder / "store")


def run(drill: tiny.Drill, *more: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, drill.arguments(*WITHHELD, *more), env={"COLUMNS": "400"})
    assert done.exit_code == code, done.output
    return done.output


def _ids(drill: tiny.Drill, flag: int) -> set[str]:
    found: set[str] = set()
    for stream in tiny.STREAMS:
        feedback = read_feedback(drill.store().cycle_folder(tiny.CYCLES[0]) / "feedback" / f"{stream}.nc")
        for name in LAYOUT.channels:
            found |= set(feedback["ObsId"][name][feedback["EffectiveQC"][name] == flag])
    return found


def test_no_scheme_is_given_a_withheld_observation(drill: tiny.Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme sees what it is given and no file, so what it is given is all it sees."""
    seen: set[str] = set()
    analyse = Letkf.analyse

    def watched(self: Letkf, prior: object, observations: Observations, **named: object) -> Analysis:
        seen.update(one for batch in observations.batches for one in batch.ids)
        return analyse(self, prior, observations, **named)

    monkeypatch.setattr(Letkf, "analyse", watched)
    run(drill, "cycles.count=1")
    assert len(_ids(drill, 1)) > 20
    assert not seen & _ids(drill, 1)
    assert seen == _ids(drill, 0)


def test_other_values_of_withheld_observations_change_no_bit_of_the_analysis(
    drill: tiny.Drill, undisturbed: tiny.Drill
) -> None:
    withheld = _ids(undisturbed, 1)
    batch = damage.rows(drill.obs_file(), LAYOUT)
    chosen = torch.tensor([one in withheld for one in batch.ids])
    damage.set_values(
        drill.obs_file(), LAYOUT, chosen, batch.values[chosen].numpy() + 0.01 * batch.error[chosen].numpy()
    )
    run(drill, "cycles.count=1")
    assert drill.hashes()[STAMP] == undisturbed.hashes()[STAMP]
    files = [d.store().cycle_folder(tiny.CYCLES[0]) / "diag" / "calibration.json" for d in (drill, undisturbed)]
    passports = [json.loads(file.read_text()) for file in files]
    assert passports[0]["analysis"] != passports[1]["analysis"]


def _swap(batch: ObsBatch) -> ObsBatch:
    """The axes exchanged: y is taken for x (the jets of the tiny system are symmetric in y: flipped, they stay)."""
    return replace(batch, where=replace(batch.where, position=batch.where.position.flip(1)))


WRONG: dict[str, Callable[[ObsBatch], ObsBatch]] = {
    "axes swapped": _swap,
    "x 10": lambda batch: replace(batch, values=10 * batch.values),
    "/ 1000": lambda batch: replace(batch, values=batch.values / 1000),
}


@pytest.fixture(scope="module")
def without_insitu(system: tiny.TinySystem, tmp_path_factory: pytest.TempPathFactory) -> tiny.Drill:
    """The run for which the file never came."""
    drill = _drill(system, tmp_path_factory.mktemp("without"))
    drill.obs_file("insitu").unlink()
    run(drill, "cycles.count=1", code=3)
    return drill


@pytest.mark.parametrize("how", WRONG)
def test_a_file_whose_metadata_lie_is_set_aside_and_the_analysis_is_the_one_without_it(
    drill: tiny.Drill, without_insitu: tiny.Drill, how: str
) -> None:
    damage.rewrite(drill.obs_file("insitu"), LAYOUT, lambda batch: [WRONG[how](batch)])
    output = run(drill, "cycles.count=1", code=3)
    assert drill.hashes()[STAMP] == without_insitu.hashes()[STAMP]
    (reason,) = drill.summary()["degraded"]
    assert reason.startswith("stream insitu: the stream is set aside: insitu/q") and reason in output
    with netCDF4.Dataset(drill.store().cycle_folder(tiny.CYCLES[0]) / "analysis.nc") as file:
        assert file.cycler_degraded and reason in file.comment
    assert "insitu/q1" not in unpack(_window(drill))[-1].deviation  # what is wrong never becomes usual


def test_all_files_wrong_publish_the_background_with_a_label(drill: tiny.Drill) -> None:
    for stream in tiny.STREAMS:
        damage.rewrite(drill.obs_file(stream), LAYOUT, lambda batch: [_swap(batch)])
    run(drill, "cycles.count=1", code=4)
    tiny.require_background_as_analysis(drill)


def test_the_check_can_be_lifted_for_a_chain_that_runs(drill: tiny.Drill) -> None:
    """The way out when the background is wrong and the observations are right; the manifest records it."""
    run(drill, "cycles.count=1")
    run(drill, "observations.insitu.qc.stream_check=null")
    store = drill.store()
    assert store.manifest(tiny.CYCLES[0])["inputs"]["other"] == {"stream_checks": "default"}
    assert store.manifest(tiny.CYCLES[1])["inputs"]["other"] == {"stream_checks": "insitu None"}


def _shift(analysis: Analysis) -> Analysis:
    """An analysis that has moved by half the grid: finite, of the right size, and wrong."""
    values = torch.roll(analysis.ensemble.values, tiny.SIZE // 2, dims=-1)
    return replace(analysis, ensemble=analysis.ensemble.with_values(values))


@pytest.mark.parametrize(("policy", "code"), [("stop", 70), ("use_background", 3)])
def test_an_analysis_that_withheld_observations_cannot_be_of_is_not_published(
    drill: tiny.Drill, monkeypatch: pytest.MonkeyPatch, policy: str, code: int
) -> None:
    analyse = Letkf.analyse
    monkeypatch.setattr(Letkf, "analyse", lambda self, *args, **named: _shift(analyse(self, *args, **named)))
    output = run(drill, "cycles.count=1", f"on_failed_analysis={policy}", code=code)
    assert "withheld observations of stream" in output and "is not to be believed" in output
    if policy == "stop":
        assert drill.store().complete_cycles() == [tiny.START]
    else:
        assert drill.hashes()[STAMP]["analysis.nc"] == drill.hashes()[STAMP]["background.nc"]


def _window(drill: tiny.Drill, time: np.datetime64 = tiny.CYCLES[0]) -> bytes:
    return drill.store().product(time, "diag/window.json.gz").read_bytes()


def test_every_ensemble_file_carries_the_calibration_of_the_cycles_before_it(undisturbed: tiny.Drill) -> None:
    first, second = (undisturbed.store().cycle_folder(time) for time in tiny.CYCLES)
    for name, n_all in (("background.nc", 1), ("analysis.nc", 0)):
        assert set(read_calibration(first / name)) == {"level", "group"}
        passport = read_calibration(second / name)
        assert passport["group"].tolist() == [f"{s}/{v}" for s in sorted(tiny.STREAMS) for v in LAYOUT.channels]
        assert passport["n_cycles"].tolist() == [1] * 4
        assert ((passport["n_observations"] > 15).all()) == bool(n_all)  # the analysis: withheld ones alone
        with netCDF4.Dataset(second / name) as file:
            assert file["calibration"].window == f"{STAMP} to {STAMP}, 1 cycles"
    window = unpack(_window(undisturbed, tiny.CYCLES[1]))
    assert [cycle.stamp for cycle in window] == [tiny.time_stamp(time) for time in tiny.CYCLES]


def test_a_replay_makes_the_same_passport(undisturbed: tiny.Drill) -> None:
    found = replay(find_cycle(undisturbed.store().experiment_folder, "latest"))
    assert found.is_same, found
