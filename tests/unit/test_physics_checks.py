"""Weights of another physics than an experiment are refused or noted when it is read, never used in silence."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cycler_da.cli import app
from cycler_da.config import load_config, read_spec
from cycler_da.errors import ConfigError, LayoutMismatch, WeightsMismatch
from cycler_da.experiment import Experiment
from cycler_da.physics_checks import check_physics, trained_physics
from cycler_da.setting import load_setting
from cycler_da.systems.lorenz63 import Lorenz63Spec

SPARSE, SOAD = "config/experiments/kolmogorov_sparse.yaml", "config/experiments/qg_soad.yaml"
RING = "config/experiments/lorenz96_half_observed.yaml"
MASF = "data/weights/kolmogorov/masf"


@pytest.fixture(autouse=True)
def _here(repository, monkeypatch):
    monkeypatch.chdir(repository)


def notes(path, *overrides):
    """What is noted of a config, without its weights being loaded."""
    config = load_config(path, overrides)
    nature = read_spec("nature", config.nature, where="nature")
    return check_physics(config, read_spec("system", config.system, where="system"), nature)


def everywhere(option, *blocks):
    return [f"{block}.{option}" for block in blocks]


def test_weights_of_another_physics_than_the_system_are_refused_with_both_values_and_the_ways_out():
    named = everywhere("reynolds=2000", "system", "nature.system", "start.system", "forecast.system")
    with pytest.raises(WeightsMismatch) as caught:
        load_setting(SPARSE, named)
    text = str(caught.value)
    assert f"chains.masf: weights {MASF} know another physics" in text
    assert "reynolds: trained with 1000.0, system has 2000.0" in text
    assert "`cycler train`, data.system" in text and "imperfect model" in text
    with pytest.raises(WeightsMismatch, match=r"beta: trained with 1.5e-11, system has 3e-11"):
        notes(SOAD, "system.beta=3.0e-11", "nature.system.beta=3.0e-11")


def test_a_truth_of_another_physics_than_the_models_is_noted_once_for_each_model():
    assert notes(SPARSE) == ()
    told = notes(SPARSE, "nature.system.drag=0.2")
    assert told[0] == "forecast.system: another physics than nature.system (drag: has 0.1, 0.2 there)"
    assert [re.split(r"[: ]", note)[1] for note in told[1:]] == [
        MASF,
        "data/weights/kolmogorov/incompressible_spectral",
    ]
    assert all("drag: trained with 0.1, 0.2 there" in note for note in told[1:])


def test_weights_of_another_physics_than_the_numerical_model_of_their_chain_are_noted():
    told = notes(SPARSE, *everywhere("drag=0.2", "nature.system", "forecast.system"))
    assert f"weights {MASF}: another physics than forecast.system (drag: trained with 0.1, 0.2 there)" in told
    assert not [note for note in told if note.startswith("forecast.system")]


def test_how_a_system_is_solved_and_written_is_nothing_to_weights():
    changes = everywhere("time_step=0.01", "system", "nature.system", "forecast.system")
    assert notes(SPARSE, *changes, "system.reynolds=1000", "system.unit=60min", "nature.system.forced_wave=4") == ()


def with_card(tmp_path, source, **training):
    folder = tmp_path / "weights"
    shutil.copytree(source, folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "training": training}))
    return folder


@pytest.mark.parametrize("training", [{}, {"config": "made by hand: [1"}, {"config": "data: {kind: radar_proxies}"}])
def test_weights_that_name_no_system_are_compared_with_nothing(tmp_path, training):
    assert trained_physics(with_card(tmp_path, MASF, **training)) is None


def test_a_card_whose_system_cannot_be_read_is_refused_by_name(tmp_path):
    folder = with_card(tmp_path, MASF, config="data: {system: {kind: kolmogorov, renolds: 1000}}")
    with pytest.raises(WeightsMismatch, match=rf"weights {folder}: .* unknown key 'renolds'.* Did you mean 'reynolds'"):
        trained_physics(folder)


def test_what_a_time_unit_stands_for_is_known_by_weights_of_steps_and_not_by_those_of_states():
    step, states = (trained_physics(Path(f"data/weights/lorenz63/{name}")) for name in ("step", "masf_dual_head"))
    assert step is not None and states is not None
    assert step["unit"] == "1000s" != Lorenz63Spec().unit and step["process_noise"] == states["process_noise"] == 1.0
    assert "unit" not in states


def test_check_prints_the_notes_after_the_config_as_comments():
    change = ["--set", "nature.system.forcing=9.0"]
    done = CliRunner().invoke(app, ["check", RING, *change])
    assert done.exit_code == 0, done.output
    told = [line for line in done.stdout.splitlines() if line.startswith("# note: ")]
    assert len(told) == 2 and all("forcing" in line and "9.0 there" in line for line in told)
    assert yaml.safe_load(done.stdout)["nature"]["system"]["forcing"] == 9.0


def test_a_run_warns_and_keeps_the_notes_with_the_experiment(tmp_path, caplog):
    stream = load_config(RING).observations[0].stream
    setting = load_setting(
        RING,
        [
            f"root={tmp_path / 'runs'}",
            f"nature.path={tmp_path / 'nature.nc'}",
            f"observations.{stream}.folder={tmp_path / 'observations'}",
            "nature.system.forcing=9.0",
            "cycles.count=1",
            "nature.steps=4",
        ],
    )
    with caplog.at_level(logging.WARNING), Experiment(setting) as experiment:
        experiment.prepare()
    assert [text for text in caplog.messages if "event=config_note" in text] == [
        f"event=config_note text={note}" for note in setting.notes
    ]
    assert len(setting.notes) == 2
    kept = (experiment.folder / "experiment.yaml").read_text()
    assert all(f"# note: {note}\n" in kept for note in setting.notes)
    assert load_config(experiment.folder / "experiment.yaml").digest == setting.config.digest


def test_weights_and_models_of_another_grid_are_refused_with_the_ways_out():
    with pytest.raises(
        LayoutMismatch, match=r"forecast.system differs .*got 64, expected 128. .* the same size and step"
    ):
        load_setting(SPARSE, ["system.size=128"])
    with pytest.raises(
        LayoutMismatch, match=r"weights .* got 64, expected 128. Weights serve the grid.*`cycler train`"
    ):
        load_setting(SPARSE, everywhere("size=128", "system", "forecast.system"))


def test_a_number_that_yaml_takes_for_text_is_refused_in_a_nature_run_with_a_hint():
    nature = load_config(SOAD, ["nature.system.beta=3e-11"]).nature
    with pytest.raises(ConfigError, match=r"nature.system .*beta is '3e-11'.*write 1.0e-3"):
        read_spec("nature", nature, where="nature")
