"""One training from a config: make the pairs, fit, measure the residual, score, write weights and card.

Needs torch, numpy, safetensors and a YAML reader alone, so that it runs on a bare GPU machine. Everything
is resumable: the pairs are kept in the run folder, the fit continues from its checkpoint.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from cycler_da.errors import ConfigError
from cycler_da.generative.covariance import shells_from_residuals, spectral_from_shells
from cycler_da.generative.evaluation import evaluate_transition
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.pairs import Pairs, SimulatedPairs
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import Progress, TrainSettings, train
from cycler_da.generative.transition import Transition
from cycler_da.generative.weights import WeightCard, save_weights
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.radar_training import RadarProxies, TrainedTransition, train_radar
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec, spin_up

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SimulatedData:
    """Where simulated pairs come from."""

    system: Mapping[str, Any]  # kind and options of a numerical system
    seed: int
    trajectories: int = 24
    steps: int = 300
    held_out: int = 8
    spin_up_years: float = 4.0
    perturbed_fraction: float = 0.5
    perturbation: float = 0.1  # of the scaling's std

    def __post_init__(self) -> None:
        self.system_spec()

    def system_spec(self) -> TwoLayerQGSpec:
        """The numerical system; raises ConfigError for another kind or an unknown option."""
        options = dict(self.system)
        kind = options.pop("kind", None)
        if kind != "two_layer_qg":
            raise ConfigError(f"data.system.kind is {kind!r}; training pairs can be simulated for: two_layer_qg")
        spec: TwoLayerQGSpec = _strict(TwoLayerQGSpec, options, where="data.system")
        return spec


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training; read from YAML by `read_train_config`."""

    name: str
    out: str  # folder of weights and card
    run_folder: str  # pairs and checkpoint
    data: SimulatedData | RadarProxies
    scaling: Scaling
    network: NetworkSpec
    fit: Mapping[str, Any]
    history: int = 1
    source: str = ""  # the config's own text, for the card

    def settings(self, device: str) -> TrainSettings:
        """Settings of the fit on a device."""
        return _strict(TrainSettings, {**self.fit, "network": self.network, "device": device}, where="fit")


@dataclass(frozen=True)
class Prepared:
    """Pairs and test trajectories, as kept on disk."""

    training: Pairs
    calibration: Pairs
    trajectories: Tensor
    layout: Layout
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_train_config(path: Path) -> TrainConfig:
    """Read a training config strictly; raises ConfigError that names the key and the nearest valid one."""
    import yaml  # not on every training machine's default path; needed only here

    try:
        text = path.read_text()
        raw = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise ConfigError(f"training config {path} does not exist") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"training config {path} is not YAML: {error}") from error
    if not isinstance(raw, Mapping):
        raise ConfigError(f"training config {path}: expected a mapping of keys, got {type(raw).__name__}")
    blocks = dict(raw)
    network = dict(blocks.get("network", {}))
    kind = network.pop("kind", "")
    scaling = {name: tuple(float(value) for value in values) for name, values in blocks.get("scaling", {}).items()}
    blocks["network"] = NetworkSpec(kind, network)
    blocks["scaling"] = _strict(Scaling, scaling, where="scaling")
    blocks["data"] = _read_data(blocks.get("data", {}))
    blocks["source"] = text
    return _strict(TrainConfig, blocks, where=str(path))


