"""Weights and configs that cannot be right stop a run before its first step, with exit code 78."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fault_system as tiny
import pytest
import yaml

pytestmark = pytest.mark.faults


def _weights(drill: tiny.Drill) -> Path:
    """A copy of the weights that may be damaged."""
    copy = drill.folder / "weights"
    shutil.copytree(drill.system.folder / "weights", copy)
    return copy


def _flip(path: Path, position: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def _edit_card(folder: Path, change: Callable[[dict], object]) -> None:
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one bit flipped": (lambda folder: _flip(folder / "weights.safetensors"), "its card says"),
    "cut short": (
        lambda folder: (folder / "weights.safetensors").write_bytes(
            (folder / "weights.safetensors").read_bytes()[:1000]
        ),
        "its card says",
    ),
    "weights gone": (lambda folder: (folder / "weights.safetensors").unlink(), "missing beside its card"),
    "card gone": (lambda folder: (folder / "card.json").unlink(), "no card.json there"),
    "card cut short": (lambda folder: (folder / "card.json").write_text('{"name": "ti'), "cannot be read"),
    "card of another network": (
        lambda folder: _edit_card(folder, lambda card: card["network"]["arguments"].update(products=3)),
        "do not fit network",
    ),
    "card of an unknown network": (
        lambda folder: _edit_card(folder, lambda card: card["network"].update(kind="quadratic")),
        "valid: ",
    ),
}


def _nothing_ran(drill: tiny.Drill, result: tiny.Result, code: int = 78) -> None:
    assert result.code == code, result.output
    assert "FATAL ERROR" in result.output and "Traceback" not in result.output
    assert not drill.root.exists()


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_weights_stop_a_run_before_its_first_step(drill: tiny.Drill, how: str) -> None:
    weights = _weights(drill)
    damage, text = DAMAGED[how]
    damage(weights)
    result = drill.run(f"forecast.weights={weights}")
    _nothing_ran(drill, result)
    assert text in result.output and str(weights) in result.output


def test_weights_with_another_hash_than_the_config_asks_for_are_refused(drill: tiny.Drill) -> None:
    result = drill.run("forecast.sha256=0123456789abcdef")
    _nothing_ran(drill, result)
    assert "the config says 0123456789abcdef" in result.output


def test_weights_for_another_grid_are_refused_by_name(drill: tiny.Drill) -> None:
    result = drill.run("system.size=32")
    _nothing_ran(drill, result, code=65)
    assert f"layout of weights {drill.system.folder / 'weights'} differs at axes[0]" in result.output


def test_weights_of_another_physics_are_refused_with_both_values(drill: tiny.Drill) -> None:
    weights = _weights(drill)
    trained = "data: {system: {kind: two_layer_qg, size: 16, beta: 3.0e-11}}"
    _edit_card(weights, lambda card: card["training"].update(config=trained))
    result = drill.run(f"forecast.weights={weights}")
    _nothing_ran(drill, result)
    assert f"weights {weights} know another physics" in result.output
    assert "beta: trained with 3e-11, system has 1.5e-11" in result.output


def test_other_weights_do_not_continue_a_chain(drill: tiny.Drill, undisturbed: tiny.Hashes) -> None:
    """The config says the same, the folder of weights holds others."""
    weights = _weights(drill)
    name = f"forecast.weights={weights}"
    assert drill.run(name, "cycles.count=1").code == 0
    before = drill.hashes()
    tiny.save_tiny_weights(weights, seed=1)
    result = drill.run(name)
    assert result.code == 78, result.output
    assert "put the earlier weights back" in result.output
    assert drill.hashes() == before


UNKNOWN = {
    "cycels.count=3": ("cycels: unknown key", "Did you mean 'cycles'?"),
    "ensemble.member=8": ("ensemble.member: unknown key", "Did you mean 'members'?"),
    "forecast.weigths=x": ("weigths: unknown key", "Did you mean 'weights'?"),
    "chains.letkf.scheme.inflaton=1.1": ("inflaton: unknown key", "Did you mean 'inflation'?"),
    "observations.insitu.qc.backgroundcheck=5": ("backgroundcheck: unknown key", "Did you mean 'background_check'?"),
    "executor={kind: local, worker: 2}": ("worker: unknown key", "Did you mean 'workers'?"),
}


@pytest.mark.parametrize("setting", UNKNOWN)
def test_an_unknown_key_is_refused_with_the_nearest_name(drill: tiny.Drill, setting: str) -> None:
    result = drill.run(setting)
    _nothing_ran(drill, result)
    for text in UNKNOWN[setting]:
        assert text in result.output


def test_an_unknown_key_in_a_file_is_refused_too(drill: tiny.Drill) -> None:
    content = yaml.safe_load(drill.system.config.read_text())
    path = drill.folder / "typo.yaml"
    path.write_text(yaml.safe_dump({**content, "plotz": True}))
    result = drill.command("run", str(path), "--orchestrator", "none", "--set", f"root={drill.root}")
    _nothing_ran(drill, result)
    assert "plotz: unknown key" in result.output and "Did you mean 'plots'?" in result.output


WRONG = {
    "chains.letkf.scheme.kind=letfk": "letkf",  # the valid name is listed
    "ensemble.members=many": "ensemble.members",
    "ensemble.members=1": "ensemble.members",
    "cycles.start=yesterday": "cycles.start",
    "cycles.every=25h": "cycles.every",
    "observations.insitu.qc.bounds={q9: [0, 1]}": "q9",
    "observations.insitu.operator.kind=point": "points",
    "chains=[]": "chains",
    "seed=": "seed",
    "executor.kind=slurm": "serial",
    "verification.scale={q9: 1.0}": "q9",
    "verification.scale={q1: 1.0}": "q2",
    "verification.scale={}": "verification.scale is empty",
    "verification.scale={q1: 1.0, q2: 0.0}": "verification.scale.q2",
    "verification.thresholds={q9: [1.0]}": "q9",
}


@pytest.mark.parametrize("setting", WRONG)
def test_a_value_that_cannot_be_right_is_refused(drill: tiny.Drill, setting: str) -> None:
    result = drill.run(setting)
    _nothing_ran(drill, result)
    assert WRONG[setting] in result.output


def test_a_config_that_is_no_yaml_is_refused(drill: tiny.Drill) -> None:
    path = drill.folder / "broken.yaml"
    for text in ("name: [tiny\n", "- a\n- list\n", "", "\x00\x01"):
        path.write_text(text)
        result = drill.command("run", str(path), "--orchestrator", "none")
        assert result.code == 78, result.output
        assert "Traceback" not in result.output and str(path) in result.output


def test_wrong_usage_ends_with_64(drill: tiny.Drill) -> None:
    for arguments in (["run"], ["rum"], ["run", str(drill.system.config), "--no-such-option"]):
        result = drill.command(*arguments)
        assert result.code == 64, result.output
