"""A cycle made again has the same bits, and what is different is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fault_system as tiny
import netCDF4
import numpy as np
import pytest
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.cold_starts import add_cold_start
from cycler_da.errors import ConfigError, MissingInput, MissingProduct
from cycler_da.products.store import Store
from cycler_da.replay.again import replay
from cycler_da.replay.shadow import find_cycle, sample_cycles

LAST = "20200103T0000Z"


@pytest.fixture
def copy(replayed, tmp_path: Path) -> Path:
    """A copy of the experiment that may be damaged."""
    return Path(shutil.copytree(replayed.root / "tiny", tmp_path / "tiny", symlinks=True))


@pytest.mark.parametrize("chain", ["letkf", "etkf"])
@pytest.mark.parametrize("cycle", ["20200101T0000Z", "20200102T0000Z", LAST])
def test_a_cycle_made_again_has_the_same_bits(replayed, chain: str, cycle: str) -> None:
    found = replay(find_cycle(replayed.root / "tiny", cycle, chain))
    assert found.is_same and not found.origin, found
    assert found.n_members == (12 if cycle == "20200101T0000Z" else 24)


def test_a_replay_writes_nothing_into_the_archive(replayed) -> None:
    before = {path: path.lstat().st_mtime_ns for path in replayed.root.rglob("*")}
    replay(find_cycle(replayed.root / "tiny", LAST, "letkf"))
    assert {path: path.lstat().st_mtime_ns for path in replayed.root.rglob("*")} == before


def test_an_analysis_that_was_edited_is_told_with_its_members_and_blamed_on_the_archive(copy: Path) -> None:
    archived = find_cycle(copy, LAST, "letkf")
    with netCDF4.Dataset(archived.folder / "analysis.nc", "r+") as file:
        file["q1"][2, 0, 3, 4] += 1e-7
    found = replay(archived)
    assert not found.is_same
    assert any("analysis.nc" in line for line in found.damaged)
    (difference,) = [line for line in found.differences if "q1 differs" in line]
    assert difference.startswith("analysis.nc: q1 differs in 1 of 1536 values, members 2, by up to 1e-07 s-1")


def test_an_archived_file_that_cannot_be_read_is_told_and_the_others_are_compared(copy: Path) -> None:
    archived = find_cycle(copy, LAST, "letkf")
    content = (archived.folder / "analysis.nc").read_bytes()
    (archived.folder / "analysis.nc").write_bytes(content[: len(content) // 2])
    found = replay(archived)
    assert any("analysis.nc" in line for line in found.damaged)
    (difference,) = found.differences
    assert difference.startswith("analysis.nc: ") and "cut short" in difference


def test_another_config_is_named_beside_the_differences_that_it_makes(copy: Path) -> None:
    path = copy / "experiment.yaml"
    path.write_text(path.read_text().replace("inflation: 1.03", "inflation: 1.2"))
    found = replay(find_cycle(copy, LAST, "letkf"))
    assert [line.split(" was ")[0] for line in found.origin] == ["config"]
    assert not found.damaged
    files = {line.split(":")[0] for line in found.differences}
    assert {"analysis.nc", "increment.nc", "feedback/insitu.nc"} <= files and "background.nc" not in files


def test_another_version_of_the_code_is_named_even_when_the_bits_are_the_same(copy: Path) -> None:
    archived = find_cycle(copy, LAST, "letkf")
    manifest = json.loads((archived.folder / "MANIFEST.json").read_text())
    manifest["inputs"]["code"] = "0.0.1+g123"
    manifest["environment"]["torch"] = "1.0"
    (archived.folder / "MANIFEST.json").write_text(json.dumps(manifest))
    found = replay(archived)
    assert found.is_same
    assert found.origin[0].startswith("code was 0.0.1+g123, is ")
    assert found.origin[1].startswith("torch was 1.0, is ")


def test_a_cycle_is_made_again_from_the_revision_that_it_was_made_from(copy: Path) -> None:
    """The cycle before was published anew since; its successor was made from the earlier publication."""
    store = Store(copy.parent, "tiny", "letkf")
    before, last = store.complete_cycles()[-2:]
    revision = store.make_revision(before)
    shutil.copytree(revision, store.cycle_folder(before))
    manifest = store.cycle_folder(before) / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"fencing_token": 1', '"fencing_token": 2'))
    assert any("earlier publication" in problem for problem in store.verify(last))
    assert replay(find_cycle(copy, LAST, "letkf")).is_same


def test_a_cycle_whose_predecessor_is_gone_cannot_be_made_again(copy: Path) -> None:
    shutil.rmtree(copy / "letkf" / "cycles" / "20200102T0000Z")
    with pytest.raises(MissingProduct, match="neither in cycles/ nor in revisions/"):
        replay(find_cycle(copy, LAST, "letkf"))


def test_a_damaged_predecessor_is_not_replayed_from(copy: Path) -> None:
    path = copy / "letkf" / "cycles" / "20200102T0000Z" / "analysis.nc"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(MissingProduct, match="is not what was published"):
        replay(find_cycle(copy, LAST, "letkf"))


def test_cycles_are_found_by_stamp_time_or_as_the_latest(replayed) -> None:
    folder = replayed.root / "tiny"
    assert find_cycle(folder, "latest", "etkf") == find_cycle(folder, "2020-01-03T00:00Z", "etkf")
    with pytest.raises(ConfigError, match="choose one with --chain: etkf, letkf"):
        find_cycle(folder, LAST)
    with pytest.raises(ConfigError, match=r"no chain 'enkf'.*valid: etkf, letkf"):
        find_cycle(folder, LAST, "enkf")
    with pytest.raises(MissingProduct, match="is not complete"):
        find_cycle(folder, "20200104T0000Z", "etkf")
    with pytest.raises(MissingInput, match="is no experiment with cycles"):
        find_cycle(replayed.root, LAST)


def test_a_sample_of_cycles_is_seeded_and_never_larger_than_the_archive(replayed) -> None:
    folder = replayed.root / "tiny"
    draw = [one.name for one in sample_cycles(folder, None, count=3, seed=1)]
    assert draw == [one.name for one in sample_cycles(folder, None, count=3, seed=1)]
    assert len(set(draw)) == 3
    assert len(sample_cycles(folder, "etkf", count=99, seed=1)) == 3


def test_the_command_tells_what_was_the_same_and_ends_with_65_when_something_was_not(replayed, copy: Path) -> None:
    command = ["replay", str(replayed.root / "tiny"), "--sample", "2"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("the same bits (") == 2
    (copy / "letkf" / "cycles" / LAST / "diag" / "stats.json").write_text("{}")
    done = CliRunner().invoke(app, ["replay", str(copy), LAST, "--chain", "letkf"])
    assert done.exit_code == 65
    assert "letkf/20200103T0000Z: DIFFERENT" in done.stdout and "diag/stats.json: the bytes differ" in done.stdout
    assert CliRunner().invoke(app, ["replay", str(copy)]).exit_code == 78


def test_a_cold_start_is_made_again_without_the_cycles_before_it(replayed, tmp_path: Path) -> None:
    folder = tmp_path / "cold"
    folder.mkdir()
    tiny.copy_observations(replayed.system, folder)
    drill = tiny.Drill(replayed.system, None, folder, folder / "store")
    add_cold_start(drill.root / "tiny", tiny.CYCLES[0], valid_times=np.array(tiny.TIMES))
    done = CliRunner().invoke(app, drill.arguments())
    assert done.exit_code == 3, done.output
    found = replay(find_cycle(drill.root / "tiny", "20200102T0000Z"))
    assert found.is_same, found
