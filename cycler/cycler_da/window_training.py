"""Training of a window network on a simulated system: trajectories, fields of observations beside them, fit, scores.

The channels are the system's variables and, behind them, what operators would see at every grid cell, `observed`: one
operator and variable for each channel. All are scaled by their mean and standard deviation over the training
trajectories (variables by the config's scaling). What is measured with the weights is Gamma, the covariance of all
channels at every lag and wave (`generative.diffusion.window_gaussian`).

With `transition`, the folder of a learned one-step transition of the same system, no network of windows is trained: the
transition smooths them (`generative.smoother_training`). `network` is then that transition's, `fit.steps` the number of
noise ratios and `fit.batch` that of the windows at each. Its gains are fitted on a quarter of the trajectories, Gamma
on the others: beside the covariance of the very windows it would look worse than it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.smoother import Maps
from cycler_da.generative.diffusion.window_gaussian import measure_lags
from cycler_da.generative.kept_tables import KeptTables
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.smoother_training import SmootherFit
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.generative.weights import load_parts
from cycler_da.generative.window_training import WindowData, WindowFit, score_window
from cycler_da.generative.window_weights import GAINS, GAMMA, RATIO_AXIS, pack_lags, window_smoother
from cycler_da.noise import Noise
from cycler_da.obs import catalogue as _obs  # noqa: F401  (registers the operators)
from cycler_da.obs.fields import ObservedField, observed_fields, scaled_fields
from cycler_da.obs.mirror import require_mirrored
from cycler_da.systems.base import ClimateSpec, noisy_step
from cycler_da.systems.climate import climate_system

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Fewest frames of a window that a smoother is said to serve.
SHORTEST = 5
#: Fewest noise ratios of its tables: three a decade.
FEWEST_RATIOS = 8


@dataclass(frozen=True, kw_only=True)
class SimulatedWindows:
    """Trajectories of a numerical system, one layout step between frames."""

    system: Mapping[str, Any]
    seed: int
    trajectories: int = 16
    steps: int = 200
    held_out: int = 4
    spin_up_years: float | None = None
    lags: int = 9  # of the covariances: the longest window
    mirror: bool = False  # the law does not change under x(y) -> -x(-y), nor what is observed (`obs.mirror`)
    observed: Sequence[Mapping[str, Any]] = ()  # {variable, operator}, one for each channel behind the states
    transition: str | None = None  # folder of its weights; None: a network of windows
    inner: int = 48  # grid of the smoother around a transition

    def __post_init__(self) -> None:
        spec = self.system_spec()
        observed_fields(self.observed, spec.layout())
        if self.lags < 1 or self.steps < self.lags:
            raise ConfigError(f"data.lags is {self.lags}; expected 1 or more, and no more than steps ({self.steps})")

    def require_mirrored(self, scaling: Scaling) -> None:
        """Raise ConfigError where `mirror` is set and an observed field is not mirrored with the scaled state."""
        if self.mirror:
            require_mirrored(observed_fields(self.observed, self.system_spec().layout()), scaling.to_physical)

    def system_spec(self) -> ClimateSpec:
        """The numerical system; raises ConfigError for a kind that cannot be simulated or an unknown option."""
        return climate_system(self.system, where="data.system")


def train_windows(
    data: SimulatedWindows,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None,
    on_message: Callable[[str], None],
) -> TrainedTransition:
    """Make trajectories, fit and score; continues what an earlier call left."""
    layout = data.system_spec().layout()
    fields = observed_fields(data.observed, layout)
    states = _trajectories(data, run_folder, on_message)
    channels = torch.cat([scaling.to_scaled(states), *(field.of(states) for field in fields)], dim=2)
    n_states, training = len(layout.channels), channels[: data.trajectories]
    mean, std = _scale(training, n_states)
    channels.sub_(mean).div_(std)
    on_message(f"measure covariances at {data.lags} lags of {channels.shape[2]} channels")
    n_gains = 0 if data.transition is None else max(1, data.trajectories // 4)
    lags = measure_lags(training[n_gains:], data.lags, mirror=data.mirror)
    groups = {
        name: tuple(n_states + i for i, field in enumerate(fields) if field.kind == name) for name in _kinds(fields)
    }
    windows = WindowData(
        training[:n_gains] if n_gains else training, channels[data.trajectories :], lags, n_states, groups, data.mirror
    )
    means, stds = mean.flatten()[n_states:].tolist(), std.flatten()[n_states:].tolist()
    on_message(f"fit {settings.network.kind}: {training.shape[0]} trajectories of {data.steps} steps")
    if data.transition is None:
        fit = WindowFit(windows, settings)
        network, seconds = fit.run(folder=run_folder, on_progress=on_progress)
        on_message("score on held-out trajectories")
        kind: dict[str, Any] = {"frames": fit.frames}
        fitted = _Fitted(network, kind, {}, score_window(fit, network), seconds)
    else:
        maps = _maps(windows, fields, scaling, means, stds)
        made_with = json.dumps([repr(data), repr(scaling), repr(settings)])
        fitted = _fit_smoother(data, windows, maps, settings, data.transition, KeptTables(run_folder, made_with))
    return TrainedTransition(
        network=fitted.network,
        layout=layout,
        transition={
            "kind": "window",
            **fitted.kind,
            "mirror": data.mirror,
            "observed": [dict(block) for block in data.observed],
            "observed_mean": means,
            "observed_std": stds,
        },
        measured={GAMMA: pack_lags(lags, mirror=data.mirror), **fitted.measured},
        scores=fitted.scores,
        facts={"n_trajectories": data.trajectories, "n_steps": data.steps, "seed": data.seed},
        seconds=fitted.seconds,
        singles=fitted.gains,
    )


@dataclass(frozen=True)
class _Fitted:
    """What differs between a network of windows and a smoother."""

    network: nn.Module
    kind: Mapping[str, Any]
    measured: Mapping[str, Tensor]
    scores: Mapping[str, Any]
    seconds: float
    gains: Mapping[str, Tensor] = field(default_factory=dict)


def _fit_smoother(
    data: SimulatedWindows,
    windows: WindowData,
    maps: Mapping[tuple[int, ...], Maps | None],
    settings: TrainSettings,
    folder: str,
    kept: KeptTables,
) -> _Fitted:
    card, network, _ = load_parts(Path(folder))
    data.system_spec().layout().require_same(card.layout, what=f"data.transition {folder}")
    if settings.steps < FEWEST_RATIOS:
        raise ConfigError(f"fit.steps is {settings.steps}; expected {FEWEST_RATIOS} noise ratios or more")
    if card.network != settings.network:
        raise ConfigError(f"network is {settings.network}; that of data.transition {folder} is {card.network}")
    smoothers = {
        present: window_smoother(network, data.inner, windows.n_states, maps=some) for present, some in maps.items()
    }
    shortest = min(SHORTEST, data.lags)
    fit = SmootherFit(
        windows, smoothers, n_windows=settings.batch, n_ratios=settings.steps, shortest=shortest, seed=settings.seed
    )
    # What was kept is of this very transition.
    tables, seconds = fit.tables(replace(kept, settings=f"{kept.settings} {card.sha256}"))
    named = {f"{GAINS}{name}": table for name, table in tables.items()}
    kind = {"frames": shortest, "inner": data.inner}
    return _Fitted(network, kind, {RATIO_AXIS: fit.ratios}, fit.scores(tables), seconds, named)


def _maps(
    windows: WindowData,
    fields: Sequence[ObservedField],
    scaling: Scaling,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[tuple[int, ...], Maps | None]:
    """Maps from states to the observed fields of every task."""
    states = tuple(range(windows.n_states))
    found: dict[tuple[int, ...], Maps | None] = {states: None}
    for present in windows.presences():
        places = [channel - windows.n_states for channel in present[windows.n_states :]]
        if places:
            means, stds = ([values[i] for i in places] for values in (mean, std))
            found[present] = scaled_fields([fields[i] for i in places], scaling.to_physical, means, stds)
    return found


def _kinds(fields: Sequence[ObservedField]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(field.kind for field in fields))


def _scale(training: Tensor, n_states: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation of observed fields; states are scaled already."""
    flat = training.transpose(0, 2).flatten(1)
    mean, std = flat.mean(dim=1), flat.std(dim=1)
    mean[:n_states], std[:n_states] = 0.0, 1.0
    return mean[:, None, None], std[:, None, None]


def _trajectories(
    data: SimulatedWindows, folder: Path, on_message: Callable[[str], None]
) -> Float[Tensor, "trajectory time channel y x"]:
    spec, path = data.system_spec(), folder / "trajectories.safetensors"
    wanted = json.dumps([repr(spec), data.seed, data.trajectories, data.steps, data.held_out, data.spin_up_years])
    if path.is_file() and path.with_suffix(".json").is_file() and path.with_suffix(".json").read_text() == wanted:
        return load_file(path)["states"]
    members = range(data.trajectories + data.held_out)
    on_message(f"simulate {len(members)} trajectories of {data.steps} steps")
    dynamics, noise = spec.build(), Noise(data.seed)
    states = [spec.spun_up(noise, members=members, years=data.spin_up_years).to(torch.float32)]
    for step in range(1, data.steps):
        states.append(noisy_step(dynamics, states[-1], noise, members=members, step=step))
    found = torch.stack(states, dim=1)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"states": found}, path)
    path.with_suffix(".json").write_text(wanted)
    return found
