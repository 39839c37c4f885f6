"""Benchmark of the check of whole streams: what it finds, and how often it is wrong.

Observations of the two-layer QG nature run (5 % of cells, error 0.1 standard deviations) are held against ensembles
around the truth: truth minus one plus another anomaly of climatological covariance, scaled to the spread, so that
ensemble and truth are exchangeable. Then the file lies: an axis is flipped, axes are swapped, values are in another
unit, or the observations are of another day. Every trial draws cells, errors and ensemble anew; found is a stream
that would be set aside (`obs/qc_stream.py`) with nothing yet known of what is usual.

About 90 CPU seconds; `--quick` 30 s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.shares import share_row
from cycler_da.noise import Noise
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.obs.qc_stream import UNEXPLAINED, Fit, fit
from cycler_da.preparation import open_or_make_nature
from cycler_da.setting import Setting, load_setting
from cycler_da.tables.report import BenchResult, Row

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = Path("config/experiments/qg_default.yaml")
SEED = 20261126
MEMBERS, FRACTION, ERROR = 32, 0.05, 0.1
SPREADS = (0.05, 0.25)  # climatological standard deviations: a running cycle, and a start
DAYS = (1, 5, 10, 20, 40)

Wrong = Callable[["Tensor"], "Tensor"]

#: Name -> what the file makes of the field `(channel, y, x)` that was there.
FAULTS: dict[str, Wrong] = {
    "none": lambda x: x,
    "y flipped": lambda x: x.flip(-2),
    "x flipped": lambda x: x.flip(-1),
    "axes swapped": lambda x: x.transpose(-1, -2),
    "unit x 10": lambda x: 10 * x,
    "unit x 1000": lambda x: 1000 * x,
    "unit / 10": lambda x: x / 10,
    "unit / 1000": lambda x: x / 1000,
    "unit x 2": lambda x: 2 * x,
    "sign": lambda x: -x,
}


@dataclass(frozen=True)
class Truths:
    """States of the nature run, a day apart, in standard deviations, and how anomalies are drawn."""

    states: Tensor  # (day, channel, y, x)
    setting: Setting

    def anomalies(self, trial: int) -> Tensor:
        """Climatological anomalies of members and truth, in standard deviations."""
        climatology = self.setting.climatology
        assert climatology is not None
        covariance = climatology.covariance
        shape = covariance.noise_shape(self.setting.control.layout.state_shape)
        z = Noise(SEED, trial).normal("anomalies", shape, members=range(MEMBERS + 1), dtype=torch.float64)
        return covariance.color(z) / _scale(self.setting)


@benchmark("stream_check", summary="wrong grids, units and days that the check of a whole stream finds")
def stream_check(quick: bool, progress: Progress) -> BenchResult:
    """Draw trials for every fault and both spreads."""
    n_trials, n_days = (60, 50) if quick else (1000, 100)
    with tempfile.TemporaryDirectory() as folder:
        setting = load_setting(CONFIG, [f"nature.path={folder}/nature.nc", f"nature.steps={n_days}"])
        nature = open_or_make_nature(setting, lambda text: None)
        assert nature is not None
        times = setting.valid_times[0] + np.arange(n_days) * setting.layout.step
        truths = Truths(nature.states(times).to(torch.float64) / _scale(setting), setting)
    counts: dict[tuple[str, float], int] = {}
    for trial in range(n_trials):
        progress(trial, n_trials, "trials")
        for name, spread, found in _trial(truths, trial):
            counts[name, spread] = counts.get((name, spread), 0) + found
    rows = [share_row(f"spread {spread:g}", name, "set aside", k, n_trials) for (name, spread), k in counts.items()]
    return BenchResult(
        name="stream_check",
        config={"file": str(CONFIG), "members": MEMBERS, "observed": FRACTION, "error": ERROR},
        seeds=(SEED,),
        rows=tuple(sorted(rows, key=_order)),
        notes=(
            f"Error of observations {ERROR} climatological standard deviations, {MEMBERS} members; `none` is the rate "
            "of false alarms for each cycle and stream.",
            "A file of the day before fits almost as well as the right one (persistence errs by 0.1): it is not "
            "impossible, and is left to the drift of the chi-square.",
        ),
    )


def _trial(truths: Truths, trial: int) -> Iterator[tuple[str, float, bool]]:
    generator = Noise(SEED, trial).generator("trial")
    last = max(DAYS)
    day = int(generator.integers(last, len(truths.states))) if len(truths.states) > last else len(truths.states) - 1
    truth, anomalies = truths.states[day], truths.anomalies(trial)
    cells = np.stack([generator.permutation(truth[0].numel())[: int(FRACTION * truth[0].numel())] for _ in truth])
    errors = ERROR * generator.standard_normal(cells.shape)
    fields = {name: wrong(truth) for name, wrong in FAULTS.items()}
    fields |= {f"{days} days late": truths.states[day - days] for days in DAYS if days <= day}
    for spread in SPREADS:
        hx = _at(truth + spread * (anomalies[1:] - anomalies[:1]), cells)
        for name, field in fields.items():
            # The instrument errs before the file is made wrong: another unit scales its error, too.
            scaled = FAULTS.get(name, FAULTS["none"])(torch.from_numpy(errors[:, None])).numpy().reshape(cells.shape)
            yield name, spread, _is_set_aside(_at(field, cells) + scaled, hx)


def _is_set_aside(values: np.ndarray, hx: np.ndarray) -> bool:
    limit = QCSettings().stream_check
    fits: list[Fit] = []
    for channel, value in enumerate(values):
        own = hx[:, channel]
        fits.append(
            fit(
                value - own.mean(0),
                reference=value - np.median(value),
                spread=own.std(0, ddof=1),
                error=np.full(len(value), ERROR),
                n_members=len(own),
            )
        )
    return any(one.is_impossible(limit, usual=1.0, relative=UNEXPLAINED) for one in fits)


def _at(field: Tensor, cells: np.ndarray) -> np.ndarray:
    """Values at the cells of each channel, `(..., channel, obs)`."""
    flat = field.flatten(-2).numpy()
    return np.stack([flat[..., channel, chosen] for channel, chosen in enumerate(cells)], axis=-2)


def _scale(setting: Setting) -> Tensor:
    scale = setting.config.verification.scale
    return torch.tensor([scale[name] for name in setting.layout.channels], dtype=torch.float64)[:, None, None]


def _order(row: Row) -> tuple[str, int]:
    names = [*FAULTS, *(f"{days} days late" for days in DAYS)]
    return row.case, names.index(row.method)
