"""Radar forecasts without a learned model: persistence, one shift of the whole field, advection along echo motion.

Scored on the code scale (code / 255), against every frame that has 20 minutes of history before it. The
SEVIR file holds two overlapping windows of one storm and the starts overlap too: that is one case, without
any claim of significance, so there are no intervals. The other sequences are VIL-like proxies of other
radars; their scores say how methods order, not how good a VIL forecast is.

A forecast counts as reaching a code when it rounds to it or above. The published level 74 is scored at 73,
because in the SEVIR frames at hand original 74s are stored as 73.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.advection import block_flow
from cycler_da.bench.registry import Progress, benchmark
from cycler_da.errors import MissingInput
from cycler_da.systems.radar_baselines import BASELINES, Method, score_frames
from cycler_da.systems.radar_pairs import STEP_MINUTES, read_sequence, source_files
from cycler_da.systems.sevir_codec import CODE_SPAN, MISSING_CODE
from cycler_da.systems.sevir_files import WHERE_AND_WHAT, read_event
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

N_HISTORY = 3
SEVIR_FILE = "sevir_vil_diffcast_demo01.h5"


def measure_baselines(
    path: str | Path, *, events: tuple[int, ...] = (0, 1), minutes: int = STEP_MINUTES, frame_minutes: int = 5
) -> dict[str, dict[str, float]]:
    """Scores of every baseline on events of a SEVIR file: method -> rmse (code / 255), csi_16, csi_73, csi_133.

    `minutes` is the lead time. Errors of reading are those of `read_event`.
    """
    sequences = [torch.from_numpy(read_event(path, event)[0]) for event in events]
    return _scores(sequences, BASELINES, per_step=STEP_MINUTES // frame_minutes, lead=minutes // STEP_MINUTES)


@benchmark("radar_forecast", summary="persistence, global shift and advection on real radar, no learned model")
def radar_forecast(quick: bool, progress: Progress) -> BenchResult:
    """Score the baselines on the SEVIR storm; the whole benchmark adds longer leads and the proxy sequences."""
    folder = _folder()
    jobs = _jobs(folder, quick=quick)
    rows: list[Row] = []
    for done, (case, measure) in enumerate(jobs):
        progress(done, len(jobs), case)
        for method, scores in measure().items():
            n_starts = int(scores.pop("n_starts"))
            rows += [Row(case, method, metric, value, n=n_starts) for metric, value in scores.items()]
    return BenchResult(
        name="radar_forecast",
        config={"sevir_file": SEVIR_FILE, "step_minutes": STEP_MINUTES, "history_frames": N_HISTORY, "quick": quick},
        seeds=(),
        rows=tuple(rows),
        notes=(
            "rmse in code / 255; n is the number of start times, which overlap: each case is one storm",
            "proxies are monotone transforms of rain rate or reflectivity, not observed VIL",
        ),
    )


def _jobs(folder: Path, *, quick: bool) -> list[tuple[str, Callable[[], dict[str, dict[str, float]]]]]:
    def sevir(minutes: int) -> Callable[[], dict[str, dict[str, float]]]:
        return lambda: measure_baselines(folder / SEVIR_FILE, minutes=minutes)

    def proxy(path: Path) -> Callable[[], dict[str, dict[str, float]]]:
        return lambda: _measure_proxy(path)

    leads = (10,) if quick else (10, 20, 30, 60)
    jobs = [(f"SEVIR storm, {minutes} min", sevir(minutes)) for minutes in leads]
    return jobs if quick else jobs + [(f"proxy {path.stem}, 10 min", proxy(path)) for path in source_files(folder)]


def _measure_proxy(path: Path) -> dict[str, dict[str, float]]:
    sequence = read_sequence(path)
    per_step = STEP_MINUTES // int(sequence.minutes[1])
    frames = torch.from_numpy(sequence.codes[:, 1::3, 1::3].copy())  # the centre pixel of each 3 km cell
    return _scores([frames], BASELINES, per_step=per_step, lead=1)


def _scores(
    sequences: list[UInt8[Tensor, "time y x"]], methods: Mapping[str, Method], *, per_step: int, lead: int
) -> dict[str, dict[str, float]]:
    history, target, known = _starts(sequences, per_step=per_step, lead=lead)
    last, flow = history[:, -1:], torch.cat([block_flow(part) for part in history.split(8)])
    return {
        name: score_frames(method(last, flow, lead)[:, 0], target, known) | {"n_starts": float(len(target))}
        for name, method in methods.items()
    }


def _starts(sequences: list[Tensor], *, per_step: int, lead: int) -> tuple[Tensor, Tensor, Tensor]:
    """History, target and mask of known pixels of every start time; missing counts as no echo in the history."""
    histories, targets = [], []
    for codes in sequences:
        for start in range((N_HISTORY - 1) * per_step, len(codes) - lead * per_step):
            histories.append(codes[start - (N_HISTORY - 1) * per_step : start + 1 : per_step])
            targets.append(codes[start + lead * per_step])
    if not targets:
        raise MissingInput(
            f"no radar sequence is long enough for {N_HISTORY} frames of history and {lead} steps of lead"
        )
    history, target = torch.stack(histories), torch.stack(targets)
    known = (target != MISSING_CODE) & (history[:, -1] != MISSING_CODE)
    return _scaled(history), _scaled(target), known


def _scaled(codes: Tensor) -> Tensor:
    return torch.where(codes == MISSING_CODE, 0.0, codes.float() / CODE_SPAN)


def _folder() -> Path:
    checkout = Path(__file__).resolve().parents[4]
    folder = Path(os.environ.get("CYCLER_REALDATA") or checkout.parent / "shared" / "realdata").resolve()
    if not folder.is_dir():
        raise MissingInput(
            f"no radar data at {folder}; set CYCLER_REALDATA to a folder that holds it. {WHERE_AND_WHAT}"
        )
    return folder
