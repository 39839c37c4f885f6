"""Which observations moved a number on the map: the impact of single observations on P(x >= threshold) at a cell.

For J_i, the value of member i at one cell (of the analysis, or of the forecast from it), the analysis ensemble itself
tells what leaving observation j out would do, exactly where everything is linear and Gaussian:

    J - J_without_j  ~  1/(M-1) sum_i J'_i h'_ij  (y_j - mean h_j) / (sigma_j^2 - s_j^2),

with h = H(x_a), s_j their spread: the gain is P_a H^T R^-1 (as in Kalnay et al. 2012, Tellus A 64, 18462), and a
residual becomes that of the analysis without j when it is divided by 1 - s_j^2 / sigma_j^2. It is tapered with
distance where the scheme localizes. The observations with the largest expected change are then left out one by one,
with the noise keys of the archive, and what is listed is exact:

    impact = (with all) - (without j)    of the mean of J and of the probability.

Limits: the screen is linear and sees one cycle; impacts of single observations do not add up to that of all
(`without_all` is given beside them). A probability from M members moves in steps of 1/M, the mean does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch

from cycler_da.ensemble import Ensemble, append_times
from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.base import QC, Observations
from cycler_da.replay.analysis import OpenAnalysis, open_analysis
from cycler_da.replay.shadow import ArchivedCycle
from cycler_da.schemes.ensemble.localization import gaspari_cohn, grid_distance
from cycler_da.schemes.window.hx import window_hx

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: The taper of the screen reaches this many times as far as the scheme's, for errors of the day are not isotropic.
SCREEN_REACH = 2.0


@dataclass(frozen=True)
class Event:
    """`variable >= threshold` at a cell, at the cycle time or `steps` model steps later."""

    variable: str
    cell: tuple[int, ...]
    threshold: float
    steps: int = 0


@dataclass(frozen=True)
class ObsImpact:
    """One observation and what it did; `mean` in the units of the variable."""

    id: str
    stream: str
    position: tuple[float, ...]
    innovation: float
    expected: float  # change of the mean by the screen
    mean: float  # exact change of the mean of J
    probability: float  # exact change of the probability


@dataclass(frozen=True)
class ImpactList:
    """Impacts, largest first, with the number they belong to."""

    probability: float
    mean: float
    without_all: tuple[float, float]  # probability and mean without any observation
    n_screened: int
    impacts: tuple[ObsImpact, ...]


def impact_list(archived: ArchivedCycle, event: Event, *, n_exact: int = 20) -> ImpactList:
    """List the `n_exact` observations that the screen finds, with their exact impact.

    Raises ConfigError for a cell or variable that is not there, and what `open_analysis` raises.
    """
    with TemporaryDirectory(prefix="cycler-impact-") as scratch, open_analysis(archived, Path(scratch)) as opened:
        channel = _channel(opened, event)
        target = _target(opened, event, channel)
        with_all = target(opened.analysis)
        used = opened.checked.used()
        background = opened.work.setting.control.from_control(opened.work.background())
        expected = _expected(opened, event, used, with_all)
        order = torch.argsort(expected.abs(), descending=True, stable=True)[:n_exact].tolist()
        innovation = used.values - window_hx(background, used).mean(0)
        rows = _rows(used)
        impacts = []
        for j in order:
            without = target(opened.again(_without(used, j)))
            impacts.append(
                ObsImpact(
                    id=rows[j][0],
                    stream=rows[j][1],
                    position=rows[j][2],
                    innovation=float(innovation[j]),
                    expected=float(expected[j]),
                    mean=float(with_all.mean() - without.mean()),
                    probability=_share(with_all, event) - _share(without, event),
                )
            )
        nothing = target(opened.again(_without(used, slice(None))))
    impacts.sort(key=lambda one: (-abs(one.mean), one.id))
    return ImpactList(
        probability=_share(with_all, event),
        mean=float(with_all.mean()),
        without_all=(_share(nothing, event), float(nothing.mean())),
        n_screened=len(used),
        impacts=tuple(impacts),
    )


def _channel(opened: OpenAnalysis, event: Event) -> int:
    layout = opened.analysis.layout
    if event.variable not in layout.channels:
        raise ConfigError(f"no variable {event.variable!r}; valid: {', '.join(layout.channels)}")
    shape = layout.grid.shape
    if len(event.cell) != len(shape) or not all(0 <= i < n for i, n in zip(event.cell, shape, strict=True)):
        raise ConfigError(f"cell {event.cell} is not on the grid of {'x'.join(map(str, shape))} cells (from 0)")
    return layout.channels.index(event.variable)


def _target(opened: OpenAnalysis, event: Event, channel: int) -> Callable[[Ensemble], Float[Tensor, "member"]]:
    """J of every member, from an analysis in physical units."""
    work = opened.work

    def value(analysis: Ensemble) -> Tensor:
        ensemble = analysis
        if event.steps:
            control = work.setting.control
            start = append_times(work.previous(), control.to_control(analysis))
            times = work.time + event.steps * work.setting.layout.step
            noise = Noise.of_cycle(work.setting.config.seed, times)
            batch = work.setting.config.ensemble.batch
            forecast = work.executor.forecast(work.chain.source, start, np.array([times]), noise=noise, batch=batch)
            ensemble = control.from_control(forecast)
        at_cell = ensemble.latest[:, channel].flatten(1)[:, _flat(event.cell, analysis.layout.grid.shape)]
        return at_cell.to(torch.float64)

    return value


def _flat(cell: tuple[int, ...], shape: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(cell, shape))


def _expected(opened: OpenAnalysis, event: Event, used: Observations, target: Tensor) -> Float[Tensor, "obs"]:
    hx = window_hx(opened.analysis, used)
    anomaly = hx - hx.mean(0)
    covariance = (target - target.mean()) @ anomaly / (len(target) - 1)
    # A spread in the analysis above the observation error (nonlinear, localized) has no such formula: leave it be.
    remaining = (used.error_variance - anomaly.var(0)).clamp(min=0.1 * used.error_variance)
    return covariance / remaining * (used.values - hx.mean(0)) * _taper(opened, event, used)


def _taper(opened: OpenAnalysis, event: Event, used: Observations) -> Tensor:
    cells = _localization_cells(opened)
    axes = used.layout.grid.axes
    if cells is None:
        return torch.ones(len(used), dtype=torch.float64)
    here = torch.tensor([axis.centres()[i] for axis, i in zip(axes, event.cell, strict=True)], dtype=torch.float64)
    distance = grid_distance(used.positions, here.expand(len(used), -1), axes=axes)
    return gaspari_cohn(distance, SCREEN_REACH * cells * axes[-1].spacing)


def _localization_cells(opened: OpenAnalysis) -> float | None:
    """The scheme's localization radius in cells, where its block has one."""
    blocks = {block.name: block.scheme for block in opened.work.setting.config.chains}
    radius = blocks[opened.archived.chain].get("localization_radius_cells")
    return None if radius is None else float(radius)


def _without(used: Observations, chosen: int | slice) -> Observations:
    flags = used.flags.clone()
    flags[chosen] = int(QC.BLACKLIST)
    batches, start = [], 0
    for batch in used.batches:
        batches.append(replace(batch, flags=flags[start : start + len(batch)]))
        start += len(batch)
    return replace(used, batches=tuple(batches))


def _rows(used: Observations) -> list[tuple[str, str, tuple[float, ...]]]:
    return [
        (str(one), batch.stream, tuple(place))
        for batch in used.batches
        for one, place in zip(batch.ids, batch.where.position.tolist(), strict=True)
    ]


def _share(values: Sequence[float] | Tensor, event: Event) -> float:
    return float((torch.as_tensor(values) >= event.threshold).to(torch.float64).mean())
