"""Settings of benchmark `lorenz96_filters`: cases, methods and how their free numbers are chosen.

A case is a system with process noise, a cycle, a network of observations of error 1, the learned transition of one
cycle, and a number of members. Free numbers (`Numbers`) of every method of every case are chosen on other truths
(`TUNING_SEED`) by the RMSE of the analysis mean, by a search that begins where another method or the first number of
members ended (`lorenz96_search`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cycler_da.schemes.ensemble.adaptive_inflation import AdaptiveInflationSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.local_particle import LocalParticleSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec

WEIGHTS = Path("data/weights/lorenz96")
STEP = 0.05  # time units
SEED, TUNING_SEED = 20260401, 20260402
#: Gaspari-Cohn half-widths in points; 20 reach all of the ring.
RADII = (2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 13.0, 16.0, 20.0)
#: Factors on anomalies that are tried all at once with every radius.
INFLATIONS = (1.0, 1.02, 1.04, 1.07, 1.1, 1.15)
#: Factors and least effective shares of local weights, searched one value at a time.
WEIGHT_INFLATIONS = (1.0, 1.02, 1.05, 1.1, 1.15, 1.2, 1.3)
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)


@dataclass(frozen=True)
class Case:
    """One setting with one number of members, and other numbers to be run after it."""

    setting: str
    weights: str
    n_members: int
    stride: int = 1  # every n-th value is observed
    noise: float = 0.0  # standard deviation of the process noise of one time step
    n_steps: int = 1  # time steps of a cycle
    others: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.setting}, {self.n_members} members"

    @property
    def system(self) -> Lorenz96Spec:
        """The true model."""
        return Lorenz96Spec(time_step=STEP, process_noise=self.noise / STEP**0.5)

    def resized(self) -> list[Case]:
        """The case with its other numbers of members."""
        return [replace(self, n_members=n, others=()) for n in self.others]


CASES = (
    Case("no noise, 40 observed", "step", 20, others=(40, 10)),
    Case("no noise, 20 observed", "step", 20, stride=2, others=(40,)),
    Case("noise 0.3, 40 observed", "step_noise", 20, noise=0.3, others=(40,)),
    Case("noise 0.3, 20 observed", "step_noise", 20, stride=2, noise=0.3, others=(40,)),
    Case("every 5 steps, 40 observed", "five_steps", 40, noise=0.1, n_steps=5, others=(20,)),
    Case("every 5 steps, 20 observed", "five_steps", 40, stride=2, noise=0.1, n_steps=5, others=(20,)),
)

#: Inflation that is carried from cycle to cycle and stays as it is: so that each ring may have its own.
FROZEN = AdaptiveInflationSpec(std=1e-9, start_std=1e-9, lower=1.0, upper=2.0)


@dataclass(frozen=True)
class Numbers:
    """What is chosen for a method."""

    radius: float = 6.5  # points
    inflation: float | None = 1.0  # None: found by the method, from 1 on
    share: float = 0.0  # least effective share of local weights; 0: as they are

    @property
    def radius_km(self) -> float:
        """A ring's cells are metres."""
        return self.radius / 1000.0


@dataclass(frozen=True)
class Candidate:
    """A method before its numbers are chosen.

    The search over `axes` begins where candidate `after` has ended; without axes its numbers are taken. Unless
    inflation is an axis all of INFLATIONS are tried with every point, and rings may have factors of their own.
    """

    name: str
    make: Callable[[Numbers], Any]
    learned: bool = True
    axes: Mapping[str, Sequence[float]] = field(default_factory=lambda: {"radius": RADII})
    after: str | None = None
    first: Numbers = Numbers()  # where it begins otherwise
    adapts: bool = False  # finds its own inflation
    is_local: bool = True  # rings may be analysed together
    resized: bool = False  # with the other numbers of members as well

    def start(self, chosen: Mapping[str, Numbers]) -> Numbers:
        """Where its search begins, given what was chosen for others or for itself with other members."""
        found = chosen.get(self.name) or chosen.get(self.after or "") or self.first
        return replace(found, inflation=None) if self.adapts else found


def _letkf(numbers: Numbers) -> LetkfSpec:
    return LetkfSpec(localization_radius_km=numbers.radius_km, inflation=1.0, adaptive_inflation=FROZEN)


def _filter(**options: Any) -> Callable[[Numbers], InterpolantFilterSpec]:
    def make(numbers: Numbers) -> InterpolantFilterSpec:
        adapt = AdaptiveInflationSpec() if numbers.inflation is None else FROZEN
        return InterpolantFilterSpec(
            localization_radius_km=numbers.radius_km, inflation=1.0, adaptive_inflation=adapt, **options
        )

    return make


def _local_particle(numbers: Numbers) -> LocalParticleSpec:
    assert numbers.inflation is not None
    return LocalParticleSpec(
        localization_radius_km=numbers.radius_km, effective_share=numbers.share, inflation=numbers.inflation
    )


def _lag_weights(numbers: Numbers) -> InterpolantFilterSpec:
    return _filter(coupling="local_weights", least_share=numbers.share or None)(numbers)


REFERENCE, LEARNED, OURS = "LETKF, true model", "LETKF, learned model", "interpolant filter"
_WEIGHTS_FIRST = Numbers(4.0, 1.05, 0.4)
_OF_WEIGHTS = {"share": SHARES, "inflation": WEIGHT_INFLATIONS, "radius": RADII}
CANDIDATES = (
    Candidate(REFERENCE, _letkf, learned=False, resized=True),
    Candidate(LEARNED, _letkf, after=REFERENCE, resized=True),
    Candidate(OURS, _filter(), after=LEARNED, resized=True),
    Candidate("interpolant filter, two passes", _filter(passes=2), after=OURS, resized=True),
    Candidate("interpolant filter, adaptive inflation", _filter(), axes={}, after=OURS, adapts=True),
    Candidate("interpolant filter, local weights", _lag_weights, axes=_OF_WEIGHTS, first=_WEIGHTS_FIRST),
    Candidate("local particle filter, learned model", _local_particle, axes=_OF_WEIGHTS, first=_WEIGHTS_FIRST),
    Candidate("guided members alone", lambda _: InterpolantFilterSpec(coupling="none"), axes={}),
    Candidate(
        "global weights",
        lambda _: InterpolantFilterSpec(gamma=0.0, inflation=1.0),
        axes={},
        is_local=False,
    ),
)
