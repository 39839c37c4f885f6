"""What a learned transition knows of a window: its estimate is carried from frame to frame and back again.

From the estimate m of the Gaussian (`window_gaussian`) and the noisy frames x, with f one model step,

    forward     b_k = f(a_{k-1}),            a_k = b_k + gain [ x_k - b_k, m_k - b_k, o_k - h(b_k) ]
    back        u_k = S_k f'(a_k)^T S_{k+1}^-1 (s_{k+1} - b_{k+1}),
                s_k = a_k + gain [ u_k, x_k - a_k, m_k - a_k ]
    fields      g_k = m_k + gain [ h(s_k) - m_k, o_k - m_k ]          of observed fields o = h(x) + noise, if any

a Kalman filter and a Rauch-Tung-Striebel smoother (1965, AIAA J. 3, 1445-1450) with the derivative of f, and with gains
and error covariances S that are real matrices for every shell of wave numbers, place in the window and noise ratio.
They are measured, not derived: each gain is the least-squares answer on training windows (`smoother_training`), so
that every step is no worse there than the one before, and none is worse than the Gaussian.

All on the `inner` largest waves of the grid; smaller ones keep the Gaussian's estimate. Frames that are given stay.
Limits: one noise ratio for a batch; gains are isotropic; errors of the gains' own are not known to the next step. Cost:
one step of f and one product with its derivative for each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from cycler_da.generative.shells import Shells, resampled

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Scaled states to their observed fields, scaled, on the whole grid.
Maps = Callable[["Tensor"], "Tensor"]
#: Added to S before it is inverted, as a part of the size of the largest shell: without it rounding in waves that carry
#: next to nothing, whitened, is pulled back a thousandfold and more. And the least size, for forecasts without error.
_RIDGE, _LEAST = 3e-3, 1e-12
#: States are held within so many deviations before a step: a polynomial of what no climate has may overflow.
_FAR = 10.0
#: Most mean square of what is pulled back, in that of the surprise.
_MOST = 9.0


class Gains(Protocol):
    """Where gains and error covariances come from: tables, or training windows."""

    def spread(self, place: int, forecast: Float[Tensor, "batch state y x"]) -> Float[Tensor, "shell state state"]:
        """S of a forecast of a frame."""
        ...

    def correct(
        self, sweep: str, place: int, state: Float[Tensor, "batch n y x"], features: Float[Tensor, "batch p y x"]
    ) -> Float[Tensor, "batch n y x"]:
        """State plus gain times features."""
        ...


@dataclass(frozen=True)
class TableGains:
    """Gains of one noise ratio."""

    tables: Mapping[str, Float[Tensor, "place shell n p"]]

    def spread(self, place: int, forecast: Tensor) -> Tensor:
        """S of a forecast of a frame."""
        return self._of("spread", place, forecast.dtype)

    def correct(self, sweep: str, place: int, state: Tensor, features: Tensor) -> Tensor:
        """State plus gain times features."""
        return state + Shells(state.shape[-1]).apply(self._of(sweep, place, state.dtype), features)

    def _of(self, sweep: str, place: int, dtype: torch.dtype) -> Tensor:
        table = self.tables[sweep]
        return table[min(place, len(table) - 1)].to(dtype)


@dataclass(frozen=True)
class Smoother:
    """The two sweeps; states and fields are scaled."""

    step: Callable[[Tensor], Tensor]  # one model step, scaled states on the inner grid
    size: int
    inner: int
    n_states: int
    maps: Maps | None = None  # of the observed fields that are present

    def smooth(
        self,
        noisy: Float[Tensor, "batch frame channel y x"],
        estimate: Float[Tensor, "batch frame channel y x"],
        gains: Gains,
        n_given: int = 0,
    ) -> Float[Tensor, "batch frame channel y x"]:
        """A better estimate; frames that are given are exact in both arguments."""
        n_frames, n = noisy.shape[1], self.n_states
        x, m = (resampled(part[:, :, :n], self.inner) for part in (noisy, estimate))
        seen = noisy[:, :, n:] if self.maps is not None else None
        first, differentiable = max(n_given, 1), torch.is_grad_enabled() and noisy.requires_grad
        forward = [x[:, frame] for frame in range(n_given)]
        if not n_given:
            forward.append(self._updated(m[:, 0], x, m, seen, 0, 0, gains))
        starts, forecasts, spreads = list(forward), list(forward), [x.new_zeros(())] * first
        for frame in range(first, n_frames):
            with torch.enable_grad():
                held = forward[-1].clamp(-_FAR, _FAR)
                start = held if differentiable else held.detach().requires_grad_(True)
                forecast = self.step(start)
            starts[-1] = start
            place = frame - first + 1
            base = forecast if differentiable else forecast.detach()
            spreads.append(gains.spread(place, base))
            forecasts.append(forecast)
            forward.append(self._updated(base, x, m, seen, frame, place, gains))
            starts.append(forward[-1])
        smoothed = self._back(forward, starts, forecasts, spreads, x, m, gains, n_given, differentiable)
        states = estimate[:, :, :n] + resampled(smoothed - m, self.size)
        if seen is None:
            return states
        return torch.cat([states, self._fields(states, estimate[:, :, n:], seen, gains)], dim=2)

    def _updated(
        self, base: Tensor, x: Tensor, m: Tensor, seen: Tensor | None, frame: int, place: int, gains: Gains
    ) -> Tensor:
        features = [x[:, frame] - base, m[:, frame] - base]
        if seen is not None and self.maps is not None:
            known = self.maps(resampled(base, self.size))
            features.append(resampled(seen[:, frame] - known, self.inner))
        return gains.correct("forward", place, base, torch.cat(features, dim=1))

    def _back(
        self,
        forward: list[Tensor],
        starts: list[Tensor],
        forecasts: list[Tensor],
        spreads: list[Tensor],
        x: Tensor,
        m: Tensor,
        gains: Gains,
        n_given: int,
        differentiable: bool,
    ) -> Float[Tensor, "batch frame state y x"]:
        """The sweep from the last frame to the first that is not given."""
        shells, found = Shells(self.inner), list(forward)
        for frame in range(len(forward) - 2, n_given - 1, -1):
            base = forecasts[frame + 1] if differentiable else forecasts[frame + 1].detach()
            surprise = found[frame + 1] - base
            whitened = shells.apply(_inverse(spreads[frame + 1]), surprise)
            (turned,) = torch.autograd.grad(
                forecasts[frame + 1], starts[frame], whitened, create_graph=differentiable, retain_graph=differentiable
            )
            pulled, here = _held(shells.apply(spreads[frame + 1], turned), surprise), forward[frame]
            features = torch.cat([pulled, x[:, frame] - here, m[:, frame] - here], dim=1)
            found[frame] = gains.correct("back", len(forward) - 2 - frame, here, features)
        return torch.stack(found, dim=1)

    def _fields(self, states: Tensor, estimate: Tensor, seen: Tensor, gains: Gains) -> Tensor:
        assert self.maps is not None
        known = self.maps(states.flatten(0, 1))
        m, o = estimate.flatten(0, 1), seen.flatten(0, 1)
        return gains.correct("fields", 0, m, torch.cat([known - m, o - m], dim=1)).unflatten(0, estimate.shape[:2])


def _held(pulled: Float[Tensor, "batch n y x"], surprise: Float[Tensor, "batch n y x"]) -> Float[Tensor, "batch n y x"]:
    """What is pulled back, no larger than a few times what it comes from: states that no climate has pull far."""
    ours, theirs = (x.square().mean(dim=(1, 2, 3), keepdim=True) for x in (pulled, surprise))
    return pulled * (_MOST * theirs / (ours + _LEAST)).sqrt().clamp(max=1.0)


def _inverse(spread: Float[Tensor, "shell n n"]) -> Float[Tensor, "shell n n"]:
    largest = spread.diagonal(dim1=1, dim2=2).mean(dim=1).max().clamp(min=_LEAST)
    return torch.linalg.inv(spread + _RIDGE * largest * torch.eye(spread.shape[-1], dtype=spread.dtype))
