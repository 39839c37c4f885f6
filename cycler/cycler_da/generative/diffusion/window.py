"""The denoiser of a window of frames: the Gaussian of its spectra, and what a network knows beyond it.

    zhat = G(z) + c(r) F( z / mu, G(z), r )

G is the space-time Wiener filter of the window (`window_gaussian`), c(r) the standard deviation that it leaves in each
frame and channel, F a network on windows of a few frames, composed where the trajectory is longer (`composition`). The
target of F has unit variance at every r and F = 0 is the best Gaussian, so that a network trained for minutes is never
far worse than linear smoothing; it learns what only a nonlinear estimate can know. Such preconditioning is that of
Karras et al. (2022), arXiv:2206.00364, with a Wiener filter in place of their scalar.

Some channels may be absent (a denoiser of states from a network that also knows observed fields), and the first frames
may be given (`GivenFrames`): the network is told both. Outside the ratios it was trained on it sees the nearest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.composition import Composition
from cycler_da.generative.diffusion.sampler import Draws
from cycler_da.generative.diffusion.schedule import Schedule
from cycler_da.generative.diffusion.window_gaussian import LeftOfWindow, WindowGaussian

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Ratios r = sigma / mu on which networks are trained.
RATIOS = (0.02, 20.0)


@dataclass(frozen=True)
class WindowNetwork:
    """A network with what it was trained for: frames, all channels, and which of them are present."""

    network: Callable[[Tensor, Tensor], Tensor]
    frames: int
    channels: int
    present: tuple[int, ...]

    def correction(
        self,
        noisy: Float[Tensor, "batch frame channel y x"],
        estimate: Float[Tensor, "batch frame channel y x"],
        ratio: Float[Tensor, "batch"],
        n_given: int = 0,
    ) -> Float[Tensor, "batch frame channel y x"]:
        """F of windows of exactly `frames` frames; channels that are absent are zero for it."""
        size = torch.rsqrt(1.0 + ratio**2).view(-1, 1, 1, 1, 1).expand(-1, self.frames, -1, -1, -1).clone()
        size[:, :n_given] = 1.0
        fields = torch.cat([self._spread(noisy * size), self._spread(estimate)], dim=1)
        answer = self.network(fields, self._level(ratio, n_given))
        return answer.unflatten(1, (self.frames, self.channels))[:, :, list(self.present)]

    def improved(
        self,
        noisy: Float[Tensor, "batch frame channel y x"],
        estimate: Float[Tensor, "batch frame channel y x"],
        std: Float[Tensor, "batch frame channel 1 1"],
        ratio: float,
        n_given: int = 0,
    ) -> Float[Tensor, "batch frame channel y x"]:
        """The estimate with c F added."""
        return estimate + std * self.correction(noisy, estimate, noisy.new_full((len(noisy),), ratio), n_given)

    def left(self, ratio: float, n_given: int = 0) -> float:
        """Part of the Gaussian's squared error that is left: not known for a network, so all of it."""
        return 1.0

    def _spread(self, x: Tensor) -> Tensor:
        if len(self.present) == self.channels:
            return x.flatten(1, 2)
        full = x.new_zeros((len(x), self.frames, self.channels, *x.shape[3:]))
        full[:, :, list(self.present)] = x
        return full.flatten(1, 2)

    def _level(self, ratio: Tensor, n_given: int) -> Tensor:
        low, high = (math.log(bound) for bound in RATIOS)
        logs = torch.log(ratio).clamp(low, high)
        level = ratio.new_zeros((len(ratio), 1 + self.channels + self.frames))
        level[:, 0] = 2.0 * (logs - low) / (high - low) - 1.0
        level[:, [1 + channel for channel in self.present]] = 1.0
        level[:, 1 + self.channels : 1 + self.channels + n_given] = 1.0
        return level


class Improvement(Protocol):
    """What is known beyond the Gaussian of windows of `frames` frames, with the channels in `present`."""

    @property
    def frames(self) -> int:
        """Frames that it sees at once."""
        ...

    @property
    def present(self) -> tuple[int, ...]:
        """Channels of the window among all that it knows."""
        ...

    def improved(
        self,
        noisy: Float[Tensor, "batch frame channel y x"],
        estimate: Float[Tensor, "batch frame channel y x"],
        std: Float[Tensor, "batch frame channel 1 1"],
        ratio: float,
        n_given: int = 0,
    ) -> Float[Tensor, "batch frame channel y x"]:
        """A better estimate than the Gaussian's, which leaves the deviation `std`."""
        ...

    def left(self, ratio: float, n_given: int = 0) -> float:
        """Part of the Gaussian's squared error that is left."""
        ...


