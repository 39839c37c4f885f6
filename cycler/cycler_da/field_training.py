"""Training of a transition of fields on a torus: pairs of a simulated system, fit, covariance of the residual, scores.

The covariance of what the mean network leaves is measured on held-out pairs, and with it that of the states:

    shells   one block for each shell of wave numbers: homogeneous and isotropic (`generative.covariance`)
    waves    one 2 x 2 block for each wave: sine and cosine apart (`generative.wave_covariance`); one variable

For a system that noise drives, the residual is that noise, its covariance half of the model, and the card has the
scores of the true model's own ensemble beside those of the learned one.

A step that is long beside the time in which an eddy turns is learned by parts: with `parts: n` pairs are of an n-th of
a model step, and the network of a whole one is that of a part, repeated n times. It is fitted as a part (n times
cheaper, and no gradient runs through n of them); covariances and scores are those of whole steps. Where noise drives
the system, a part has its own, and whole steps of the network know that of no part: what is left is their residual.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from cycler_da.errors import ConfigError
from cycler_da.generative.covariance import Covariance, shells_from_residuals, spectral_from_shells
from cycler_da.generative.ensemble_evaluation import EnsembleStep, score_ensembles, transition_step
from cycler_da.generative.evaluation import evaluate_transition
from cycler_da.generative.kicks import noise_blocks
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.pairs import Pairs, SimulatedPairs
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings, residuals_of, train
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import wave_blocks, wave_covariance
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.systems.base import ClimateSpec, DrivenDynamics, Dynamics, noisy_step
from cycler_da.systems.climate import climate_system

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

COVARIANCES = ("shells", "waves")
#: Leads of the card's ensemble scores, model steps.
_LEADS = (1, 5)


@dataclass(frozen=True, kw_only=True)
class SimulatedData:
    """Where simulated pairs come from."""

    system: Mapping[str, Any]  # kind and options of a numerical system
    seed: int
    trajectories: int = 24
    steps: int = 300
    held_out: int = 8
    spin_up_years: float | None = None  # None: what is usual for the system
    perturbed_fraction: float = 0.5
    perturbation: float = 0.1  # of the scaling's std
    covariance: str = "shells"
    parts: int = 1  # of a model step; pairs to fit are of one part
    early_noise: float = 0.0  # part of the noise that enters before a step (`generative.kicks`)

    def __post_init__(self) -> None:
        self.part_spec()
        if self.covariance not in COVARIANCES:
            raise ConfigError(f"data.covariance is {self.covariance!r}; valid: {', '.join(COVARIANCES)}")
        if not 0.0 <= self.early_noise < 1.0 or (self.early_noise and self.covariance != "waves"):
            raise ConfigError(
                f"data.early_noise is {self.early_noise:g} with covariance {self.covariance}; expected 0, or a part "
                "below 1 with covariance waves"
            )

    def system_spec(self) -> ClimateSpec:
        """The numerical system; raises ConfigError for a kind that cannot be simulated or an unknown option."""
        return climate_system(self.system, where="data.system")

    def part_spec(self) -> ClimateSpec:
        """The system with one part for its model step; raises ConfigError for no whole part."""
        whole = self.system_spec()
        if self.parts == 1:
            return whole
        seconds = int(whole.layout().step / np.timedelta64(1, "s"))
        if self.parts < 1 or seconds % self.parts:
            raise ConfigError(f"data.parts is {self.parts}; expected 1 or more, and a divisor of {seconds} s")
        return climate_system({**self.system, "step": f"{seconds // self.parts}s"}, where="data.system")

    def part(self) -> SteppedWithNoise:
        """One part of a step, of a driven system with its noise, which is not that of the trajectories."""
        return SteppedWithNoise(self.part_spec().build(), Noise(self.seed, 1))


@dataclass(frozen=True)
class Prepared:
    """Pairs and test trajectories, as kept on disk."""

    training: Pairs
    calibration: Pairs
    trajectories: Tensor
    layout: Layout
    facts: Mapping[str, Any] = field(default_factory=dict)


class SteppedWithNoise:
    """Steps of a batch with the system's process noise; a call counts as one more step, so that none repeats."""

    def __init__(self, dynamics: Dynamics, noise: Noise) -> None:
        self.dynamics, self.noise, self.count = dynamics, noise, 0

    def __call__(self, x: Tensor) -> Tensor:
        """Advance by one layout step."""
        self.count += 1
        return noisy_step(self.dynamics, x, self.noise, members=range(len(x)), step=self.count)


def train_fields(
    data: SimulatedData,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    history: int,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None,
    on_message: Callable[[str], None],
) -> TrainedTransition:
    """Make the pairs, fit, measure and score; continues what an earlier call left."""
    fitted = _network_of_a_part(settings, data.parts)
    prepared = _prepare(data, scaling, run_folder, on_message)
    on_message(f"fit {settings.network.kind}: {len(prepared.training)} pairs, {settings.steps} steps")
    validation = _of_parts(prepared.calibration, data) if data.parts > 1 else prepared.calibration
    trained = train(prepared.training, validation, scaling, fitted, folder=run_folder, on_progress=on_progress)
    network, residuals = trained.network, trained.residuals
    if data.parts > 1:
        network = build_network(settings.network)
        network.load_state_dict(trained.network.state_dict())
        residuals = residuals_of(network.eval(), prepared.calibration, scaling)
    states = scaling.to_scaled(prepared.training.targets[::7])
    if data.covariance == "waves":
        kind, measure = "waves", wave_blocks
    else:
        kind, measure = "spectral", shells_from_residuals
    measured = {
        f"covariance.{data.covariance}": measure(residuals),
        f"climatology.{data.covariance}": measure(states),
    }
    transition = Transition(network, scaling, _covariance(data.covariance, measured, prepared.layout), history=history)
    described: dict[str, Any] = {"kind": kind}
    if data.early_noise:
        on_message("noise before the step")
        transition, measured["covariance.waves"] = _kicked(transition, measured["covariance.waves"], data, prepared)
        described["early"] = data.early_noise
    on_message("score on held-out trajectories")
    scores = evaluate_transition(transition, prepared.trajectories)
    dynamics = data.system_spec().build()
    if isinstance(dynamics, DrivenDynamics):
        scores["ensembles"] = _score_beside_truth(transition, dynamics, prepared, scaling)
    return TrainedTransition(
        network=network,
        layout=prepared.layout,
        transition=described,
        measured=measured,
        scores=scores,
        facts=prepared.facts,
        seconds=trained.seconds,
    )


