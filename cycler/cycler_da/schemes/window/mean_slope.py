"""The mean slope of a curve over what is left of a value: statistical linearisation inside a denoiser.

Of a state with noise a denoiser knows x ~ N(xhat, C_t). With what is known of x without a curve (a background, linear
observations) single values are N(xlin, s^2), and about them

    h(x) = m + D (x - xlin) + e,    m = E[h],    D = E[h (x - xlin)] / s^2 = E[h'],    var e = E = var h - D^2 s^2

by quadrature on even nodes. At large noise this is regression on the climate, for which a sine that folds there tells
nothing. As the noise falls D goes to h' and E to 0. A tangent at xhat instead takes the slope where it is wrong for
most of what x may be, and calls it sure.
Source: Sarkka (2013), Bayesian Filtering and Smoothing, section 5.4; about what part of the data leaves as in
Garcia-Fernandez, Svensson, Sarkka (2015), IEEE Trans. Autom. Control 60, 1564-1579.
s is that of a whole frame and variable: exact without linear observations and for a background of whole frames, else
from a few draws of what the linear observations leave. (What they tell on average over cells would not do: as many
observations as are few take away few waves.)
Limits: e is independent from value to value; where several branches are left, one line serves them all; observations
that are neither linear nor curves of cells count as linear, by their tangents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.diffusion.likelihood import KnownCovariance
from cycler_da.generative.diffusion.sampler import Draws
from cycler_da.generative.diffusion.window import GivenFrames, WindowDenoiser
from cycler_da.generative.diffusion.window_gaussian import LeftOfWindow
from cycler_da.generative.scaling import Scaling
from cycler_da.obs.nonlinear import CurveOperator, Sine, logistic
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.window.cells import CurvePart, LinePart
from cycler_da.schemes.window.measurement import Part, WindowMeasurement

if TYPE_CHECKING:
    from jaxtyping import Float

#: Even nodes of the quadrature, and how many deviations they reach: sines to rounding up to `STEEPEST`; a bend that is
#: narrower than their distance is seen as a step (`STEEPEST_BENDS`).
NODES, REACH = 47, 7.0
#: Most periods of a sine, times 2 pi, in a climatological deviation.
STEEPEST = 7.0
#: Most scales of a curve in a climatological deviation: up to it its mean is right to .01 and its slope to 2 %, within
#: 1.5 deviations. At arctan(3 x) both are right to some ten-thousandths.
STEEPEST_BENDS: Mapping[Callable[[Tensor], Tensor], float] = {torch.atan: 8.0, logistic: 15.0}
#: What takes steeper ones.
WAYS_OUT = "linearisation tangent (sda, pdediff) or relation learned (soad)"
#: Draws by which s is found where linear observations do not cover whole frames.
PROBES = 4
#: Least deviation of a value about which h is linearised; below, the line is the tangent.
LEAST = 1e-4


def mean_line(h: Callable[[float], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """m, D s and E of a curve, from its values h(node) at xlin + node s."""
    sums: list[Tensor] = []
    for node, weight in zip(*(part.tolist() for part in _quadrature()), strict=True):
        value = h(node)
        terms = (weight * value, weight * node * value, weight * value**2)
        sums = [total + term for total, term in zip(sums, terms, strict=True)] if sums else list(terms)
    mean, rise, power = sums
    return mean, rise, (power - mean**2 - rise**2).clamp(min=0.0)


def climate(n: int) -> Float[Tensor, "n"]:
    """Scaled values as a climate N(0, 1) has them, evenly in every part of the row; float64."""
    places = torch.arange(n, dtype=torch.float64) * 0.6180339887498949 % 1.0  # the golden section
    return torch.special.ndtri(places.clamp(0.5 / n, 1.0 - 0.5 / n))


@dataclass(frozen=True)
class LinearPosterior:
    """States of a window given parts that are linear, around an estimate that is there already."""

    parts: tuple[Part, ...]
    left: Callable[[float], LeftOfWindow]
    tolerance: float
    most_iterations: int

    @property
    def given(self) -> KnownCovariance:
        """Mean and draws of z_0, from estimates in place of noisy states."""
        measurement = WindowMeasurement(self.parts)
        return KnownCovariance(lambda clean, t: clean, measurement, self.left, self.tolerance, self.most_iterations)

    def about(
        self, clean: Float[Tensor, "batch frame channel y x"], t: float
    ) -> tuple[Float[Tensor, "batch frame channel y x"], Float[Tensor, "frame channel"]]:
        """xlin, and s of every frame and channel."""
        left = self.left(t)
        if not self.parts:
            return clean, left.std(clean)
        given, measurement = self.given, WindowMeasurement(self.parts)
        eased = given.eased(clean, t)
        at = given.updated(clean, eased)
        if measurement.is_of_whole_frames:
            assert isinstance(eased[1], LeftOfWindow)  # as `left` is
            return at, eased[1].std(clean)
        # Else s is from draws of the posterior about its mean, the same for every state and step.
        generator = torch.Generator().manual_seed(0)
        like = clean.new_zeros((PROBES, *clean.shape[1:]))
        before = left.colored(torch.randn(like.shape, generator=generator).to(like))
        variance, slope = measurement.error_variance, measurement.slope(like)
        error = variance.sqrt() * torch.randn(PROBES, len(variance), generator=generator, dtype=torch.float64)
        after = before + given.moved(error - slope.forward(before), like, slope, eased)
        # What a few draws have of the deviation before is known: their part that is left counts.
        return at, left.std(like) * _deviation(after) / _deviation(before).clamp(min=torch.finfo(torch.float64).tiny)


@dataclass(frozen=True)
class LinearisedCurves:
    """E[z_0 | z_t, y] and draws of it, for states of which cells are seen through curves."""

    denoiser: WindowDenoiser | GivenFrames
    parts: tuple[Part, ...]
    tolerance: float
    most_iterations: int

    def __call__(
        self, z: Float[Tensor, "batch frame channel y x"], t: float
    ) -> Float[Tensor, "batch frame channel y x"]:
        """The mean."""
        clean = self.denoiser(z, t)
        return self._given(clean, t)(clean, t)

    def drawn(
        self, z: Float[Tensor, "batch frame channel y x"], t: float, *, draws: Draws, step: int
    ) -> Float[Tensor, "batch frame channel y x"]:
        """A draw."""
        clean = self.denoiser(z, t)
        return self._given(clean, t).drawn(clean, t, draws=draws, step=step)

    def _given(self, clean: Float[Tensor, "batch frame channel y x"], t: float) -> KnownCovariance:
        straight = tuple(part for part in self.parts if not isinstance(part, CurvePart))
        at, std = self._posterior(straight).about(clean, t)
        lines = [line_part(part, at, std) for part in self.parts if isinstance(part, CurvePart)]
        return self._posterior((*straight, *lines)).given

    def _posterior(self, parts: tuple[Part, ...]) -> LinearPosterior:
        return LinearPosterior(parts, self.denoiser.left, self.tolerance, self.most_iterations)


def steepest(curve: Callable[[Tensor], Tensor]) -> float:
    """Most scales of a curve in a climatological deviation for which the quadrature is good enough."""
    return STEEPEST if isinstance(curve, Sine) else STEEPEST_BENDS.get(curve, math.inf)


def require_operators(linearisation: str, context: SchemeContext, known: Scaling, scheme: str) -> None:
    """Raise ConfigError for tangents without a curve, and for curves that are too steep for the quadrature.

    `known` is the scaling of the states. Of streams whose variables are not known the least deviation counts; an
    analysis tells (`require_slopes`).
    """
    curved = [operator for operator in context.operators if isinstance(operator, CurveOperator)]
    if linearisation == "tangent":
        if context.operators and not curved:
            names = ", ".join(sorted({operator.name for operator in context.operators}))
            raise ConfigError(
                f"scheme {scheme}: linearisation tangent is for operators that are curves of a value, got {names}; "
                "leave it out"
            )
        return
    for operator in curved:
        if steepest(operator.curve) < math.inf:
            channels = [c for stream in context.streams if stream.operator is operator for c in stream.channels()]
            require_slope(operator, max((known.std[c] for c in channels), default=min(known.std)), scheme)


def require_slope(operator: CurveOperator, std: float, scheme: str) -> None:
    """Raise ConfigError for a curve that is too steep for values of a climatological deviation."""
    steep, most = std / operator.scale, steepest(operator.curve)
    if steep > most:
        raise ConfigError(
            f"scheme {scheme}: operator {operator.name} has the scale {operator.scale:g}, {steep:.3g} of which are "
            f"a climatological deviation; its mean slope is known up to {most:g}. Set a larger scale, or {WAYS_OUT}"
        )


def require_slopes(parts: Sequence[CurvePart]) -> None:
    """Raise AnalysisFailed for curves that are too steep for the values that they are seen to have."""
    for part in parts:
        steep, most = float(part.std.max()), steepest(part.curve)
        if steep > most:
            raise AnalysisFailed(
                f"a climatological deviation is {steep:.3g} scales of an observed curve; its mean slope is known up to "
                f"{most:g}. Set a larger scale, or {WAYS_OUT}"
            )


def line_part(
    part: CurvePart, at: Float[Tensor, "batch frame channel y x"], std: Float[Tensor, "frame channel"]
) -> LinePart:
    """The line of every curve of a part about N(at, std^2)."""
    size, places = at.shape[-1] * at.shape[-2], part.cells.places
    width, value = std.flatten()[places // size].clamp(min=LEAST), part.cells.taken(at)

    def of(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return mean_line(lambda node: part.curve((x + node * width) * part.std + part.mean))

    mean, rise, left = of(value)
    _, usual, rest = of(climate(len(places)))
    told = (usual / width) ** 2 / (rest + part.error_variance) / size
    density = torch.zeros(std.shape[1], dtype=torch.float64).index_add(0, places // size % std.shape[1], told)
    variance = part.error_variance + left
    return LinePart(part.frame, part.cells, part.values, variance, value, mean, rise / width, density)


def _deviation(draws: Float[Tensor, "draw frame channel y x"]) -> Float[Tensor, "frame channel"]:
    """Of draws about zero, over all cells."""
    return draws.to(torch.float64).square().mean(dim=(0, -2, -1)).sqrt()


@lru_cache(maxsize=1)
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for N(0, 1)."""
    nodes = np.linspace(-REACH, REACH, NODES)
    weights = np.exp(-0.5 * nodes**2)
    return nodes, weights / weights.sum()
