"""Training of the radar transition: samples of proxies, fit, measured correlation, scores beside every baseline.

Trained on VIL-like proxies of other radars (`systems.radar_pairs`); scored on a proxy that was held out and,
where the folder has it, on a SEVIR storm, which is printed in the card and used for nothing. The correlation
of the residual is measured on the sequences named in the config, because that of rain rates (pixel by pixel
noise) is shorter than that of VIL. The climatology is that of the trained targets: mean, standard deviation
and an exponential correlation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.advection import DEFAULT_FLOW, block_flow
from cycler_da.control import control_of
from cycler_da.errors import ConfigError, MissingInput
from cycler_da.generative.advected import AdvectedTransition, MeanAndSpread, SpreadHead, StateRange
from cycler_da.generative.local_covariance import LocalCovariance, exponential_correlation
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.spread_evaluation import (
    ECHO,
    exponential_length,
    lag_correlations,
    power_ratio,
    rounded,
    spread_scores,
)
from cycler_da.generative.spread_training import fit_mean_and_spread
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.registry import read_strictly
from cycler_da.systems.radar_baselines import BASELINES, score_frames
from cycler_da.systems.radar_pairs import (
    STEP_MINUTES,
    RadarBatch,
    RadarPairs,
    RadarSequence,
    make_pairs,
    read_sequence,
    scaled_frames,
    source_files,
    start_rows,
)
from cycler_da.systems.radar_views import RadarMixture, RadarView, make_mixture
from cycler_da.systems.sevir import SevirSystemSpec
from cycler_da.systems.sevir_files import read_event

if TYPE_CHECKING:
    from torch import Tensor

#: Lags (cells) from which the correlation of the states themselves is fitted: it is ten times longer.
_STATE_LAGS = (2, 4, 8, 12, 16)


@dataclass(frozen=True, kw_only=True)
class RadarProxies:
    """Radar sequences of weather services; see `systems.radar_pairs` for what a file must hold."""

    folder: str | None = None  # None: the environment's CYCLER_REALDATA
    held_out: tuple[str, ...] = ("mrms_20190610_OH_IN",)
    correlation_from: tuple[str, ...] = ("knmi_20100826",)
    views: Sequence[Mapping[str, Any]] = ({},)  # options of `RadarView`; the first is that of the forecasts
    crop: int = 96  # cells
    sevir: str = "sevir_vil_diffcast_demo01.h5"  # scored where the folder has it, never trained on
    sevir_frame_minutes: int = 5

    def __post_init__(self) -> None:
        self.radar_views()  # a view that cannot be is found when the config is read

    def radar_views(self) -> tuple[RadarView, ...]:
        """The views; raises ConfigError for an unknown option."""
        return tuple(read_strictly(RadarView, view, where=f"data.views.{k}") for k, view in enumerate(self.views))

    def path(self) -> Path:
        """The folder; raises MissingInput when none is given or it does not exist."""
        named = self.folder or os.environ.get("CYCLER_REALDATA")
        if not named or not Path(named).is_dir():
            raise MissingInput(
                f"radar proxies: no folder {named or ''}; set data.folder, or CYCLER_REALDATA, to a folder of radar "
                "sequences (NetCDF, vil_proxy_code(time, y, x), 1 km; see docs/radar.md)"
            )
        return Path(named)


def train_radar(
    data: RadarProxies,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] = lambda text: None,
) -> TrainedTransition:
    """Run a training to its end; continues what an earlier call left in the run folder."""
    mixture, held_out = _pairs(data, on_message)
    training = mixture.pairs[0]
    check = held_out.whole(range(len(held_out)))
    on_message(f"fit {settings.network.kind}: {len(mixture)} samples, {settings.steps} steps")
    fitted = fit_mean_and_spread(
        lambda step: mixture.batch(step, settings.batch, seed=settings.seed, crop=data.crop),
        check,
        scaling,
        settings,
        spread=SpreadHead(),
        folder=run_folder,
        on_progress=on_progress,
    )
    on_message("measure the correlation of the residual and score on held-out data")
    layout = control_of("sevir", SevirSystemSpec(step=f"{STEP_MINUTES}min").layout()).layout
    measured, found = _measure(fitted.model, training.select(data.correlation_from), training)
    return TrainedTransition(
        network=fitted.model.network,
        layout=layout,
        transition={
            "kind": "advected",
            "spread": asdict(fitted.model.spread),
            "limits": asdict(StateRange()),
            "flow": asdict(DEFAULT_FLOW),
        },
        measured=measured,
        scores=_scores(fitted.model, layout, data, float(measured["correlation.parts"][0, 1])),
        facts={
            "data": "VIL-like proxies (rain rate or reflectivity as SEVIR codes), no SEVIR",
            "sequences": sorted(set(training.sequence)),
            "held_out": list(data.held_out),
            "n_samples": len(mixture),
            "n_held_out": len(held_out),
            **found,
        },
        seconds=fitted.seconds,
    )


def _pairs(data: RadarProxies, on_message: Callable[[str], None]) -> tuple[RadarMixture, RadarPairs]:
    files = source_files(data.path())
    names = {path.stem for path in files}
    for what in ("held_out", "correlation_from"):
        absent = sorted(set(getattr(data, what)) - names)
        if absent:
            raise ConfigError(f"data.{what}: no sequence {', '.join(absent)}; valid: {', '.join(sorted(names))}")
    on_message(f"read {len(files)} radar sequences of {data.path()}")
    sequences = [read_sequence(path) for path in files]
    training = make_mixture([s for s in sequences if s.name not in data.held_out], data.radar_views())
    return training, make_pairs((s for s in sequences if s.name in data.held_out), phases=[(1, 1)])


@torch.no_grad()
def _moments(model: MeanAndSpread, batch: RadarBatch) -> tuple[Tensor, Tensor]:
    parts = [model(part) for part in batch.history.split(8)]
    mean, std = (torch.cat(column) for column in zip(*parts, strict=True))
    limits = StateRange()
    return mean.clamp(limits.low, limits.high), std


def _measure(
    model: MeanAndSpread, similar: RadarPairs, everything: RadarPairs
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Correlation of the standardised residual in echo, and mean, spread and correlation of the states."""
    batch = similar.whole(range(0, len(similar), 4))  # one phase of four: the others are nearly copies
    mean, std = _moments(model, batch)
    residual = lag_correlations((batch.target - mean) / std, (batch.weight > 0) & (mean > ECHO))
    states = everything.whole(range(0, len(everything), 12))
    known = states.weight > 0
    centre, size = states.target[known].mean(), states.target[known].std()
    about = lag_correlations(states.target - centre, known, lags=_STATE_LAGS)
    length, state_length = exponential_length(residual), exponential_length(about, lags=_STATE_LAGS)
    measured = {
        "correlation.parts": torch.tensor([[1.0, length]]),
        "climatology.parts": torch.tensor([[1.0, state_length]]),
        "climatology.moments": torch.stack([centre, size]),
    }
    found = {
        "residual_correlation": rounded(residual),
        "residual_length_cells": length,
        "state_length_cells": state_length,
        "climatology": rounded([float(centre), float(size)]),
    }
    return measured, found


