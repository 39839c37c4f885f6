"""Samples for training a radar forecast: advected history frames and the frame that came.

Source files are NetCDF sequences of other radars than the ones a forecast is scored on: 1 km, 384 x 384,
with `vil_proxy_code` (time, y, x), SEVIR codes of a monotone transform of rain rate or reflectivity (Greene
and Clark 1972, Mon. Wea. Rev. 100, 548, with constant reflectivity over 5 km). Shapes, motion, growth and
decay are real; kg m-2 are not: say "VIL-like proxy". Files whose name contains `sevir` are refused.

One sample: v = code / 255 on a 3 km grid of single 1 km pixels, codes below the first echo set to zero;
history at t - 20, t - 10 and t minutes, each brought to t + 10 by the motion found in the three frames
(`advection`), and the target at t + 10. Everything is computed once and kept in memory as float16 (rounding
2e-4 at v = 0.5, a twentieth of one code). Batches are cut, turned, mirrored and scaled by keyed noise, so
batch k of a seed is always the same.

Limit: the gain multiplies v, which shifts the logarithm of VIL; weak echo is changed as if it were strong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.advection import DEFAULT_FLOW, FlowSettings, advect_history_masked, block_flow
from cycler_da.errors import ConfigError, DataError, MissingInput
from cycler_da.noise import Noise
from cycler_da.systems.sevir_codec import CODE_SPAN, FIRST_ECHO_CODE, LARGEST_CODE, MISSING_CODE
from cycler_da.trial_read import read_attributes, require_harmless

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8
    from torch import Tensor

VARIABLE = "vil_proxy_code"
SPACING = 3  # km, which is pixels of the sources
STEP_MINUTES = 10
N_HISTORY = 3
#: Corners of the 3 x 3 block from which the 1 km pixel of a 3 km cell is taken: four phases of one storm.
PHASES = ((0, 0), (0, 2), (2, 0), (2, 2))


@dataclass(frozen=True)
class RadarSequence:
    """Frames of one radar region."""

    name: str
    codes: UInt8[np.ndarray, "time y x"]
    minutes: np.ndarray  # int, since the first frame


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which frames and cells of a sequence make a sample."""

    spacing: int = SPACING  # km
    minutes: int = STEP_MINUTES
    n_history: int = N_HISTORY
    is_advected: bool = True  # history is brought to the time of the target; False: frames as they were


DEFAULT_SAMPLING = Sampling()


@dataclass(frozen=True)
class RadarBatch:
    """What a training step sees, all float32 on the code scale."""

    history: Float[Tensor, "batch time y x"]  # advected to the valid time of the target, oldest first
    target: Float[Tensor, "batch 1 y x"]
    weight: Float[Tensor, "batch 1 y x"]  # 1 where target and last history frame are known, else 0


@dataclass(frozen=True)
class RadarPairs:
    """All samples of a set of sequences, in memory; missing pixels hold zero and a false `known`."""

    history: Float[Tensor, "sample time y x"]  # float16
    target: Float[Tensor, "sample 1 y x"]  # float16
    known: Bool[Tensor, "sample 1 y x"]
    sequence: tuple[str, ...]  # name of the sequence of each sample

    def __len__(self) -> int:
        return len(self.sequence)

    def batch(self, step: int, size: int, *, seed: int, crop: int = 96) -> RadarBatch:
        """Draw the batch of one training step: random samples, crops, symmetries and gains.

        Equal arguments give equal batches, whatever was drawn before. `crop` is in pixels.
        """
        if not 0 < crop <= self.target.shape[-1]:
            raise ConfigError(f"radar batches: crop must be 1 to {self.target.shape[-1]} pixels, got {crop}")
        draw = Noise(seed).generator("radar_pairs", step=step)
        parts = [self._augmented(int(draw.integers(len(self))), draw, crop) for _ in range(size)]
        history, target, weight = (torch.stack(list(column)) for column in zip(*parts, strict=True))
        return RadarBatch(history, target, weight)

    def whole(self, positions: Sequence[int]) -> RadarBatch:
        """Samples as they are, for validation."""
        index = torch.as_tensor(positions, dtype=torch.long)
        return RadarBatch(self.history[index].float(), self.target[index].float(), self.known[index].float())

    def select(self, names: Iterable[str]) -> RadarPairs:
        """The samples of some sequences (to hold others out)."""
        wanted = set(names)
        keep = torch.tensor([name in wanted for name in self.sequence])
        kept = tuple(name for name in self.sequence if name in wanted)
        return RadarPairs(self.history[keep], self.target[keep], self.known[keep], kept)

    def _augmented(self, sample: int, draw: np.random.Generator, crop: int) -> tuple[Tensor, Tensor, Tensor]:
        n_y, n_x = self.target.shape[-2:]
        top, left = int(draw.integers(n_y - crop + 1)), int(draw.integers(n_x - crop + 1))
        quarter_turns, is_mirrored = int(draw.integers(4)), bool(draw.integers(2))
        gain = float(draw.uniform(0.8, 1.4))  # makes up for proxies that hold less strong echo than SEVIR

        def cut(values: Tensor) -> Tensor:
            window = values[sample, :, top : top + crop, left : left + crop].float()
            turned = torch.rot90(window, quarter_turns, dims=(-2, -1))
            return (turned.flip(-1) if is_mirrored else turned).contiguous()

        ceiling = LARGEST_CODE / CODE_SPAN
        history, target = ((gain * cut(values)).clamp(max=ceiling) for values in (self.history, self.target))
        return history, target, cut(self.known)


