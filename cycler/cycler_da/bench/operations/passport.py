"""Benchmark of the calibration passport: does what a product declares hold in the cycles after it?

Two long runs: Lorenz-96 in memory (ETKF, all 40 points observed) and the default two-layer QG experiment through
the store (LETKF), whose passports are those that its files carry. At every cycle after the spin-up the coverage of
the trailing window (the passport) is compared with the realised coverage of the following period:

    within 2 points      share of comparisons with |declared - realised| <= 0.02, over 50, 80 and 90 %

Then the spread of the members is scaled, around their mean and with nothing else changed, from some cycle on, and
`verification.drift` looks at the trailing window, at the chi-square of innovations and at the spread itself: in how
many of 12 cycles is it flagged; and how often is it where nothing was changed (share of cycles). Windows that
overlap are not independent: intervals are given for the share of flagged onsets alone.

About 10 CPU minutes; `--quick` 40 s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from cycler_da.bench.registry import Progress, benchmark
from cycler_da.bench.shares import share_row
from cycler_da.cycle_plan import run_plan
from cycler_da.ensemble import Ensemble
from cycler_da.experiment import open_experiment
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.products.calibration import LEVELS
from cycler_da.products.dataset import read_ensemble
from cycler_da.products.feedback import read_feedback
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.etkf import EtkfSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec
from cycler_da.tables.report import BenchResult, Row
from cycler_da.verification.calibration import CalibrationSums, calibration_sums, calibrations, squared_spreads
from cycler_da.verification.drift import LEAST_BEFORE, MATTERS, RECENT, SPREAD_MATTERS, drift
from cycler_da.verification.window import unpack

SEED = 11
QG = Path("config/experiments/qg_default.yaml")
LETKF = "{name: letkf, scheme: {kind: letkf, localization_radius_cells: 4, weight_stride: 2, inflation: 1.02}}"
WITHIN = 0.02
SCALES = (0.7, 1.4)
SPIN_UP = 300  # steps of Lorenz-96 from near its fixed point
FLAGGED_WITHIN = 12  # cycles
WINDOW = 40  # cycles of the drift's window, as in the store


@dataclass(frozen=True)
class Series:
    """What a run gives for every cycle after the spin-up."""

    name: str
    stream: str
    sums: list[CalibrationSums]  # of the background, all accepted observations
    chi_square: dict[float, np.ndarray]  # by scale of the spread: per cycle

    @cached_property
    def spread(self) -> np.ndarray:
        """Squared spread at the observations, per cycle."""
        return squared_spreads(self.sums, self.stream)

    def seen(self, scale: float) -> dict[str, tuple[np.ndarray, float]]:
        """What the drift looks at, per cycle, were the spread scaled; and how large a change of it matters."""
        return {"innovations": (self.chi_square[scale], MATTERS), "spread": (scale**2 * self.spread, SPREAD_MATTERS)}


@benchmark("passport", summary="declared against realised coverage, and how fast a wrong spread is flagged")
def passport(quick: bool, progress: Progress) -> BenchResult:
    """Run both systems and judge their passports."""
    n_lorenz, n_qg = (700, 30) if quick else (3000, 300)
    progress(0, 2, "lorenz96")
    lorenz = _lorenz96(n_lorenz)
    progress(1, 2, "two_layer_qg")
    qg = _two_layer_qg(n_qg)
    rows = [
        *_coverage_rows(lorenz, declared=100, realised=100),
        *_coverage_rows(qg, declared=10 if quick else WINDOW, realised=5 if quick else 20),
        *_flag_rows(lorenz),
        *_flag_rows(qg),
    ]
    return BenchResult(
        name="passport",
        config={"lorenz96": {"cycles": n_lorenz, "members": 40}, "two_layer_qg": {"file": str(QG), "cycles": n_qg}},
        seeds=(SEED,),
        rows=tuple(rows),
        notes=(
            "lorenz96: window and following period of 100 cycles (4000 observations each). two_layer_qg: window of "
            "40 cycles, following period of 20, 390 observations of two variables in each.",
            "within 2 points: |declared - realised| <= 0.02 for the 50, 80 and 90 % intervals together.",
            f"flagged: onsets of a spread scaled by the factor that are flagged within {FLAGGED_WITHIN} cycles, by the "
            "chi-square of innovations or by the spread itself; delay: cycles until then, median. At factor 1: share "
            "of cycles flagged although nothing was changed.",
            "In lorenz96 the observation error is several times the spread: scaling the spread changes the expected "
            "innovations by a few per cent, which nothing made of innovations can tell within 12 cycles.",
        ),
    )


def _coverage_rows(series: Series, *, declared: int, realised: int) -> Iterator[Row]:
    differences = [
        _differences(series.sums[k - declared : k], series.sums[k : k + realised])
        for k in range(declared, len(series.sums) - realised + 1, max(1, realised // 4))
    ]
    every = np.concatenate(differences)
    yield Row(series.name, "passport", "within 2 points", float((np.abs(every) <= WITHIN).mean()), n=len(every))
    yield Row(series.name, "passport", "rms difference", float(np.sqrt((every**2).mean())), n=len(every))
    found = calibrations(series.sums)
    for i, level in enumerate(LEVELS):
        value = float(np.mean([one.coverage[i][0] for one in found]))
        yield Row(series.name, "passport", f"coverage of {level:.0%}", value, n=len(series.sums))


def _differences(before: Sequence[CalibrationSums], after: Sequence[CalibrationSums]) -> np.ndarray:
    """Declared minus realised coverage, for every group and level."""
    pairs = zip(calibrations(before), calibrations(after), strict=True)
    return np.array([x[0] - y[0] for one, other in pairs for x, y in zip(one.coverage, other.coverage, strict=True)])


def _flag_rows(series: Series) -> Iterator[Row]:
    length = len(series.chi_square[1.0])
    least = min(RECENT) + LEAST_BEFORE
    calm = [_flags(series, 1.0, onset=k, length=k) for k in range(least, length + 1)]
    yield from _shares(series.name, "spread x 1", calm)
    for scale in SCALES:
        found = [_first_flags(series, scale, k) for k in range(least, length - FLAGGED_WITHIN + 1, FLAGGED_WITHIN)]
        yield from _shares(series.name, f"spread x {scale:g}", [set(delays) for delays in found])
        in_time = [min(delays.values()) for delays in found if delays]
        if in_time:
            yield Row(series.name, f"spread x {scale:g}", "delay", float(np.median(in_time)), n=len(in_time))


def _shares(case: str, method: str, flagged: Sequence[set[str]]) -> Iterator[Row]:
    """How often the drift is flagged, at all and by what it looks at."""
    yield share_row(case, method, "flagged", sum(map(bool, flagged)), len(flagged))
    for by in ("innovations", "spread"):
        yield share_row(case, method, f"by {by}", sum(by in one for one in flagged), len(flagged))


def _first_flags(series: Series, scale: float, onset: int) -> dict[str, int]:
    """By what the change is flagged in time, and how many cycles after the onset."""
    found: dict[str, int] = {}
    for cycles in range(1, FLAGGED_WITHIN + 1):
        for by in _flags(series, scale, onset=onset, length=onset + cycles):
            found.setdefault(by, cycles)
    return found


def _flags(series: Series, scale: float, *, onset: int, length: int) -> set[str]:
    """What flags a change when the spread was scaled at a cycle and the newest cycle is the last of `length`."""
    before, after = series.seen(1.0), series.seen(scale)
    found = set()
    for by, (calm, matters) in before.items():
        joined = np.concatenate([calm[:onset], after[by][0][onset:length]])[max(0, length - WINDOW) :]
        told = drift(joined, matters=matters)
        if told is not None and told.is_flagged:
            found.add(by)
    return found


def _lorenz96(n_cycles: int, *, spin_up: int = 100, members: int = 40) -> Series:
    system = Lorenz96Spec()
    dynamics, layout, noise = system.build(), system.layout(), Noise(SEED)
    scheme = EtkfSpec(inflation=1.02).build(SchemeContext(layout))
    x = system.forcing + noise.normal("start", (1, 40), members=range(members + 1), dtype=torch.float64)
    for _ in range(SPIN_UP):
        x = dynamics.step(x)
    truth, x = x[:1], x[1:]
    where = Locations(torch.arange(40, dtype=torch.float64)[:, None], torch.zeros(40, dtype=torch.int64))
    operator, error = CellSpec().build(layout), torch.ones(40, dtype=torch.float64)
    series = Series("lorenz96", "points", [], {scale: np.zeros(n_cycles) for scale in (1.0, *SCALES)})
    start, step = np.datetime64("2020-01-01T00:00:00", "s"), layout.step
    for k in range(n_cycles + spin_up):
        truth, x = dynamics.step(truth), dynamics.step(x)
        draws = noise.shared_normal("observations", (members + 1, 40), step=k, dtype=torch.float64)
        y, time = truth[0, 0] + draws[0], start + k * step
        if k >= spin_up:
            hx = x[:, 0]
            series.sums.append(_sums("points/u", hx, hx + draws[1:], y, error))
            for scale, values in series.chi_square.items():
                values[k - spin_up] = _chi_square(hx, y, error, scale)
        ids = np.arange(40).astype(str)
        batch = ObsBatch(
            "points", operator, where, y, error, np.full(40, time), ids, torch.zeros(40, dtype=torch.int32)
        )
        background = Ensemble(x[:, None], np.array([time]), tuple(range(members)), layout)
        x = scheme.analyse(Prior(background), Observations((batch,), layout), noise=noise, carry={}).ensemble.latest
    return series


def _two_layer_qg(n_cycles: int, *, spin_up: int = 10) -> Series:
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"root={folder}/runs", f"nature.path={folder}/nature.nc", f"observations.insitu.folder={folder}/obs"]
        changes += [f"cycles.count={n_cycles + spin_up}", f"nature.steps={n_cycles + spin_up}", "plots=false"]
        with open_experiment(QG, [*changes, f"chains=[{LETKF}]"]) as experiment:
            run_plan(experiment)
            store = experiment.store("letkf")
            times = store.complete_cycles()[1 + spin_up :]
            windows = [unpack(store.product(time, "diag/window.json.gz").read_bytes()) for time in times]
            series = Series("two_layer_qg", "insitu", [window[-1].background for window in windows], {})
            scaled = [_scaled_chi_squares(store.cycle_folder(time)) for time in times]
        for i, scale in enumerate((1.0, *SCALES)):
            series.chi_square[scale] = np.array([one[i] for one in scaled])
    return series


def _scaled_chi_squares(folder: Path) -> list[float]:
    """Chi-square of all accepted innovations of a published cycle with the spread scaled; 1 first."""
    feedback = read_feedback(folder / "feedback" / "insitu.nc")
    n_members = read_ensemble(folder / "background.nc").n_members
    means = []
    for scale in (1.0, *SCALES):
        parts = []
        for name, flags in feedback["EffectiveQC"].items():
            kept = (flags == 0) | (flags == 1)
            spread, error = (feedback[g][name][kept] for g in ("hofx_spread", "ObsError"))
            expected = (1 + 1 / n_members) * (scale * spread) ** 2 + error**2
            parts.append(feedback["ombg"][name][kept] ** 2 / expected)
        means.append(float(np.concatenate(parts).mean()))
    return means


def _sums(
    group: str, hx: torch.Tensor, predicted: torch.Tensor, y: torch.Tensor, error: torch.Tensor
) -> CalibrationSums:
    return calibration_sums(group, predicted.numpy(), hx.numpy(), y.numpy(), error=error.numpy())


def _chi_square(hx: torch.Tensor, y: torch.Tensor, error: torch.Tensor, scale: float) -> float:
    expected = (1 + 1 / len(hx)) * scale**2 * hx.var(0) + error**2
    return float(((y - hx.mean(0)) ** 2 / expected).mean())
