"""Systems, networks and methods of the benchmark `lorenz_masf`.

    Lorenz-63   process noise 1, a cycle of 0.25 time units, X and Y observed: as they are with error 1, or through
                arctan(x / 8) with error 0.1
    Lorenz-96   40 points, no process noise, a cycle of 0.05 time units, every second point observed: as it is with
                error 1, or through arctan(x / 4) with error 0.1

The published text names both systems and the networks (a perceptron, a U-Net of one axis), and no other number of
these experiments could be found: dimensions, gaps and errors are ours, and so no number of the paper stands beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from cycler_da.bench.small_systems.lorenz63_setup import SYSTEM as LORENZ63
from cycler_da.bench.small_systems.lorenz63_setup import learned_transition, starts
from cycler_da.bench.small_systems.twin import Network, TrueModel, Twin, make_twin
from cycler_da.errors import ConfigError
from cycler_da.generative.prediction import LearnedTransition
from cycler_da.generative.weights import load_transition
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObservationOperator
from cycler_da.obs.nonlinear import ArctanSpec
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import AnalysisScheme, Needs, Prior, SchemeContext
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.ensf import EnsfSpec
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.masf import MasfSpec
from cycler_da.schemes.masf_two_heads import MasfTwoHeadsSpec
from cycler_da.schemes.particle import ParticleSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec

if TYPE_CHECKING:
    from torch import Tensor

LORENZ96 = Lorenz96Spec()
WEIGHTS = {"lorenz63": "data/weights/lorenz63/masf", "lorenz96": "data/weights/lorenz96/masf"}
MEMBERS = 40
START_STD = {"lorenz63": 2.0, "lorenz96": 1.0}
#: Half of what its authors take, for its cost.
ENSF_STEPS = 100
#: Particles of the bootstrap filter.
PARTICLES = {"lorenz63": 5000, "lorenz96": 1000}


@dataclass(frozen=True)
class GridNetwork:
    """Observed cells of one axis, and their variables; takes the place of a `twin.Network`."""

    operator: ObservationOperator
    cells: tuple[int, ...]
    variables: tuple[int, ...]
    error: float

    @property
    def channels(self) -> tuple[int, ...]:
        """One number for each observation, its name."""
        return tuple(range(len(self.cells)))

    def where(self, layout: Layout) -> Locations:
        """Places of the observations."""
        return Locations(torch.tensor(self.cells, dtype=torch.float64)[:, None], torch.tensor(self.variables))


@dataclass(frozen=True)
class Case:
    """A system and what is observed of it."""

    name: str
    system: str
    is_curved: bool

    @property
    def n_steps(self) -> int:
        """Model steps of a cycle."""
        return 10 if self.system == "lorenz63" else 1

    def model(self) -> TrueModel:
        """The true model over a cycle."""
        dynamics = LORENZ63.build() if self.system == "lorenz63" else LORENZ96.build()
        return TrueModel(dynamics, self.n_steps)

    def climate(self, n: int, *, seed: int) -> Tensor:
        """Independent states."""
        if self.system == "lorenz63":
            return starts(n, seed=seed)
        return LORENZ96.spun_up(Noise(seed), members=range(n))

    def network(self) -> GridNetwork:
        """What is observed."""
        layout = self.model().layout
        error = 0.1 if self.is_curved else 1.0
        if self.system == "lorenz63":
            operator = ArctanSpec(scale=8.0) if self.is_curved else CellSpec()
            return GridNetwork(operator.build(layout), (0, 0), (0, 1), error)
        cells = tuple(range(0, LORENZ96.size, 2))
        operator = ArctanSpec(scale=4.0) if self.is_curved else CellSpec()
        return GridNetwork(operator.build(layout), cells, (0,) * len(cells), error)

    def twin(self, n_trials: int, n_cycles: int, *, seed: int) -> Twin:
        """Truths and observations; members are drawn about a state as far from the truth as they are from it."""
        first, std = self.climate(n_trials, seed=seed), START_STD[self.system]
        return make_twin(
            self.model(),
            cast(Network, self.network()),
            first,
            n_cycles=n_cycles,
            start_std=std,
            seed=seed,
            centre=first + std * Noise(seed).shared_normal("centre", first.shape, dtype=torch.float64),
        )

    def learned(self) -> LearnedTransition:
        """The released transition of a cycle; raises ConfigError outside a checkout."""
        if self.system == "lorenz63":
            return learned_transition(self.n_steps)
        folder = Path("data/weights/lorenz96/step")
        if not folder.is_dir():
            raise ConfigError(f"weights {folder} are not in this folder; run the benchmark from the root of a checkout")
        return load_transition(folder, layout=self.model().layout)


CASES = (
    Case("Lorenz-63, X and Y", "lorenz63", is_curved=False),
    Case("Lorenz-63, arctan of X and Y", "lorenz63", is_curved=True),
    Case("Lorenz-96, every second point", "lorenz96", is_curved=False),
    Case("Lorenz-96, arctan of every second point", "lorenz96", is_curved=True),
)


@dataclass(frozen=True)
class Searched:
    """A method whose options are searched on other truths."""

    make: Callable[..., Any]
    axes: Mapping[str, Sequence[float]]
    start: tuple[float, ...]
    is_learned: bool = False


@dataclass
class Timed:
    """A scheme that counts its processor seconds; takes the place of a Spec."""

    spec: Any
    seconds: float = 0.0
    count: int = 0
    inner: AnalysisScheme | None = field(default=None, repr=False)

    def build(self, context: SchemeContext) -> Timed:
        """Build the scheme."""
        self.inner = self.spec.build(context)
        return self

    @property
    def needs(self) -> Needs:
        """Those of the scheme."""
        assert self.inner is not None
        return self.inner.needs

    def analyse(self, prior: Prior, observations: Any, *, noise: Noise, carry: Mapping[str, Tensor]) -> Any:
        """Analyse, and count."""
        assert self.inner is not None
        began = time.process_time()
        analysis = self.inner.analyse(prior, observations, noise=noise, carry=carry)
        self.seconds, self.count = self.seconds + time.process_time() - began, self.count + 1
        return analysis


INFLATIONS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.4)
RADII = (2.0, 3.0, 4.0, 6.0, 8.0)


def searched(case: Case) -> dict[str, Searched]:
    """Methods with options to be searched."""
    scale = (8.0, 9.0, 8.6) if case.system == "lorenz63" else (3.63,)
    beta = Searched(
        lambda eps_beta: EnsfSpec(eps_beta=eps_beta, scale=scale, steps=ENSF_STEPS),
        {"eps_beta": (0.025, 0.1, 0.25, 0.5)},
        (0.1,),
    )
    inflation: Mapping[str, Sequence[float]] = {"inflation": INFLATIONS}
    if case.system == "lorenz63":
        return {
            "EnKF": Searched(lambda inflation: EnkfSpec(inflation=inflation), inflation, (1.05,)),
            "EnSF": beta,
        }
    both: Mapping[str, Sequence[float]] = {"radius": RADII, **inflation}
    return {
        "EnKF": Searched(_local(EnkfSpec), both, (4.0, 1.05)),
        "LETKF": Searched(_local(LetkfSpec), both, (4.0, 1.05)),
        "interpolant filter, learned": Searched(_local(InterpolantFilterSpec), both, (4.0, 1.05), is_learned=True),
        "EnSF": beta,
    }


def _local(spec: Any) -> Callable[..., Any]:
    return partial(_with_radius, spec)


def _with_radius(spec: Any, radius: float, inflation: float) -> Any:
    return spec(localization_radius_cells=radius, inflation=inflation)


@dataclass(frozen=True)
class Listed:
    """A method as it stands in the table."""

    spec: Any  # None: no analysis
    members: int = MEMBERS
    is_learned: bool = False
    cost: str = "fast"  # slow, slowest: fewer truths


def methods(case: Case, chosen: Mapping[str, Any]) -> dict[str, Listed]:
    """All methods of a case in the order of the table."""
    deterministic = case.system == "lorenz96"
    particle = ParticleSpec() if deterministic else ParticleSpec(regularisation=0.0)
    number = PARTICLES[case.system]
    found = {
        "free run": Listed(None),
        f"particle filter, {number}": Listed(particle, members=number),
        **{name: Listed(chosen[name]) for name in ("EnKF", "LETKF") if name in chosen},
        "interpolant filter, learned": Listed(
            chosen.get("interpolant filter, learned")
            or InterpolantFilterSpec(coupling="perturbed_observations", inflation=1.0, gamma=0.25, surprise=3.0),
            is_learned=True,
        ),
        "EnSF": Listed(chosen["EnSF"], cost="slow"),
    }
    if not case.is_curved:
        scale = (8.0, 9.0, 8.6) if case.system == "lorenz63" else (3.63,)
        found["MASF, members, as published"] = Listed(MasfSpec(sampler="guided", scale=scale), cost="slow")
        found["MASF, members, bridge"] = Listed(MasfSpec(scale=scale), cost="slow")
        return found
    found["MASF, members, augmented"] = Listed(MasfTwoHeadsSpec())
    tuning = FineTuneSpec()
    for form, label in (("augmented", "augmented"), ("dual_head", "two heads as published")):
        weights = f"{WEIGHTS[case.system]}_{form}"
        spec = partial(MasfTwoHeadsSpec, form=form, weights=weights)  # type: ignore[arg-type]  # both are forms
        found[f"MASF, amortised, {label}"] = Listed(spec(), cost="slow")
        found[f"MASF, fine-tuned, {label}"] = Listed(spec(fine_tune=tuning), cost="slowest")
    return found
