"""States and observed fields of a window, tied by the mean slope of h over what is left at a noise ratio (scheme soad).

A window z = (x, h(x)) is diffused, z_t = mu z + sigma e, r = sigma / mu. The denoiser of states gives x ~ N(xhat, C_t),
and in every cell h(x) = m + D (x - xlin) + e as in `mean_slope`. The noisy field and observations y of it are values of
h with the variances r^2 and R; together they are one value v of variance q, which is one observation of D x with
variance E + q. A linear solve gives x, and the mean of h is l + E / (E + q) (v - l), l = m + D (x - xlin). Fields of a
drawn x are h(x) themselves: with an e of their own they would tell the next step, whose E is less, what is not so.

So a field tells as much of the state as its slope allows at the present noise, there and at other times and places.
Exact for linear h and a Gaussian prior.
Limits: fields that are curves of one value in their own cell; e is independent from field to field, too; those of
`mean_slope`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cycler_da.generative.conjugate_gradients import MOST_ITERATIONS
from cycler_da.generative.diffusion.likelihood import TOLERANCE, KnownCovariance
from cycler_da.generative.diffusion.sampler import Draws
from cycler_da.generative.diffusion.smoother import Maps
from cycler_da.generative.diffusion.window import WindowDenoiser
from cycler_da.schemes.window.background import WaveBackground
from cycler_da.schemes.window.cells import Cells, EntryPart, LinePart, frame_cells
from cycler_da.schemes.window.mean_slope import LEAST, LinearPosterior, climate, mean_line
from cycler_da.schemes.window.measurement import Part
from cycler_da.schemes.window.state_part import StatePart

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Line:
    """h = mean + slope (x - at) + e in every cell."""

    at: Float[Tensor, "batch frame field y x"]  # the values that the fields see
    mean: Float[Tensor, "batch frame field y x"]
    slope: Float[Tensor, "batch frame field y x"]
    left: Float[Tensor, "batch frame field y x"]  # variance of e

    def __call__(self, seen: Float[Tensor, "batch frame field y x"]) -> Float[Tensor, "batch frame field y x"]:
        """Mean of h given the values that are seen."""
        return self.mean + self.slope * (seen - self.at)


@dataclass(frozen=True)
class Curves:
    """Fields that are curves of a value in their own cell."""

    maps: Maps  # scaled states to scaled fields
    of: tuple[int, ...]  # channel of the value of each field

    def line(self, states: Float[Tensor, "batch frame channel y x"], std: Float[Tensor, "frame channel"]) -> Line:
        """The statistical linearisation about N(states, std^2)."""
        width = std.to(states).clamp(min=LEAST)[..., None, None]
        mean, rise, left = mean_line(lambda node: self.fields(states + node * width))
        return Line(self.seen(states), mean, rise / self.seen(width), left)

    def told(
        self, std: Float[Tensor, "frame channel"], variance: Float[Tensor, "frame field y x"]
    ) -> Float[Tensor, "frame channel"]:
        """Mean of D^2 / (E + q) over a climate N(0, 1) of scaled states; of no single state."""
        shape = variance.shape[-2:]
        states = climate(shape.numel()).to(variance).view(shape).expand(1, *std.shape, *shape)
        line = self.line(states, std)
        each = (line.slope**2 / (line.left + variance))[0].mean(dim=(-2, -1)).to(torch.float64)
        return torch.zeros(std.shape, dtype=torch.float64).index_add(1, torch.tensor(self.of), each)

    def fields(self, states: Float[Tensor, "batch frame channel y x"]) -> Float[Tensor, "batch frame field y x"]:
        """h of every frame."""
        return self.maps(states.flatten(0, 1)).unflatten(0, states.shape[:2]).to(states)

    def seen(self, states: Float[Tensor, "*lead channel y x"]) -> Float[Tensor, "*lead field y x"]:
        """The values that the fields see."""
        return states[..., list(self.of), :, :]


@dataclass(frozen=True)
class FieldValues:
    """Values of fields in cells, and their precisions; zero where there is none."""

    values: Float[Tensor, "*batch frame field y x"]  # times their precisions
    precision: Float[Tensor, "frame field y x"]

    @classmethod
    def of(cls, every: Sequence[Part], n_states: int, shape: tuple[int, ...]) -> FieldValues:
        """Of the single values among parts of a window of `shape`, whose channels from `n_states` on are fields."""
        parts = [part for part in every if isinstance(part, EntryPart)]
        lead = torch.broadcast_shapes(*(part.values.shape[:-1] for part in parts)) if parts else ()
        values, precision = torch.zeros(*lead, *shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
        flat = values.view(*lead, -1)
        for part in parts:
            weighed = (part.values / part.error_variance).expand(*lead, -1)
            flat.index_add_(-1, part.cells.places, weighed)
            precision.view(-1).index_add_(0, part.cells.places, 1.0 / part.error_variance)
        return cls(values[..., n_states:, :, :], precision[:, n_states:])

    def with_noisy(self, noisy: Float[Tensor, "batch frame field y x"], ratio: float) -> tuple[Tensor, Tensor]:
        """v and q: what they say together with fields that carry noise r."""
        total = self.precision + ratio**-2
        return ((self.values + noisy.to(torch.float64) * ratio**-2) / total).to(noisy), (1.0 / total).to(noisy)


def without_fields(parts: Sequence[Part], n_states: int, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """Parts of a window of `shape` as parts of one that has its states alone; those of fields are left out."""
    inner, size = (shape[0], n_states, *shape[2:]), shape[-2] * shape[-1]
    found: list[Part] = []
    for part in parts:
        if isinstance(part, StatePart | WaveBackground):
            found.append(replace(part, shape=inner))
            continue
        assert isinstance(part, EntryPart)
        frame, rest = part.cells.places // (shape[1] * size), part.cells.places % (shape[1] * size)
        here = rest < n_states * size
        if bool(here.any()):
            cells = Cells(frame[here] * n_states * size + rest[here], inner)
            found.append(EntryPart(part.frame, cells, part.values[..., here], part.error_variance[here]))
    return tuple(found)


@dataclass(frozen=True)
class Told:
    """What a noisy window tells: states given their own noisy values, and fields as lines of states."""

    clean: Float[Tensor, "batch frame channel y x"]  # xhat
    line: Line
    value: Float[Tensor, "batch frame field y x"]  # v
    variance: Float[Tensor, "frame field y x"]  # q
    density: Float[Tensor, "frame channel"]  # what fields tell of states on average over the climate

    def parts(self, of: tuple[int, ...]) -> tuple[LinePart, ...]:
        """Fields as observations of the states."""
        total, size = self.line.left + self.variance, self.clean.shape[-1] * self.clean.shape[-2]
        cells = (torch.tensor(of)[:, None] * size + torch.arange(size)).flatten()
        return tuple(
            LinePart(
                frame,
                frame_cells(frame, cells, tuple(self.clean.shape[1:])),
                values=_row(self.value, frame),
                error_variance=_row(total, frame),
                at=_row(self.line.at, frame),
                mean=_row(self.line.mean, frame),
                rise=_row(self.line.slope, frame),
                density=self.density[frame],
            )
            for frame in range(self.clean.shape[1])
        )

    def fields(self, seen: Float[Tensor, "batch frame field y x"]) -> Float[Tensor, "batch frame field y x"]:
        """Mean of the fields given the values that they see."""
        told, part = self.line(seen), self.line.left / (self.line.left + self.variance)
        return told + part * (self.value - told)


@dataclass(frozen=True)
class LinearisedFields:
    """E[z_0 | z_t, y] and draws of it, for states with their observed fields."""

    states: WindowDenoiser  # of the states alone
    curves: Curves
    known: tuple[Part, ...]  # of states, in a window of states
    observed: FieldValues
    tolerance: float = TOLERANCE
    most_iterations: int = MOST_ITERATIONS

    def __call__(
        self, z: Float[Tensor, "batch frame channel y x"], t: float
    ) -> Float[Tensor, "batch frame channel y x"]:
        """The mean."""
        told = self._told(z, t)
        x = self._given(told)(told.clean, t)
        return torch.cat([x, told.fields(self.curves.seen(x))], dim=2)

    def drawn(
        self, z: Float[Tensor, "batch frame channel y x"], t: float, *, draws: Draws, step: int
    ) -> Float[Tensor, "batch frame channel y x"]:
        """A draw: states given all, and their fields."""
        told = self._told(z, t)
        x = self._given(told).drawn(told.clean, t, draws=draws, step=step)
        return torch.cat([x, self.curves.fields(x)], dim=2)

    def _told(self, z: Float[Tensor, "batch frame channel y x"], t: float) -> Told:
        ratio, n = self.states.schedule.ratio(t), self.states.gaussian.channels
        clean = self.states(z[:, :, :n], t)
        value, variance = self.observed.with_noisy(z[:, :, n:] / self.states.schedule.mu(t), ratio)
        at, std = self._posterior(self.known).about(clean, t)
        return Told(clean, self.curves.line(at, std), value, variance, self.curves.told(std, variance))

    def _given(self, told: Told) -> KnownCovariance:
        return self._posterior((*self.known, *told.parts(self.curves.of))).given

    def _posterior(self, parts: tuple[Part, ...]) -> LinearPosterior:
        return LinearPosterior(parts, self.states.left, self.tolerance, self.most_iterations)


def _row(part: Tensor, frame: int) -> Float[Tensor, "batch obs"]:
    return part[:, frame].flatten(1).to(torch.float64)
