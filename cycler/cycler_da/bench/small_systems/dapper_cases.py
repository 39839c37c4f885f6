"""Settings of filters with published errors on Lorenz-63 and Lorenz-96: one case for each paper.

The settings and errors are those listed in the experiment files of DAPPER (Raanes, Chen and Grudzien 2024, JOSS 9,
5150), which it measured with its own code: "rmse.a", the mean over time of the spatial RMS error of the analysis
mean. Cases: Sakov, Oliver and Bertino (2012), Mon. Wea. Rev. 140; de Wiljes, Acevedo and Reich (2017), observations of
X alone; Sakov and Oke (2008), Tellus 60A, with two rows of the settings of Hoteit et al. (2015), which are the same
system; Bocquet, Pires and Wu (2010), Mon. Wea. Rev. 138; Spantini, Baptista and Marzouk (2019), arXiv:1907.00389.
As there, the anomalies are inflated after the analysis. Members start around the truth with `start_variance`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cycler_da.registry import Spec
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.etkf import EtkfSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.local_particle import LocalParticleSpec
from cycler_da.schemes.observations_only import ObservationsOnlySpec
from cycler_da.schemes.particle import ParticleSpec
from cycler_da.schemes.var3d import Var3dSpec
from cycler_da.systems.lorenz63 import Lorenz63Spec
from cycler_da.systems.lorenz96 import Lorenz96Spec

#: A localization radius L of DAPPER is a Gaspari-Cohn half-width of 1.82 L.
HALF_WIDTH = 1.82


@dataclass(frozen=True)
class Method:
    """A method with its settings and its published error."""

    name: str
    published: float
    spec: Spec
    members: int
    covariance: str = "climatology"  # of var3d, or "identity"


@dataclass(frozen=True)
class Case:
    """A system, its observations and start, and the methods to compare."""

    name: str
    system: Lorenz63Spec | Lorenz96Spec
    error_variance: float
    stride: int  # every n-th value is observed
    start_mean: tuple[float, ...]
    start_variance: float
    spin_up: int  # cycles of the truth alone, long enough to reach the attractor
    burn_in: int  # cycles before those that are scored
    cycles: int  # scored
    climatology: float | None  # published error of the climatological mean
    methods: tuple[Method, ...]

    def shortened(self, *, cycles: int) -> Case:
        """The same case with fewer cycles, and without ensembles above 100 members."""
        methods = tuple(method for method in self.methods if method.members <= 100)
        return replace(self, cycles=cycles, methods=methods)

    def start_state(self) -> torch.Tensor:
        """Mean of the law that the truth is drawn from before its spin-up, `(channel, x)`."""
        return torch.tensor(self.start_mean, dtype=torch.float64).reshape(self.system.layout().state_shape)


def _oi(published: float) -> Method:
    return Method("OI from climatology", published, ObservationsOnlySpec(), 2)


def _var3d(published: float, factor: float, *, covariance: str = "climatology") -> Method:
    name = f"3D-Var, {factor:g} x {covariance}"
    return Method(name, published, Var3dSpec(factor=factor), 1, covariance)


def _enkf(published: float, members: int, inflation: float) -> Method:
    spec = EnkfSpec(inflation=1.0, analysis_inflation=inflation)
    return Method(f"EnKF N={members} infl {inflation}", published, spec, members)


def _etkf(published: float, members: int, inflation: float, *, rotation: bool = False) -> Method:
    name = f"ETKF N={members} infl {inflation}" + (" rotated" if rotation else "")
    spec = EtkfSpec(inflation=1.0, analysis_inflation=inflation, rotation=rotation)
    return Method(name, published, spec, members)


def _letkf(published: float, members: int, inflation: float, radius: float, *, rotation: bool = False) -> Method:
    name = f"LETKF N={members} infl {inflation} radius {radius:g}" + (" rotated" if rotation else "")
    half_width = HALF_WIDTH * radius
    spec = LetkfSpec(
        inflation=1.0, analysis_inflation=inflation, rotation=rotation, localization_radius_cells=half_width
    )
    return Method(name, published, spec, members)


def _netf(published: float, members: int, inflation: float) -> Method:
    return Method(
        f"NETF N={members} infl {inflation} rotated",
        published,
        LocalParticleSpec(analysis_inflation=inflation),
        members,
    )


def _particle(published: float, members: int, regularisation: float, threshold: float) -> Method:
    spec = ParticleSpec(regularisation=regularisation, resample_threshold=threshold)
    return Method(f"particle filter N={members} reg {regularisation} ESS {threshold}", published, spec, members)


LORENZ63 = Case(
    name="Lorenz-63, Sakov 2012",
    system=Lorenz63Spec(),
    error_variance=2.0,
    stride=1,
    start_mean=(1.509, -1.531, 25.46),
    start_variance=2.0,
    spin_up=64,  # 16 time units
    burn_in=40,
    cycles=400,
    climatology=7.6,
    methods=(
        _oi(1.25),
        _var3d(1.04, 0.1),
        _etkf(0.80, 3, 1.30),
        _etkf(0.60, 10, 1.02, rotation=True),
        _enkf(0.65, 10, 1.04),
        _enkf(0.56, 100, 1.01),
        _particle(0.38, 100, 2.4, 0.3),
        _particle(0.28, 800, 0.9, 0.2),
    ),
)

LORENZ96 = Case(
    name="Lorenz-96, Sakov 2008",
    system=Lorenz96Spec(),
    error_variance=1.0,
    stride=1,
    start_mean=(1.0, *[0.0] * 39),
    start_variance=0.001,
    spin_up=400,  # 20 time units
    burn_in=100,
    cycles=300,
    climatology=3.6,
    methods=(
        _oi(0.95),
        _var3d(0.41, 0.02),
        _enkf(0.22, 40, 1.06),
        _enkf(0.24, 28, 1.08),
        _etkf(0.18, 28, 1.02, rotation=True),
        _etkf(0.20, 20, 1.04, rotation=True),
        _etkf(0.217, 17, 1.03, rotation=True),
        _letkf(0.22, 7, 1.04, 4, rotation=True),
        _letkf(0.21, 10, 1.02, 4, rotation=True),
        _letkf(0.20, 10, 1.04, 6, rotation=True),
        _letkf(0.22, 10, 1.10, 10, rotation=True),
        _letkf(0.29, 10, 1.20, 15),
    ),
)

LORENZ63_X = Case(
    name="Lorenz-63, de Wiljes 2017",
    system=Lorenz63Spec(step="12s"),
    error_variance=8.0,
    stride=3,
    start_mean=(1.509, -1.531, 25.46),
    start_variance=2.0,
    spin_up=134,  # 16 time units
    burn_in=80,
    cycles=600,
    climatology=None,
    methods=(
        _oi(5.4),
        _var3d(3.0, 0.3),
        _netf(2.61, 40, 1.02),
        _particle(2.05, 35, 1.4, 0.3),
    ),
)

LORENZ96_SMALL = Case(
    name="Lorenz-96 of 10 points, Bocquet 2010",
    system=Lorenz96Spec(size=10),
    error_variance=1.5,
    stride=2,
    start_mean=(0.0,) * 10,
    start_variance=0.001,
    spin_up=400,  # 20 time units
    burn_in=100,
    cycles=500,
    climatology=None,
    methods=(
        _particle(1.0, 50, 1.7, 0.3),
        _particle(0.36, 100, 1.3, 0.2),
        _particle(0.25, 800, 0.8, 0.2),
    ),
)

#: Strongly nonlinear: observations of every second value, 0.4 time units (2 days) apart.
LORENZ96_SPARSE = Case(
    name="Lorenz-96, Spantini 2019",
    system=Lorenz96Spec(time_step=0.02, step="48h"),
    error_variance=0.5,
    stride=2,
    start_mean=(1.0, *[0.0] * 39),
    start_variance=0.1,
    spin_up=50,  # 20 time units
    burn_in=25,
    cycles=250,
    climatology=3.6,
    methods=(
        _oi(2.5),
        _var3d(2.3, 4, covariance="identity"),
        _etkf(1.3, 60, 1.10),
        _etkf(0.97, 100, 1.10),
        _letkf(1.0, 40, 1.10, 4),
        _letkf(0.89, 60, 1.02, 4),
        _letkf(0.84, 100, 1.02, 4),
    ),
)

CASES = (LORENZ63, LORENZ63_X, LORENZ96, LORENZ96_SMALL, LORENZ96_SPARSE)
