"""Methods of the benchmark `kolmogorov_masf`: which run in a setting, and which of their options are searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cycler_da.bench.turbulence.kolmogorov_masf_case import Setting
from cycler_da.forecast.base import ForecastModel
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.ensf import EnsfSpec
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.free_run import FreeRunSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.masf import MasfSpec
from cycler_da.schemes.masf_two_heads import MasfTwoHeadsSpec

WEIGHTS, AUGMENTED = "data/weights/kolmogorov/masf", "data/weights/kolmogorov/masf_augmented"
DUAL_HEAD = "data/weights/kolmogorov/masf_dual_head"
LEARNED = "data/weights/kolmogorov/incompressible_spectral"
SETTINGS = (Setting(10), Setting(16), Setting(22), Setting(10, is_curved=True))
DENSEST = SETTINGS[0]
#: Steps of the bridge with a network.
STEPS = 30
#: Methods of which others are told apart, truth by truth; the first makes the first analysis of the interpolant filter.
REFERENCES = ("LETKF", "EnKF")
LETKF, ENKF = REFERENCES
#: Methods that take most of a minute or more of every truth are run on the first ones alone.
SLOW = (
    "fine-tuned, as published",
    "from scratch, bridge",
    "from scratch, as published",
    "amortised, two heads as published",
)
SLOW_TRUTHS = 3


@dataclass(frozen=True)
class Searched:
    """A method with options that are searched: their values, where the search begins, and the scheme they make."""

    make: Callable[..., Any]
    axes: Mapping[str, Sequence[float]]
    start: tuple[float, ...]
    is_learned: bool = False  # the forecast model


@dataclass(frozen=True)
class Method:
    """A scheme with its model, and what makes its first analysis if it cannot."""

    spec: Any
    model: ForecastModel
    first: Any = None
    truths: int | None = None  # how many it is run on; None: all


RADII = (3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
RTPS = (0.0, 0.25, 0.5, 0.75, 0.9)
INFLATION = (0.9, 0.95, 1.0, 1.02, 1.05, 1.1, 1.2, 1.35, 1.5)
FILTER = "interpolant filter, learned model"
SEARCHED = {
    ENKF: Searched(
        lambda radius, rtps: EnkfSpec(localization_radius_cells=radius, inflation=1.0, rtps=rtps),
        {"radius": RADII, "rtps": RTPS},
        (12.0, 0.5),
    ),
    LETKF: Searched(
        lambda radius, rtps: LetkfSpec(localization_radius_cells=radius, inflation=1.0, rtps=rtps, weight_stride=2),
        {"radius": RADII, "rtps": RTPS},
        (8.0, 0.5),
    ),
    FILTER: Searched(
        lambda radius, inflation: InterpolantFilterSpec(
            localization_radius_cells=radius, inflation=inflation, weight_stride=2
        ),
        {"radius": RADII, "inflation": INFLATION},
        (8.0, 1.05),
        is_learned=True,
    ),
    "EnSF": Searched(
        lambda eps_alpha, eps_beta: EnsfSpec(eps_alpha=eps_alpha, eps_beta=eps_beta),
        {"eps_alpha": (0.5,), "eps_beta": (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8)},
        (0.5, 0.1),
    ),
}


def methods(
    setting: Setting, chosen: Mapping[str, Any], true: ForecastModel, learned: ForecastModel
) -> dict[str, Method]:
    """Name -> scheme and model; what is the same on every grid, or for comparison, on the densest alone."""
    is_densest, letkf = setting == DENSEST, chosen[LETKF]
    found: dict[str, Method] = {}
    if is_densest:
        found["free run"] = Method(FreeRunSpec(), true)
    found[ENKF] = Method(chosen[ENKF], true)
    found[LETKF] = Method(letkf, true)
    if is_densest:
        found["LETKF, learned model"] = Method(letkf, learned)
    found[FILTER] = Method(chosen[FILTER], learned, first=letkf)
    found["EnSF"] = Method(chosen["EnSF"], true)
    of_masf = curved_masf() if setting.is_curved else linear_masf(is_densest=is_densest)
    for name, spec in of_masf.items():
        found[f"MASF, {name}"] = Method(spec, true, truths=SLOW_TRUTHS if name in SLOW else None)
    return found


def linear_masf(*, is_densest: bool) -> dict[str, Any]:
    """MASF for observations of single cells: exact bridge and published sampler; trained ones on the densest grid."""
    published = MasfSpec(weights=WEIGHTS, sampler="guided")
    found: dict[str, Any] = {
        "amortised, bridge": MasfSpec(weights=WEIGHTS, steps=STEPS),
        "amortised, as published": published,
    }
    if is_densest:
        for way, tuning in (("fine-tuned", FineTuneSpec()), ("from scratch", FineTuneSpec(begin="scratch"))):
            found[f"{way}, bridge"] = MasfSpec(weights=WEIGHTS, steps=STEPS, fine_tune=tuning)
            found[f"{way}, as published"] = MasfSpec(weights=WEIGHTS, sampler="guided", fine_tune=tuning)
        found["members, bridge"] = MasfSpec()
    return found


def curved_masf() -> dict[str, Any]:
    """MASF for curved observations: the augmented form and the published two heads, on a network and on the members."""
    return {
        "amortised, augmented": MasfTwoHeadsSpec(weights=AUGMENTED, steps=STEPS),
        "amortised, two heads as published": MasfTwoHeadsSpec(form="dual_head", weights=DUAL_HEAD),
        "members, augmented": MasfTwoHeadsSpec(),
        "members, two heads as published": MasfTwoHeadsSpec(form="dual_head"),
    }