def source_files(folder: str | Path) -> list[Path]:
    """Radar sequences of a folder that may be trained on, by name; raises MissingInput when there are none."""
    folder = Path(folder)
    found = sorted(path for path in folder.glob("*.nc") if "sevir" not in path.name and _has_sequence(path))
    if not found:
        raise MissingInput(
            f"no radar sequences in {folder}: expected NetCDF files with {VARIABLE}(time, y, x), uint8, 384 x 384 "
            "pixels of 1 km, and `minute`(time); weather services publish such composites (MRMS, FMI, KNMI)"
        )
    return found


def read_sequence(path: str | Path) -> RadarSequence:
    """Read one NetCDF sequence; raises MissingInput, or DataError when it is not a sequence of codes."""
    import netCDF4

    path = Path(path)
    if "sevir" in path.name.lower():
        raise DataError(f"{path} is a SEVIR file: forecasts are scored on SEVIR, it is never trained on")
    if not path.is_file():
        raise MissingInput(f"radar sequence {path} does not exist")
    require_harmless(path, what="radar sequence")
    try:
        with netCDF4.Dataset(path) as file:
            file.set_auto_mask(False)
            dimensions = file[VARIABLE].dimensions
            codes, minutes = np.asarray(file[VARIABLE][:]), np.asarray(file["minute"][:]).astype(int)
    except (OSError, IndexError) as error:
        raise DataError(f"radar sequence {path} cannot be read ({error}); expected {VARIABLE} and minute") from error
    if codes.dtype != np.uint8 or dimensions != ("time", "y", "x"):
        raise DataError(
            f"radar sequence {path}: {VARIABLE} is {codes.dtype} with axes {dimensions}, expected uint8 (time, y, x)"
        )
    return RadarSequence(path.stem, codes, minutes - minutes[0])


def make_pairs(
    sequences: Iterable[RadarSequence],
    *,
    flow: FlowSettings = DEFAULT_FLOW,
    phases: Sequence[tuple[int, int]] = PHASES,
    sampling: Sampling = DEFAULT_SAMPLING,
) -> RadarPairs:
    """Make all samples of the sequences, one for each start time and phase.

    About 20 ms and 0.13 MB a sample on one core. Raises DataError when no sequence is long enough.
    """
    samples = [
        sample for sequence in sequences for phase in phases for sample in _samples(sequence, phase, flow, sampling)
    ]
    if not samples:
        raise DataError(f"no radar sequence has {sampling.n_history + 1} frames {sampling.minutes} minutes apart")
    history, target, known, names = zip(*samples, strict=True)
    return RadarPairs(torch.stack(history), torch.stack(target), torch.stack(known), names)


def _samples(
    sequence: RadarSequence, phase: tuple[int, int], settings: FlowSettings, sampling: Sampling
) -> Iterator[tuple[Tensor, Tensor, Tensor, str]]:
    cells = tuple(slice(first, None, sampling.spacing) for first in phase)
    values, missing = scaled_frames(torch.from_numpy(np.ascontiguousarray(sequence.codes[:, *cells])))
    for rows in start_rows(sequence.minutes, minutes=sampling.minutes, n_history=sampling.n_history):
        history, history_missing = values[rows[:-1]][None], missing[rows[:-1]][None]
        if sampling.is_advected:
            recent = slice(-N_HISTORY, None)  # motion is that of the last frames, however many there are
            motion = block_flow(history[:, recent], missing=history_missing[:, recent], settings=settings)
            history, history_missing = advect_history_masked(history, history_missing, motion)
        known = ~(missing[rows[-1:]] | history_missing[0, -1:])
        yield history[0].half(), values[rows[-1:]].half(), known, sequence.name


def scaled_frames(codes: UInt8[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
    """Turn codes into v = code / 255 with codes below the first echo at zero, and the mask of missing pixels."""
    missing = codes == MISSING_CODE
    is_echo = (codes >= FIRST_ECHO_CODE) & ~missing
    return torch.where(is_echo, codes.float() / CODE_SPAN, 0.0), missing


def start_rows(times: np.ndarray, *, minutes: int = STEP_MINUTES, n_history: int = N_HISTORY) -> list[list[int]]:
    """Rows of the history frames and the target, for every start at which all of them exist, `minutes` apart."""
    row_of = {int(time): row for row, time in enumerate(times)}
    offsets = [minutes * k for k in range(-(n_history - 1), 2)]
    wanted = [[int(time) + offset for offset in offsets] for time in times]
    return [[row_of[m] for m in group] for group in wanted if all(m in row_of for m in group)]


def _has_sequence(path: Path) -> bool:
    import netCDF4

    require_harmless(path, what="radar sequence", reader=read_attributes)
    try:
        with netCDF4.Dataset(path) as file:
            return VARIABLE in file.variables and "minute" in file.variables
    except OSError:
        return False
