"""Weights know one system; this compares it with those that an experiment names.

The card of weights holds the config of their training; `data.system` in it is read as every block is, defaults filled
in, and compared by its physics (systems/physics.py). Cards without one (radar, files) are compared with nothing.

- `system` of an experiment is what its models stand for: weights of another physics are refused.
- The truth of a twin experiment may be of another physics than a model, on purpose: that is noted. So is a scheme
  whose weights are of another physics than the numerical model of its chain. See decision 0044.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cycler_da.config import ExperimentConfig
from cycler_da.errors import ConfigError, WeightsMismatch
from cycler_da.generative import bridge_weights, observed_bridge, two_head_weights
from cycler_da.generative.weights import WeightCard, read_card
from cycler_da.nature import SimulatedNatureSpec
from cycler_da.registry import Spec, spec_of_block
from cycler_da.systems.physics import UNIT, other_physics, physics_of

#: Kinds of weights that know states, not steps: what a time unit stands for is nothing to them.
OF_STATES = (bridge_weights.TRANSITION, observed_bridge.TRANSITION, two_head_weights.TRANSITION)

Physics = Mapping[str, Any]


def check_physics(config: ExperimentConfig, system: Spec, nature: Spec | None) -> tuple[str, ...]:
    """Notes of models that differ from the truth, or from each other, in physics; each once.

    Raises WeightsMismatch for weights of another physics than `system`, and for a card whose system cannot be read.
    """
    truth = physics_of(nature.system_spec()) if isinstance(nature, SimulatedNatureSpec) else None
    own, notes = physics_of(system), []
    for chain in config.chains:
        where = "forecast" if chain.forecast is None else f"chains.{chain.name}.forecast"
        forecast = config.forecast if chain.forecast is None else chain.forecast
        solver = _solver(forecast, config.system["kind"], where=f"{where}.system")
        if solver is not None and truth is not None:
            notes += _notes(f"{where}.system", "has", solver, {"nature.system": truth})
        others = {"nature.system": truth, f"{where}.system": solver}
        for folder, trained in _weights((forecast, chain.scheme)):
            _require_same(folder, trained, own, chain=chain.name)
            known = {name: physics for name, physics in others.items() if physics is not None}
            notes += _notes(f"weights {folder}", "trained with", trained, known)
    return tuple(dict.fromkeys(notes))


def trained_physics(folder: Path) -> Physics | None:
    """Physics of the system that weights were trained on, None where their card names none.

    Raises WeightsMismatch for a card whose system cannot be read.
    """
    card = read_card(folder)
    block = _trained_block(card)
    if block is None:
        return None
    try:
        physics = physics_of(spec_of_block("system", block, where="data.system"))
    except ConfigError as error:
        raise WeightsMismatch(f"weights {folder}: the training config in their card cannot be read: {error}") from error
    is_of_states = card.transition.get("kind") in OF_STATES
    return {name: value for name, value in physics.items() if not (is_of_states and name == UNIT)}


def _trained_block(card: WeightCard) -> Mapping[str, Any] | None:
    try:
        content = yaml.safe_load(str(card.training.get("config", "")))
    except yaml.YAMLError:
        return None  # a note by hand, no config
    data = content.get("data") if isinstance(content, dict) else None
    block = data.get("system") if isinstance(data, dict) else None
    return block if isinstance(block, dict) else None


def _weights(blocks: tuple[Mapping[str, Any], ...]) -> Iterator[tuple[str, Physics]]:
    """Folders of weights that blocks name, with the physics that they know."""
    for folder in (block.get("weights") for block in blocks):
        trained = None if folder is None else trained_physics(Path(folder))
        if trained is not None:
            yield str(folder), trained


def _solver(forecast: Mapping[str, Any], kind: str, *, where: str) -> Physics | None:
    """Physics of a numerical forecast model; None for another."""
    if forecast["kind"] != "numerical":
        return None
    return physics_of(spec_of_block("system", {"kind": kind, **forecast.get("system", {})}, where=where))


def _require_same(folder: str, trained: Physics, own: Physics, *, chain: str) -> None:
    differing = other_physics(trained, _like(own, trained))
    if differing:
        told = "; ".join(
            f"{name}: trained with {there}, system has {here}" for name, (there, here) in differing.items()
        )
        raise WeightsMismatch(
            f"chains.{chain}: weights {folder} know another physics than `system`, which says what the models stand "
            f"for: {told}. Train weights for it (`cycler train`, data.system), or set system to what these know: the "
            "truth (nature.system) may still be another, as an imperfect model, which `cycler check` then notes"
        )


def _notes(model: str, verb: str, physics: Physics, others: Mapping[str, Physics]) -> list[str]:
    notes = []
    for name, other in others.items():
        differing = other_physics(physics, _like(other, physics))
        if differing:
            told = "; ".join(f"{key}: {verb} {here}, {there} there" for key, (here, there) in differing.items())
            notes.append(f"{model}: another physics than {name} ({told})")
    return notes


def _like(physics: Physics, other: Physics) -> Physics:
    """Physics without what a time unit stands for, where the other has no such thing."""
    return {name: value for name, value in physics.items() if name != UNIT or UNIT in other}