@dataclass(frozen=True)
class WindowDenoiser:
    """E[z_0 | z_t] of trajectories; without a network the Gaussian's."""

    gaussian: WindowGaussian
    schedule: Schedule
    network: Improvement | None = None
    stride: int = 1  # of the windows of the network

    def __post_init__(self) -> None:
        if self.network is not None:
            Composition(self.gaussian.frames, self.network.frames, self.stride)
            if len(self.network.present) != self.gaussian.channels:
                raise ConfigError(
                    f"a window of {self.gaussian.channels} channels and a network for {len(self.network.present)}"
                )

    def __call__(
        self, z: Float[Tensor, "batch frame channel y x"], t: float
    ) -> Float[Tensor, "batch frame channel y x"]:
        """The estimate; z in units of the scaled channels."""
        ratio, x = self.schedule.ratio(t), z / self.schedule.mu(t)
        estimate = self.gaussian.denoise(x, ratio)
        if self.network is None:
            return estimate
        composition = Composition(self.gaussian.frames, self.network.frames, self.stride)
        std = self.gaussian.left_std(x.new_tensor([ratio]))[..., None, None].expand(len(x), -1, -1, -1, -1)
        noisy, first, deviation = (composition.split(part) for part in (x, estimate, std))
        return composition.join(self.network.improved(noisy, first, deviation, ratio))

    def left(self, t: float) -> LeftOfWindow:
        """Cov[z_0 | z_t] of the Gaussian, as large as what is left is with what is known beyond it."""
        ratio = self.schedule.ratio(t)
        return self.gaussian.left_covariance(ratio, 1.0 if self.network is None else self.network.left(ratio))

    def drawn(
        self, z: Float[Tensor, "batch frame channel y x"], t: float, *, draws: Draws, step: int
    ) -> Float[Tensor, "batch frame channel y x"]:
        """A draw with what is left around the estimate."""
        clean = self(z, t)
        return clean + self.left(t).colored(draws.normal("left", clean.shape[1:], step=step).to(clean))

    def given(self, known: Float[Tensor, "batch frame channel y x"]) -> GivenFrames:
        """The denoiser of the frames after the first ones, which are known without error."""
        if self.network is not None and self.network.frames != self.gaussian.frames:
            raise ConfigError(
                f"frames can be given to a window of {self.network.frames} frames, got {self.gaussian.frames}"
            )
        rest = self.gaussian.given(known.shape[1])
        return GivenFrames(replace(self, gaussian=rest, network=None), self.network, known, rest.mean_given(known))


@dataclass(frozen=True)
class GivenFrames:
    """E[z_0 | z_t, first frames] of the other frames."""

    rest: WindowDenoiser  # of their deviation from `mean`, Gaussian
    network: Improvement | None
    known: Float[Tensor, "batch given channel y x"]
    mean: Float[Tensor, "batch frame channel y x"]

    def __call__(
        self, z: Float[Tensor, "batch frame channel y x"], t: float
    ) -> Float[Tensor, "batch frame channel y x"]:
        """The estimate of the frames after the known ones."""
        schedule = self.rest.schedule
        ratio, x = schedule.ratio(t), z / schedule.mu(t)
        estimate = self.mean + self.rest.gaussian.denoise(x - self.mean, ratio)
        if self.network is None:
            return estimate
        n_given = self.known.shape[1]
        noisy, whole = (torch.cat([self.known, part], dim=1) for part in (x, estimate))
        std = self.rest.gaussian.left_std(x.new_tensor([ratio]))[..., None, None].expand(len(x), -1, -1, -1, -1)
        std = torch.cat([std.new_zeros(len(x), n_given, *std.shape[2:]), std], dim=1)
        return self.network.improved(noisy, whole, std, ratio, n_given)[:, n_given:]

    def left(self, t: float) -> LeftOfWindow:
        """Cov[z_0 | z_t, first frames] of the Gaussian, as large as what is left."""
        ratio = self.rest.schedule.ratio(t)
        part = 1.0 if self.network is None else self.network.left(ratio, self.known.shape[1])
        return self.rest.gaussian.left_covariance(ratio, part)

    def drawn(
        self, z: Float[Tensor, "batch frame channel y x"], t: float, *, draws: Draws, step: int
    ) -> Float[Tensor, "batch frame channel y x"]:
        """A draw with what is left around the estimate."""
        clean = self(z, t)
        return clean + self.left(t).colored(draws.normal("left", clean.shape[1:], step=step).to(clean))
