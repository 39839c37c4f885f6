"""The command line: quick help, plain answers for programs, clear messages and exit codes for people."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import cycler_da
from cycler_da.cli import app
from cycler_da.products.manifest import array_hashes

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import fault_system as tiny

COMMANDS = {"run", "serve", "check", "status", "verify", "version", "nature", "observe", "train", "plot", "assimilate"}
COMMANDS |= {
    "bench",
    "calibrate-b",
    "data",
    "drill",
    "impact",
    "innovations",
    "replay",
    "single-observation",
    "tune",
    "whatif",
}


def cycler(*arguments: object, code: int = 0) -> str:
    """Run a command in this process; returns what it said on standard output."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> tiny.TinySystem:
    return tiny.make_system(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def experiment(system: tiny.TinySystem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two complete cycles, in the second of which a stream was missing."""
    folder = tmp_path_factory.mktemp("drill")
    tiny.copy_observations(system, folder)
    drill = tiny.Drill(system, None, folder, folder / "store")
    drill.obs_file("buoys", tiny.CYCLES[1]).unlink()
    cycler(*drill.arguments(), code=3)
    return drill.root / "tiny"


def test_help_lists_every_command_and_imports_neither_torch_nor_prefect():
    program = (
        "import sys\n"
        "from cycler_da.cli import app\n"
        "try:\n"
        "    app(['--help'])\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'prefect', 'xarray', 'netCDF4', 'dask', 'distributed', 'matplotlib', 'numpy.random'}\n"
        "    print('imported:', *sorted(heavy & set(sys.modules)))\n"
        "    sys.exit(end.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *text, imported = done.stdout.splitlines()
    assert imported.split() in (["imported:"], ["imported:", "numpy.random"])
    listed = {line.split()[0] for line in text if line.startswith("  ") and line.split()}
    assert listed >= COMMANDS


def test_python_m_is_the_same_program():
    done = subprocess.run([sys.executable, "-m", "cycler_da", "--help"], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout and "assimilate" in done.stdout


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command):
    text = cycler(command, "--help")
    assert f"cycler {command}" in text or "Usage" in text
    assert text.count("\n") > 5


@pytest.mark.parametrize(
    "arguments",
    [[], ["rum"], ["run"], ["run", "a.yaml", "--no-such"], ["status"], ["assimilate"], ["verify", "a", "b"]],
)
def test_wrong_usage_ends_with_64(arguments):
    cycler(*arguments, code=64)


def test_version_names_code_and_libraries():
    text = cycler("version")
    assert text.startswith(f"cycler {cycler_da.__version__} (")
    assert {"python:", "torch:", "numpy:"} <= set(text.split())


def test_check_prints_a_config_that_is_the_same_experiment(system, tmp_path):
    text = cycler("check", system.config)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(text)
    assert cycler("check", resolved) == text
    content = yaml.safe_load(text)
    assert content["ensemble"] == {"members": tiny.MEMBERS, "batch": 2}
    assert content["cycles"]["window"] is None  # a default, written out
    assert "# chain letkf: scheme letkf, model " in text


def test_check_applies_settings(system):
    text = cycler("check", system.config, "--set", "ensemble.members=9", "--set", "chains.letkf.scheme.inflation=1.5")
    content = yaml.safe_load(text)
    assert content["ensemble"]["members"] == 9
    assert content["chains"][0]["scheme"]["inflation"] == 1.5


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("ensembl.members=9", "Did you mean 'ensemble'?"),
        ("chains.letfk.scheme.inflation=1.5", "valid: letkf"),
        ("seed", "write key.subkey=value"),
        ("seed=[1", "is not a YAML value"),
        ("forecast.weights=nowhere", "no card.json there"),
    ],
)
def test_check_refuses_what_a_run_would_refuse(system, setting, text):
    assert text in cycler("check", system.config, "--set", setting, code=78)


def test_a_config_that_does_not_exist_is_named(tmp_path):
    text = cycler("check", tmp_path / "absent.yaml", code=78)
    assert f"FATAL ERROR: config {tmp_path / 'absent.yaml'} does not exist" in text


def test_status_is_one_line_for_each_chain(experiment):
    (line,) = cycler("status", experiment).splitlines()
    assert line.startswith("letkf: 2020-01-03T00:00:00Z (3 cycles, data ")
    assert "USED" in line and "stream buoys is missing" in line


def test_status_as_json_says_all_that_a_watcher_needs(experiment):
    content = json.loads(cycler("status", experiment, "--json"))
    assert content["experiment"] == "tiny"
    facts = content["chains"]["letkf"]
    assert facts["latest"] == "2020-01-03T00:00:00Z" and facts["n_complete"] == 3
    assert facts["exit_code"] == 3 and len(facts["degraded"]) == 1
    assert facts["data_age_seconds"] > 0 and facts["counts"]["USED"] > 10
    assert Path(facts["folder"]).is_dir() and len(facts["manifest_sha256"]) == 64


def test_status_of_a_folder_without_cycles_is_an_error(tmp_path):
    assert "holds no chain with cycles" in cycler("status", tmp_path, code=69)


def test_verify_finds_nothing_in_a_whole_experiment(experiment):
    assert cycler("verify", experiment) == ""


def test_verify_lists_what_is_damaged(system, tmp_path):
    cycler("run", system.config, "--orchestrator", "none", "--set", f"root={tmp_path}", "--set", "cycles.count=1")
    path = tmp_path / "tiny" / "letkf" / "cycles" / "20200102T0000Z" / "increment.nc"
    path.write_bytes(path.read_bytes()[:-1])
    text = cycler("verify", tmp_path / "tiny", code=65)
    assert f"letkf: {path}: the size is" in text
    assert "2 cycles verified, 1 problems" in text


def test_nature_and_observe_make_only_what_is_missing(system, tmp_path):
    folders = [f"observations.{stream}.folder={tmp_path}" for stream in tiny.STREAMS]
    settings = [word for setting in folders for word in ("--set", setting)]
    drawing = system.folder / "drawing.yaml"
    assert cycler("nature", drawing).strip() == str(system.folder / "nature.nc")
    drawn = cycler("observe", drawing, *settings).split()
    assert sorted(drawn) == sorted(str(path) for path in tmp_path.iterdir())
    assert len(drawn) == len(tiny.STREAMS) * len(tiny.CYCLES)
    assert cycler("observe", drawing, *settings) == ""
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (system.observations / path.name).read_bytes()


def test_observe_without_anything_to_draw_is_an_error(system):
    assert "no stream has a `draw` block" in cycler("observe", system.config, code=78)


def test_plot_without_a_cycle_is_an_error(tmp_path):
    assert "is neither a cycle" in cycler("plot", tmp_path, code=69)


def test_plot_writes_the_page_of_an_experiment_again(experiment):
    page = experiment / "index.html"
    page.unlink()
    assert cycler("plot", experiment).strip() == str(page)
    assert page.is_file()


def test_bench_lists_benchmarks_with_a_summary():
    lines = cycler("bench").splitlines()
    assert lines and all(len(line.split()) > 3 for line in lines)


def test_an_unknown_benchmark_is_refused_with_the_valid_names():
    listed = [line.split()[0] for line in cycler("bench").splitlines()]
    text = cycler("bench", "no_such", code=78)
    assert all(name in text for name in listed)


def test_an_unknown_orchestrator_is_refused_with_the_valid_names(system, tmp_path):
    text = cycler("run", system.config, "--orchestrator", "airflow", "--set", f"root={tmp_path}", code=78)
    assert "no orchestrator 'airflow'; valid: " in text and "prefect" in text


def test_train_refuses_a_config_with_an_unknown_key(tmp_path, repository):
    content = yaml.safe_load((repository / "config" / "train" / "qg.yaml").read_text())
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({**content, "fits": {}}))
    assert "Did you mean 'fit'?" in cycler("train", path, code=78)


@pytest.mark.parametrize("chain", [tiny.LETKF, tiny.INTERPOLANT], ids=lambda chain: chain["name"])
def test_assimilate_makes_the_analysis_of_a_cycle_again_bit_for_bit(system, tmp_path, chain):
    tiny.copy_observations(system, tmp_path)
    drill = tiny.Drill(system, None, tmp_path, tmp_path / "store")
    drill.obs_file("buoys").unlink()
    withheld = "observations.insitu.qc.withheld_fraction=0.2"
    cycler(*drill.arguments("cycles.count=1", f"chains={[chain]}", withheld), code=3)
    cycles = drill.store(chain["name"]).chain_folder / "cycles"
    cycle, output = cycles / "20200102T0000Z", tmp_path / "analysis.nc"
    options = {"localization_radius_cells": 3, "qc.withheld_fraction": 0.2}
    options |= {key: value for key, value in chain["scheme"].items() if key != "kind"}
    settings = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    files = {"background": cycle / "background.nc", "observations": cycle / "obs" / "in.insitu.nc", "output": output}
    files |= {"previous": cycles / "20200101T0000Z" / "analysis.nc", "forecast": system.folder / "weights"}
    names = [word for key, path in files.items() for word in (f"--{key}", path)]
    cycler("assimilate", *names, "--scheme", chain["scheme"]["kind"], "--seed", 1, *settings)
    assert array_hashes(output) == array_hashes(cycle / "analysis.nc")
