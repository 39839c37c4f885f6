"""`cycler calibrate-b` and `cycler single-observation`, as their users run them, on a small system."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import netCDF4
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.products.provenance import sha256_file

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import fault_system as tiny

TRUE_MODEL = {"kind": "numerical", "system": {"kind": "two_layer_qg", "size": tiny.SIZE}}


def cycler(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinySystem:
    return tiny.make_system(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def b_file(system: tiny.TinySystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """B from ten pairs of forecasts of the learned model, valid at the second cycle."""
    path = tmp_path_factory.mktemp("b") / "B.nc"
    said = cycler("calibrate-b", system.config, "--method", "nmc", "--members", 10, "--output", path)
    assert "10 samples" in said
    return path


def variational(system: tiny.TinySystem, folder: Path, b_file: Path, *, kinds: tuple[str, ...]) -> Path:
    """A config whose variational chains forecast with the numerical model, which has no climatology."""
    content = yaml.safe_load(system.config.read_text())
    chains = [{"name": kind, "scheme": {"kind": kind, "b": str(b_file)}, "forecast": TRUE_MODEL} for kind in kinds]
    config = folder / "variational.yaml"
    config.write_text(yaml.safe_dump({**content, "chains": [*content["chains"][:1], *chains]}))
    return config


def test_a_calibrated_b_says_what_it_is_and_has_a_picture(b_file, system):
    with netCDF4.Dataset(b_file) as file:
        assert file.cycler_method == "nmc"
        assert file.cycler_lead == "1d" or file.cycler_lead == "24h"
        assert file.cycler_n_samples == 10
        assert 0 < float(file.variables["q1_length_scale"][...]) < 1.0e6
        assert abs(float(file.variables["cross_correlation"][0, 1])) <= 1
    with Image.open(b_file.with_suffix(".png")) as picture:
        assert picture.size[0] == 1600
        assert "10 samples" in picture.text["Description"]


def test_cycles_with_numerical_forecasts_use_it_and_name_its_digest(system, b_file, tmp_path):
    config, root = variational(system, tmp_path, b_file, kinds=("var3d",)), tmp_path / "store"
    cycler("run", config, "--orchestrator", "none", "--set", f"root={root}", "--set", "plots=false")
    digest = sha256_file(b_file)[:16]
    (folder,) = root.glob("*/var3d/latest")
    assert json.loads((folder / "MANIFEST.json").read_text())["inputs"]["weights"]["covariance"] == digest
    with netCDF4.Dataset(folder / "analysis.nc") as file:
        assert file.cycler_covariance_digest == digest
    # One pair of forecasts from the analyses of its six members: read, and found too few.
    arguments = ["--chain", "var3d", "--method", "nmc", "--members", 8, "--output", tmp_path / "B2.nc"]
    said = cycler("calibrate-b", config, *arguments, "--set", f"root={root}", code=65)
    assert "6 samples; expected at least 8" in said
    changed = tmp_path / "B.nc"
    shutil.copy(b_file, changed)
    with netCDF4.Dataset(changed, "a") as file:
        file.comment = "made again"
    config.write_text(config.read_text().replace(str(b_file), str(changed)))
    said = cycler("run", config, "--orchestrator", "none", "--set", f"root={root}", code=78)
    assert "another" in said


def test_a_chain_that_has_no_cycles_cannot_give_samples(system, tmp_path):
    said = cycler("calibrate-b", system.config, "--chain", "letkf", "--output", tmp_path / "B.nc", "--set",
                  f"root={tmp_path}", code=65)  # fmt: skip
    assert "chain letkf of tiny has no complete cycle; run it first" in said


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--method", "hollingsworth"], 78, "valid: errors, nmc"),
        (["--method", "errors"], 65, "2 samples; expected at least 8"),
        (["--method", "nmc", "--members", 39, "--shape", "homogeneous"], 65, "or use shape isotropic"),
        (["--shape", "local"], 78, "valid there: isotropic, homogeneous"),
        (["--chain", "var4d"], 78, "no chain 'var4d'"),
        (["--lead", "90min"], 78, "whole number of model steps"),
        (["--lead", "10d"], 65, "shorten the lead"),
        (["--members", 1], 78, "expected 2 or more"),
        (["--chain", "letkf", "--lead", "48h"], 78, "leave --lead out"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(system, tmp_path, options, code, said):
    path = tmp_path / "B.nc"
    assert said in cycler("calibrate-b", system.config, "--output", path, *options, code=code)
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_is_kept_unless_forced(system, b_file):
    before = sha256_file(b_file)
    said = cycler("calibrate-b", system.config, "--method", "nmc", "--members", 10, "--output", b_file, code=78)
    assert "exists; give another --output, or --force" in said
    assert sha256_file(b_file) == before


def test_one_observation_is_drawn_for_every_scheme(system, b_file, tmp_path):
    config, out = variational(system, tmp_path, b_file, kinds=("var3d", "envar")), tmp_path / "increments.png"
    lines = cycler("single-observation", config, "--output", out, "--spin-up", 1, "--at", "0.25,0.5").splitlines()
    shares = {line.split(":")[0]: float(line.split()[1]) for line in lines if " of the departure " in line}
    assert {"letkf", "var3d", "envar"} <= shares.keys()
    # The error is half a spread: a scheme with the ensemble's own variance takes 1 / (1 + 0.25) = 0.8 of the departure.
    assert shares["letkf"] == pytest.approx(0.8, abs=0.02)  # inflated by 1.03: 0.809
    assert all(0 < share < 1 for share in shares.values())
    with Image.open(out) as picture:
        assert picture.size[0] == 1600


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at", "middle"], "expected two numbers Y,X"),
        (["--at", "0.5,1.5"], "from 0 to below 1"),
        (["--variable", "q3"], "valid: q1, q2"),
        (["--error", 0], "an error above 0"),
        (["--spin-up", 0], "expected 1 cycle or more"),
    ],
)
def test_an_observation_that_cannot_be_is_refused(system, tmp_path, options, said):
    assert said in cycler("single-observation", system.config, "--output", tmp_path / "x.png", *options, code=78)