def _network_of_a_part(settings: TrainSettings, parts: int) -> TrainSettings:
    """Settings of the fit of one part; raises ConfigError where the network repeats another number of them."""
    if parts == 1:
        return settings
    network = settings.network
    if network.arguments.get("repeats", 1) != parts:
        raise ConfigError(
            f"data.parts is {parts}, network.repeats {network.arguments.get('repeats', 1)}; expected the same: the "
            "network of a whole step is that of a part, repeated"
        )
    return replace(settings, network=NetworkSpec(network.kind, {**network.arguments, "repeats": 1}))


def _of_parts(pairs: Pairs, data: SimulatedData) -> Pairs:
    """The same starts with the states one part later."""
    part = data.part()
    return Pairs(pairs.frames, torch.cat([part(some) for some in pairs.frames[:, -1].split(64)]))


def _covariance(kind: str, measured: Mapping[str, Tensor], layout: Layout) -> Covariance:
    if kind == "waves":
        return wave_covariance(measured["covariance.waves"])
    return spectral_from_shells(measured["covariance.shells"], layout.grid.shape[-1])


def _kicked(
    transition: Transition, residuals: Tensor, data: SimulatedData, prepared: Prepared
) -> tuple[Transition, Tensor]:
    """The transition with a part of its noise before the step, and the blocks of all of its noise."""

    def mean(states: Tensor) -> Tensor:
        physical = transition.scaling.to_physical(states)[:, None]
        return torch.cat([transition.scaling.to_scaled(transition.mean(part)) for part in physical.split(32)])

    early, starts = data.early_noise, transition.scaling.to_scaled(prepared.calibration.frames[:, -1])
    blocks = noise_blocks(mean, starts, residuals, early=early, measure=wave_blocks, covariance=wave_covariance)
    noise = wave_covariance(blocks)
    parted = replace(transition, residual_covariance=noise.scaled(1.0 - early), early_covariance=noise.scaled(early))
    return parted, blocks


def _score_beside_truth(
    transition: Transition, dynamics: Dynamics, prepared: Prepared, scaling: Scaling
) -> dict[str, Any]:
    noise = Noise(0, 1)

    def true_step(states: Tensor, count: int) -> Tensor:
        return noisy_step(dynamics, states, noise, members=range(len(states)), step=count)

    steps: dict[str, EnsembleStep] = {"learned": transition_step(transition, noise), "true_model": true_step}
    rows: dict[str, Any] = score_ensembles(steps, prepared.trajectories, scaling, leads=_LEADS)
    return rows


def _prepare(data: SimulatedData, scaling: Scaling, folder: Path, on_message: Callable[[str], None]) -> Prepared:
    spec = data.system_spec()
    facts = {"n_trajectories": data.trajectories, "n_steps": data.steps, "seed": data.seed}
    path = folder / "pairs.safetensors"
    wanted = json.dumps([repr(spec), repr(data), repr(scaling)])
    if path.is_file() and path.with_suffix(".json").is_file() and path.with_suffix(".json").read_text() == wanted:
        stored = load_file(path)
        training, calibration = (
            Pairs(stored[f"{name}.frames"], stored[f"{name}.targets"]) for name in ("training", "calibration")
        )
        return Prepared(training, calibration, stored["trajectories"], spec.layout(), facts)
    on_message(f"simulate {data.trajectories + data.held_out} trajectories of {data.steps} steps")
    training, calibration, trajectories = simulate(data, scaling)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "training.frames": training.frames,
        "training.targets": training.targets,
        "calibration.frames": calibration.frames,
        "calibration.targets": calibration.targets,
        "trajectories": trajectories,
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    path.with_suffix(".json").write_text(wanted)
    return Prepared(training, calibration, trajectories, spec.layout(), facts)


def simulate(
    data: SimulatedData, scaling: Scaling
) -> tuple[Pairs, Pairs, Float[Tensor, "trajectory time channel y x"]]:
    """Pairs to fit, pairs for calibration, and test trajectories, from different members."""
    spec = data.system_spec()
    source = SimulatedPairs(
        layout=spec.layout(),
        start=lambda members: spec.spun_up(Noise(data.seed), members=members, years=data.spin_up_years),
        step=SteppedWithNoise(spec.build(), Noise(data.seed)),
        part=None if data.parts == 1 else data.part(),
        scaling=scaling,
        seed=data.seed,
        n_trajectories=data.trajectories,
        n_steps=data.steps,
        n_held_out=data.held_out,
        perturbed_fraction=data.perturbed_fraction,
        perturbation=data.perturbation,
    )
    return source.training(), source.calibration(), source.trajectory()
