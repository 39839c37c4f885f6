"""One training from a config: make the pairs, fit, measure the residual, score, write weights and card.

Needs torch, numpy, safetensors and a YAML reader alone, so that it runs on a bare GPU machine. Everything
is resumable: the pairs are kept in the run folder, the fit continues from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import torch

from cycler_da.conditioned_states import train_conditioned
from cycler_da.errors import ConfigError
from cycler_da.field_training import SimulatedData, train_fields
from cycler_da.generative.conditioned_training import CONDITIONED_KINDS, with_levels
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.residual_training import require_residual_mlp
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.generative.weights import WeightCard, save_weights
from cycler_da.masked_training import MaskedClimate, train_masked
from cycler_da.observed_climate_training import ObservedClimate, train_observed_climate
from cycler_da.observed_training import ObservedStates, train_observed
from cycler_da.radar_training import RadarProxies, train_radar
from cycler_da.registry import read_strictly
from cycler_da.state_training import SimulatedStates, train_states
from cycler_da.window_training import SimulatedWindows, train_windows

#: What a config may train on, by `data.kind`.
TrainingData = (
    SimulatedData | RadarProxies | SimulatedStates | SimulatedWindows | MaskedClimate | ObservedStates | ObservedClimate
)


class Told(TypedDict):
    """Where a training keeps what it has done, and whom it tells."""

    run_folder: Path
    on_progress: Callable[[Progress], None] | None
    on_message: Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training; read from YAML by `read_train_config`."""

    name: str
    out: str  # folder of weights and card
    run_folder: str  # pairs and checkpoint
    data: TrainingData
    scaling: Scaling
    network: NetworkSpec
    fit: Mapping[str, Any]
    history: int = 1
    denoiser: NetworkSpec | None = None  # of the residual, for data of kind simulated_states
    source: str = ""  # the config's own text, for the card

    def settings(self, device: str) -> TrainSettings:
        """Settings of the fit on a device."""
        return read_strictly(TrainSettings, {**self.fit, "network": self.network, "device": device}, where="fit")


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
    scaling = {name: tuple(float(value) for value in values) for name, values in blocks.get("scaling", {}).items()}
    blocks |= {name: _read_network(blocks.get(name, {})) for name in ("network", "denoiser") if name in blocks}
    blocks.setdefault("network", NetworkSpec("", {}))
    blocks["scaling"] = read_strictly(Scaling, scaling, where="scaling")
    blocks["data"] = _read_data(blocks.get("data", {}))
    blocks["source"] = text
    config: TrainConfig = read_strictly(TrainConfig, blocks, where=str(path))
    if isinstance(config.data, SimulatedWindows):
        config.data.require_mirrored(config.scaling)
    if isinstance(config.data, ObservedClimate):
        config.data.require_network(config.network)
    levels = config.data.levels() if isinstance(config.data, SimulatedStates) else None
    if config.denoiser is not None:
        if not isinstance(config.data, SimulatedStates) or levels is not None:
            raise ConfigError("denoiser is for data of kind simulated_states without conditioning; leave it out")
        require_residual_mlp(config.denoiser)
    if levels is not None:
        return replace(config, network=with_levels(config.network, levels))
    if config.network.kind in CONDITIONED_KINDS:
        raise ConfigError(f"network.kind is {config.network.kind!r}, which is told levels; add data.conditioning")
    return config


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
    data, scaling = config.data, config.scaling
    if settings.loss != "squared" and not isinstance(data, SimulatedData):
        raise ConfigError(f"fit.loss is {settings.loss!r}; it is for data of kind simulated, leave it out")
    _require_device(data, device)
    told: Told = {"run_folder": run_folder, "on_progress": on_progress, "on_message": on_message}
    if isinstance(data, RadarProxies):
        trained = train_radar(data, scaling, settings, **told)
    elif isinstance(data, MaskedClimate):
        trained = train_masked(data, scaling, settings, **told)
    elif isinstance(data, ObservedClimate):
        trained = train_observed_climate(data, scaling, settings, **told)
    elif isinstance(data, ObservedStates):
        trained = train_observed(data, scaling, settings, **told)
    elif isinstance(data, SimulatedStates) and data.conditioning is not None:
        trained = train_conditioned(data, scaling, settings, **told)
    elif isinstance(data, SimulatedStates):
        trained = train_states(data, scaling, settings, denoiser=config.denoiser, **told)
    elif isinstance(data, SimulatedWindows):
        trained = train_windows(data, scaling, settings, **told)
    else:
        trained = train_fields(data, scaling, settings, history=config.history, **told)
    networks = [net for net in (trained.network, trained.denoiser) if net is not None]
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
            "n_parameters": sum(p.numel() for net in networks for p in net.parameters()),
            **trained.facts,
        },
        scores=trained.scores,
    )
    states = {"state": trained.network.state_dict(), "measured": trained.measured, "singles": trained.singles}
    if trained.denoiser is not None:
        states["denoiser"] = trained.denoiser.state_dict()
    return save_weights(Path(config.out), card, **states)


def _require_device(data: TrainingData, device: str) -> None:
    """Raise ConfigError for a device that a training would not use."""
    follows = isinstance(data, SimulatedData | RadarProxies)
    follows = follows or (isinstance(data, SimulatedWindows) and data.transition is None)
    if device != "cpu" and not follows:
        kind = next(name for name, made in _DATA.items() if isinstance(data, made))
        raise ConfigError(
            f"device is {device!r}; data of kind {kind} is trained on the processor alone, in minutes: leave it out"
        )


def _read_network(block: Mapping[str, Any]) -> NetworkSpec:
    options = dict(block)
    return NetworkSpec(options.pop("kind", ""), options)


def _read_data(block: Mapping[str, Any]) -> TrainingData:
    options = dict(block)
    kind = options.pop("kind", "simulated")
    if kind not in _DATA:
        raise ConfigError(f"data.kind is {kind!r}; valid: {', '.join(sorted(_DATA))}")
    built: TrainingData = read_strictly(_DATA[kind], options, where="data")
    return built


_DATA: Mapping[str, type] = {
    "simulated": SimulatedData,
    "radar_proxies": RadarProxies,
    "simulated_states": SimulatedStates,
    "simulated_windows": SimulatedWindows,
    "masked_climate": MaskedClimate,
    "observed_states": ObservedStates,
    "observed_climate": ObservedClimate,
}
