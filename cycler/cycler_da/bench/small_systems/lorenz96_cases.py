"""Settings of benchmark `lorenz96_filters`: cases, methods and how their free numbers are chosen.

A case is a system with process noise, a cycle, a network of observations of error 1, and the learned transition of one
cycle. Localization radius and inflation of every method of every case are chosen on other truths (`TUNING_SEED`) by the
RMSE of the analysis mean, from all pairs of the candidates, which are the same for all methods. Variants of the
interpolant filter take those of its plain form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cycler_da.schemes.ensemble.adaptive_inflation import AdaptiveInflationSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec

WEIGHTS = Path("data/weights/lorenz96")
STEP = 0.05  # time units
SEED, TUNING_SEED = 20260401, 20260402
#: Gaspari-Cohn half-widths in cells, and factors on anomalies.
#: Gaspari-Cohn half-widths in points, where their search begins, and factors on anomalies.
RADII, FIRST_RADIUS = (3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 13.0), 6.5
INFLATIONS = (1.0, 1.02, 1.04, 1.07, 1.1, 1.15)


@dataclass(frozen=True)
class Case:
    """One setting."""

    name: str
    weights: str
    n_members: int
    stride: int = 1  # every n-th value is observed
    noise: float = 0.0  # standard deviation of the process noise of one time step
    n_steps: int = 1  # time steps of a cycle

    @property
    def system(self) -> Lorenz96Spec:
        """The true model."""
        return Lorenz96Spec(time_step=STEP, process_noise=self.noise / STEP**0.5)


CASES = (
    Case("no noise, 40 observed, 20 members", "step", 20),
    Case("no noise, 20 observed, 20 members", "step", 20, stride=2),
    Case("noise 0.3, 40 observed, 20 members", "step_noise", 20, noise=0.3),
    Case("noise 0.3, 20 observed, 20 members", "step_noise", 20, stride=2, noise=0.3),
    Case("every 5 steps, 40 observed, 40 members", "five_steps", 40, noise=0.1, n_steps=5),
    Case("every 5 steps, 20 observed, 40 members", "five_steps", 40, stride=2, noise=0.1, n_steps=5),
)


#: Inflation that is carried from cycle to cycle and stays as it is: so that each ring may have its own.
FROZEN = AdaptiveInflationSpec(std=1e-9, start_std=1e-9, lower=1.0, upper=2.0)


@dataclass(frozen=True)
class Candidate:
    """A method before its radius is chosen; `make` takes the radius in km and the adaptive inflation.

    `as_in` names the candidate whose radius and inflation it takes.
    """

    name: str
    make: Callable[[float, AdaptiveInflationSpec], Any]
    learned: bool = True
    tuned: bool = True  # has radius and inflation
    as_in: str | None = None
    adapts: bool = False  # finds its own inflation
    is_local: bool = True  # rings may be analysed together


def _letkf(radius: float, inflation: AdaptiveInflationSpec) -> LetkfSpec:
    return LetkfSpec(localization_radius_km=radius, inflation=1.0, adaptive_inflation=inflation)


def _filter(**options: Any) -> Callable[[float, AdaptiveInflationSpec], InterpolantFilterSpec]:
    def make(radius: float, inflation: AdaptiveInflationSpec) -> InterpolantFilterSpec:
        return InterpolantFilterSpec(
            localization_radius_km=radius, inflation=1.0, adaptive_inflation=inflation, **options
        )

    return make


REFERENCE, OURS = "LETKF, true model", "interpolant filter"
CANDIDATES = (
    Candidate(REFERENCE, _letkf, learned=False),
    Candidate("LETKF, learned model", _letkf),
    Candidate(OURS, _filter()),
    Candidate("interpolant filter, two passes", _filter(passes=2), as_in=OURS),
    Candidate("interpolant filter, adaptive inflation", _filter(), as_in=OURS, adapts=True),
    Candidate("guided members alone", _filter(coupling="none"), tuned=False),
    Candidate("global weights", _filter(gamma=0.0), tuned=False, is_local=False),
)
