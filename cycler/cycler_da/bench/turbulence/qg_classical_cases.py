"""Methods of the benchmark `qg_classical` and what is tried for each of them when they are tuned.

Candidates differ from the first of their list in one or two options; grids are small on purpose, around settings that
served before on this system. The free run has nothing to tune.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

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


@dataclass(frozen=True)
class Contender:
    """A method and its candidates: label of the options -> settings."""

    name: str
    candidates: dict[str, Spec]
    needs_learned: bool = False  # reads the learned transition


def _letkf() -> dict[str, Spec]:
    return {
        f"radius {radius}, inflation {inflation}": LetkfSpec(
            localization_radius_cells=radius, inflation=inflation, weight_stride=2
        )
        for radius, inflation in product((3, 4, 6), (1.0, 1.03, 1.08))
    }


def _enkf() -> dict[str, Spec]:
    return {
        f"radius {radius}, inflation {inflation}": EnkfSpec(localization_radius_cells=radius, inflation=inflation)
        for radius, inflation in product((4, 6), (1.02, 1.06))
    }


def _envar() -> dict[str, Spec]:
    return {
        f"static share {share}, radius {radius}": EnvarSpec(
            static_share=share, b=B, localization_radius_cells=radius, inflation=1.02, weight_stride=2
        )
        for share, radius in product((0.1, 0.3, 0.6), (4, 6))
    }


def _local_particle() -> dict[str, Spec]:
    return {
        f"radius {radius}, share {share}": LocalParticleSpec(
            localization_radius_cells=radius, effective_share=share, rtps=0.3, weight_stride=2
        )
        for radius, share in product((1.5, 2.5, 4), (0.3, 0.6))
    }


def _ensf() -> dict[str, Spec]:
    return {
        f"eps_beta {eps_beta}": EnsfSpec(eps_beta=eps_beta, steps=60, scale=SCALE) for eps_beta in (0.01, 0.025, 0.1)
    }


def _interpolant() -> dict[str, Spec]:
    return {
        f"radius {radius}, inflation {inflation}": InterpolantFilterSpec(
            localization_radius_cells=radius, weight_stride=2, inflation=inflation
        )
        for radius, inflation in product((3, 4, 6), (1.0, 1.03, 1.08))
    }


CONTENDERS = (
    Contender("LETKF", _letkf()),
    Contender("EnKF, localized", _enkf()),
    Contender("3D-Var, ensemble of", {f"factor {beta}": Var3dSpec(b=B, factor=beta) for beta in (0.5, 1.0, 2.0)}),
    Contender("EnVar", _envar()),
    Contender("EnSF", _ensf()),
    Contender("nudging", {f"gain {gain}": NudgingSpec(gain=gain) for gain in (0.3, 0.6, 0.9)}),
    Contender("local particle filter", _local_particle()),
    Contender("interpolant filter", _interpolant(), needs_learned=True),
    Contender("free run", {"": FreeRunSpec()}),
)