def _scores(model: MeanAndSpread, layout: Layout, data: RadarProxies, length: float) -> dict[str, Any]:
    """Scores of the held-out proxies and of the SEVIR storm, through the very prediction that cycles use."""
    cases = {f"held-out proxy {name}": [_thinned(read_sequence(data.path() / f"{name}.nc"))] for name in data.held_out}
    path = data.path() / data.sevir
    if path.is_file():
        events = [read_event(path, event)[0] for event in (0, 1)]
        minutes = data.sevir_frame_minutes * np.arange(events[0].shape[0])
        cases["SEVIR storm, two overlapping windows (printed, never trained on)"] = [
            RadarSequence(data.sevir, codes, minutes) for codes in events
        ]
    scored = {name: _case_scores(model, sequences, layout, length) for name, sequences in cases.items()}
    return {"units": "code / 255, one step of 10 minutes", **rounded(scored)}


def _thinned(sequence: RadarSequence) -> RadarSequence:
    """One 1 km pixel of every 3 km cell, the middle one."""
    return RadarSequence(sequence.name, np.ascontiguousarray(sequence.codes[:, 1::3, 1::3]), sequence.minutes)


def _case_scores(
    model: MeanAndSpread, sequences: Sequence[RadarSequence], layout: Layout, length: float
) -> dict[str, Any]:
    history, target, known = _starts(sequences)
    transition = AdvectedTransition(
        model, exponential_correlation((target.shape[-2], target.shape[-1]), [(1.0, length)])
    )
    predictions = [transition.predict(part[:, :, None]) for part in history.split(8)]
    mean = torch.cat([prediction.mean for prediction in predictions])
    std = torch.cat([prediction.residual.std for prediction in predictions])
    noise = Noise(0).shared_normal("score", (len(mean), 1, *transition.correlation.torus), dtype=torch.float32)
    drawn = transition.limits.hold(mean + LocalCovariance(std, transition.correlation).color(noise))
    flow = torch.cat([block_flow(part) for part in history.split(8)])
    guesses = {name: method(history[:, -1:], flow, 1) for name, method in BASELINES.items()} | {"learned mean": mean}
    spacing_km = layout.grid.axes[0].spacing / 1000.0
    return {
        "n_starts": len(mean),
        **{name: score_frames(guess[:, 0], target[:, 0], known[:, 0]) for name, guess in guesses.items()},
        "spread": spread_scores(mean, std, target, known=known),
        "power_ratio_of_mean": power_ratio(mean, target, spacing_km=spacing_km),
        "power_ratio_of_a_member": power_ratio(drawn, target, spacing_km=spacing_km),
    }


def _starts(sequences: Sequence[RadarSequence]) -> tuple[Tensor, Tensor, Tensor]:
    """History frames, what came and where it is known, of every start; codes below the first echo are zero."""
    histories, targets, known = [], [], []
    for sequence in sequences:
        values, missing = scaled_frames(torch.from_numpy(sequence.codes))
        for rows in start_rows(sequence.minutes):
            histories.append(values[rows[:-1]])
            targets.append(values[rows[-1:]])
            known.append(~(missing[rows[-1:]] | missing[rows[-2:-1]]))
    return torch.stack(histories), torch.stack(targets), torch.stack(known)
