"""Methods of the benchmark `qg_classical`, which options of theirs are tuned, and between which values.

A search walks over the values from where a method served before on this system (`bench.pattern_search`); values reach
far enough that the best one should not be the last. Where it is, the table says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cycler_da.registry import Spec
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.ensf import EnsfSpec
from cycler_da.schemes.envar import EnvarSpec
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.local_particle import LocalParticleSpec
from cycler_da.schemes.nudging import NudgingSpec
from cycler_da.schemes.var3d import Var3dSpec

#: Climatological standard deviations of q1 and q2, s-1.
SCALE = (8.2e-6, 1.06e-6)
#: Stands for the B that is estimated in the benchmark itself.
B = "of the tuning period"

RADII = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # Gaspari-Cohn half-widths, cells
INFLATIONS = (1.0, 1.02, 1.04, 1.06, 1.08, 1.12, 1.16, 1.22)
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6)


@dataclass(frozen=True)
class Contender:
    """A method, its options with the values that may be tried, and where the search begins."""

    name: str
    make: Callable[..., Spec]
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    start: tuple[Any, ...] = ()
    needs_learned: bool = False  # reads the learned transition

    def spec(self, point: tuple[Any, ...]) -> Spec:
        """The scheme with one value of each option."""
        return self.make(**dict(zip(self.axes, point, strict=True)))

    def label(self, point: tuple[Any, ...]) -> str:
        """Options and values in words."""
        return ", ".join(f"{name} {value:g}" for name, value in zip(self.axes, point, strict=True))


def _letkf(radius: float, inflation: float) -> Spec:
    return LetkfSpec(localization_radius_cells=radius, inflation=inflation, weight_stride=2)


def _letkf_everywhere(radius: float, inflation: float) -> Spec:
    return LetkfSpec(localization_radius_cells=radius, inflation=inflation)


def _enkf(radius: float, inflation: float) -> Spec:
    return EnkfSpec(localization_radius_cells=radius, inflation=inflation)


def _var3d(factor: float) -> Spec:
    return Var3dSpec(b=B, factor=factor)


def _envar(share: float, radius: float, inflation: float) -> Spec:
    return EnvarSpec(static_share=share, b=B, localization_radius_cells=radius, inflation=inflation, weight_stride=2)


def _ensf(eps_alpha: float, eps_beta: float) -> Spec:
    return EnsfSpec(eps_alpha=eps_alpha, eps_beta=eps_beta, steps=60, scale=SCALE)


def _nudging(gain: float) -> Spec:
    return NudgingSpec(gain=gain)


def _local_particle(radius: float, share: float, rtps: float) -> Spec:
    return LocalParticleSpec(localization_radius_cells=radius, effective_share=share, rtps=rtps, weight_stride=2)


def _interpolant(radius: float, inflation: float) -> Spec:
    return InterpolantFilterSpec(localization_radius_cells=radius, inflation=inflation, weight_stride=2)


_LOCAL = {"radius": RADII, "inflation": INFLATIONS}
CONTENDERS = (
    Contender("LETKF", _letkf, _LOCAL, (4.0, 1.04)),
    Contender("LETKF, weights at every point", _letkf_everywhere, _LOCAL, (4.0, 1.04)),
    Contender("EnKF, localized", _enkf, _LOCAL, (4.0, 1.06)),
    Contender("3D-Var, ensemble of", _var3d, {"factor": (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)}, (2.0,)),
    Contender("EnVar", _envar, {"share": SHARES, **_LOCAL}, (0.1, 4.0, 1.04)),
    Contender(
        "EnSF",
        _ensf,
        {"eps_alpha": (0.1, 0.3, 0.5, 0.7, 0.9), "eps_beta": (0.003, 0.01, 0.025, 0.05, 0.1)},
        (0.5, 0.025),
    ),
    Contender("nudging", _nudging, {"gain": (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)}, (0.9,)),
    Contender(
        "local particle filter",
        _local_particle,
        {"radius": (0.75, 1.0, *RADII), "share": (0.1, 0.2, 0.3, 0.45, 0.6), "rtps": (0.0, 0.15, 0.3, 0.45, 0.6)},
        (1.5, 0.3, 0.3),
    ),
    Contender("interpolant filter", _interpolant, _LOCAL, (4.0, 1.04), needs_learned=True),
    Contender("free run", FreeRunSpec),
)
