"""Cases, observations and models of the radar benchmarks (which say what they are for).

A case is one start time of one radar sequence: frames every ten minutes up to a start, and the frame that came. All
values are on the code scale v = code / 255; codes below the first echo are no echo, as in the archive's own decoding,
in history, observations and truth. `raw` keeps them (15 % of the pixels of the SEVIR storm at hand are codes 2 to 5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from cycler_da.control import control_of
from cycler_da.ensemble import Ensemble
from cycler_da.errors import MissingInput
from cycler_da.forecast import InterpolantForecast
from cycler_da.forecast.interpolant import InterpolantSpec
from cycler_da.generative.advected import AdvectedTransition
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, ObservationOperator, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior
from cycler_da.systems.radar_pairs import N_HISTORY, RadarSequence, read_sequence, scaled_frames
from cycler_da.systems.sevir import SevirSystemSpec
from cycler_da.systems.sevir_codec import CODE_SPAN, MISSING_CODE
from cycler_da.systems.sevir_files import WHERE_AND_WHAT, read_event

SEVIR_FILE, SEVIR_EVENTS, SEVIR_FRAME_MINUTES = "sevir_vil_diffcast_demo01.h5", (0, 1), 5
STEP_MINUTES = 10
START = np.datetime64("2019-06-01T00:00:00", "s")
WEIGHTS = Path("data/weights/sevir/advected_unet")


def real_data() -> Path:
    """The folder that CYCLER_REALDATA names; raises MissingInput when there is none."""
    named = os.environ.get("CYCLER_REALDATA")
    if not named or not Path(named).is_dir():
        raise MissingInput(
            f"no folder of radar data ({named or 'CYCLER_REALDATA is not set'}): set CYCLER_REALDATA to a folder with "
            f"{SEVIR_FILE} and proxies of other radars. {WHERE_AND_WHAT}"
        )
    return Path(named)


def sevir_storm(folder: Path) -> list[RadarSequence]:
    """The overlapping windows of the storm that is for testing only; raises MissingInput without the file."""
    events = [read_event(folder / SEVIR_FILE, event)[0] for event in SEVIR_EVENTS]
    return [
        RadarSequence(f"window {i}", codes, SEVIR_FRAME_MINUTES * np.arange(len(codes)))
        for i, codes in enumerate(events)
    ]


def proxy_storms(folder: Path, names: Sequence[str]) -> list[RadarSequence]:
    """Sequences of other radars, one 1 km pixel of every 3 km cell: what numbers are chosen on."""
    sequences = [read_sequence(folder / f"{name}.nc") for name in names]
    return [RadarSequence(s.name, np.ascontiguousarray(s.codes[:, 1::3, 1::3]), s.minutes) for s in sequences]


@dataclass(frozen=True)
class Case:
    """One start: frames known up to it, and what came one step later."""

    index: int
    name: str
    frames: torch.Tensor  # (time, 1, y, x), the last one at the start
    truth: torch.Tensor  # (1, y, x)
    raw: torch.Tensor  # (1, y, x), low codes kept
    known: torch.Tensor  # (1, y, x) bool: seen by a radar


@dataclass(frozen=True)
class Models:
    """The released transition as forecast model."""

    learned: InterpolantForecast

    @property
    def layout(self) -> Layout:
        """States on the code scale."""
        return self.learned.layout

    @cached_property
    def transition(self) -> AdvectedTransition:
        """The transition itself."""
        assert isinstance(self.learned.transition, AdvectedTransition)
        return self.learned.transition


def make_models(weights: Path = WEIGHTS) -> Models:
    """Load the weights; raises MissingInput when they are not there."""
    if not weights.is_dir():
        raise MissingInput(
            f"{weights} is not in this folder; run from the repository, or train config/train/radar.yaml"
        )
    layout = control_of("sevir", SevirSystemSpec(step=f"{STEP_MINUTES}min").layout()).layout
    return Models(InterpolantSpec(weights=str(weights)).build(layout))


def make_cases(
    sequences: Sequence[RadarSequence], *, apart: int, n_history: int = N_HISTORY, first: int = 0
) -> Iterator[Case]:
    """Cases `apart` minutes apart in every sequence, the earliest with full history first."""
    for sequence in sequences:
        row_of = {int(minute): row for row, minute in enumerate(sequence.minutes)}
        for start in range(STEP_MINUTES * (n_history - 1), int(sequence.minutes[-1]), apart):
            minutes = [start + STEP_MINUTES * k for k in range(1 - n_history, 2)]
            if all(minute in row_of for minute in minutes):
                yield _case(sequence, [row_of[minute] for minute in minutes], first, f"{sequence.name} +{start} min")
                first += 1


def _case(sequence: RadarSequence, rows: list[int], index: int, name: str) -> Case:
    codes = torch.from_numpy(sequence.codes[rows])
    values, missing = scaled_frames(codes)
    raw = torch.where(codes == MISSING_CODE, 0.0, codes.float() / CODE_SPAN)
    known = ~(missing[-1:] | missing[-2:-1])
    return Case(index, name, values[:-1, None], values[-1:], raw[-1:], known)


def pixels(case: Case, layout: Layout, *, fraction: float, error: float, seed: int) -> Observations:
    """A share of the known pixels of the truth, drawn at random, with Gaussian error on the code scale."""
    sites = torch.nonzero(case.known[0].flatten())[:, 0]
    draw = Noise(seed).generator(f"pixels.{fraction}", step=case.index)
    chosen = sites[torch.from_numpy(draw.permutation(len(sites))[: round(fraction * len(sites))])]
    n_x = layout.grid.shape[-1]
    cells = torch.stack([chosen // n_x, chosen % n_x], dim=1)
    noise, time = Noise(seed, case.index), START + np.timedelta64(STEP_MINUTES, "m")
    return observed_at(cells, case.truth, CellSpec().build(layout), layout, time=time, error=error, noise=noise)


def observed_at(
    cells: torch.Tensor,
    truth: torch.Tensor,
    operator: ObservationOperator,
    layout: Layout,
    *,
    time: np.datetime64,
    error: float,
    noise: Noise,
) -> Observations:
    """What an operator sees of a true state at some cells `(obs, 2)`, with Gaussian error."""
    axes = [torch.from_numpy(axis.centres()) for axis in layout.grid.axes]
    places = torch.stack([centres[cells[:, i]] for i, centres in enumerate(axes)], dim=1).to(torch.float64)
    where = Locations(places, torch.zeros(len(cells), dtype=torch.int64))
    exact = operator(truth[None].to(torch.float64), where, layout)[0]
    z = noise.shared_normal("pixels.error", (len(cells),), dtype=torch.float64)
    batch = ObsBatch(
        stream="pixels",
        operator=operator,
        where=where,
        values=exact + error * z,
        error=torch.full((len(cells),), error, dtype=torch.float64),
        times=np.full(len(cells), time),
        ids=np.array([f"{row},{column}" for row, column in cells.tolist()]),
        flags=torch.zeros(len(cells), dtype=torch.int32),
    )
    return Observations((batch,), layout)


def known_start(case: Case, layout: Layout, n_members: int) -> Ensemble:
    """Members that all know the frames up to the start."""
    step = np.timedelta64(STEP_MINUTES, "m")
    times = START + step * np.arange(1 - len(case.frames), 1)
    values = case.frames[None].repeat(n_members, 1, 1, 1, 1)
    return Ensemble(values, times, tuple(range(n_members)), layout)


def forecast_step(models: Models, case: Case, *, n_members: int, seed: int) -> Prior:
    """The known start, its forecast of one step, and the model."""
    start = known_start(case, models.layout, n_members)
    valid = start.valid_times[-1:] + np.timedelta64(STEP_MINUTES, "m")
    background = models.learned.forecast(start, valid, noise=Noise(seed, case.index))
    return Prior(background, start, models.learned)