def run_training(
    config: TrainConfig,
    *,
    device: str = "cpu",
    code_version: str = "unknown",
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] = lambda text: None,
) -> WeightCard:
    """Run a training to its end and write its weights; continues what an earlier call left."""
    settings, run_folder = config.settings(device), Path(config.run_folder)
    if isinstance(config.data, RadarProxies):
        trained = train_radar(
            config.data,
            config.scaling,
            settings,
            run_folder=run_folder,
            on_progress=on_progress,
            on_message=on_message,
        )
    else:
        trained = _train_simulated(config, config.data, settings, run_folder, on_progress, on_message)
    card = WeightCard(
        name=config.name,
        layout=trained.layout,
        network=config.network,
        scaling=config.scaling,
        history=config.history,
        transition=trained.transition,
        training={
            "config": config.source,
            "code_version": code_version,
            "torch": torch.__version__,
            "device": device,
            "seconds": round(trained.seconds, 1),
            "n_parameters": sum(p.numel() for p in trained.network.parameters()),
            **trained.facts,
        },
        scores=trained.scores,
    )
    return save_weights(Path(config.out), card, state=trained.network.state_dict(), measured=trained.measured)


def _train_simulated(
    config: TrainConfig,
    data: SimulatedData,
    settings: TrainSettings,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None,
    on_message: Callable[[str], None],
) -> TrainedTransition:
    prepared = _prepare(config, data, run_folder, on_message)
    on_message(f"fit {settings.network.kind}: {len(prepared.training)} pairs, {settings.steps} steps")
    trained = train(
        prepared.training, prepared.calibration, config.scaling, settings, folder=run_folder, on_progress=on_progress
    )
    climatology = shells_from_residuals(config.scaling.to_scaled(prepared.training.targets[::7]))
    size = prepared.layout.grid.shape[-1]
    transition = Transition(
        trained.network, config.scaling, spectral_from_shells(trained.covariance_shells, size), history=config.history
    )
    on_message("score on held-out trajectories")
    return TrainedTransition(
        network=trained.network,
        layout=prepared.layout,
        transition={"kind": "spectral"},
        measured={"covariance.shells": trained.covariance_shells, "climatology.shells": climatology},
        scores=evaluate_transition(transition, prepared.trajectories),
        facts=prepared.facts,
        seconds=trained.seconds,
    )


def _read_data(block: Mapping[str, Any]) -> SimulatedData | RadarProxies:
    options = dict(block)
    kind = options.pop("kind", "simulated")
    if kind not in _DATA:
        raise ConfigError(f"data.kind is {kind!r}; valid: {', '.join(sorted(_DATA))}")
    built: SimulatedData | RadarProxies = _strict(_DATA[kind], options, where="data")
    return built


_DATA: Mapping[str, type] = {"simulated": SimulatedData, "radar_proxies": RadarProxies}


def _prepare(config: TrainConfig, data: SimulatedData, folder: Path, on_message: Callable[[str], None]) -> Prepared:
    spec = data.system_spec()
    facts = {"n_trajectories": data.trajectories, "n_steps": data.steps, "seed": data.seed}
    path = folder / "pairs.safetensors"
    wanted = json.dumps([repr(spec), repr(data), repr(config.scaling)])
    if path.is_file() and path.with_suffix(".json").is_file() and path.with_suffix(".json").read_text() == wanted:
        stored = load_file(path)
        training, calibration = (
            Pairs(stored[f"{name}.frames"], stored[f"{name}.targets"]) for name in ("training", "calibration")
        )
        return Prepared(training, calibration, stored["trajectories"], spec.layout(), facts)
    on_message(f"simulate {data.trajectories + data.held_out} trajectories of {data.steps} steps")
    solver = spec.build()
    source = SimulatedPairs(
        layout=spec.layout(),
        start=lambda members: spin_up(solver, Noise(data.seed), members=members, years=data.spin_up_years),
        step=solver.step,
        scaling=config.scaling,
        seed=data.seed,
        n_trajectories=data.trajectories,
        n_steps=data.steps,
        n_held_out=data.held_out,
        perturbed_fraction=data.perturbed_fraction,
        perturbation=data.perturbation,
    )
    training, calibration, trajectories = source.training(), source.calibration(), source.trajectory()
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


def _strict(cls: type, options: Mapping[str, Any], *, where: str) -> Any:
    known = [f.name for f in fields(cls)]
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where}: unknown key {key!r}; valid: {', '.join(known)}.{hint}")
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
