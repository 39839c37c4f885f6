"""Composition of windows: the denoiser of a long trajectory from one of a few frames.

    frame f of n frames takes its estimate from the window of w frames in which it stands nearest to the middle

With windows at every frame (`stride` 1) this is the pseudo Markov blanket of SDA: frames behind the first half window
take the middle output of the window around them. Its error is what frames further away than half a window would add to
E[z_0 | z_t]: none for a Markov chain at small noise, something at large noise (Rozet and Louppe 2023, sect. 3.1).
Larger strides take fewer windows: (n - w) / stride + 1 of them, the last one at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.diffusion.denoiser import Denoiser

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Composition:
    """Which windows cover `n_frames`, and which of them each frame is read from."""

    n_frames: int
    window: int
    stride: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.n_frames or self.stride < 1:
            raise ConfigError(
                f"windows of {self.window} frames at every {self.stride} cannot cover {self.n_frames} frames; expected "
                "1 <= window <= frames and a stride of 1 or more"
            )

    @property
    def starts(self) -> tuple[int, ...]:
        """First frames of the windows."""
        last = self.n_frames - self.window
        return tuple(sorted({*range(0, last + 1, self.stride), last}))

    @property
    def sources(self) -> tuple[tuple[int, int], ...]:
        """For every frame: the window it is read from and its place there; the earlier window where two are as near."""
        middle = 0.5 * (self.window - 1)
        found = []
        for frame in range(self.n_frames):
            inside = [i for i, start in enumerate(self.starts) if 0 <= frame - start < self.window]
            nearest = min(inside, key=lambda i: abs(frame - self.starts[i] - middle))
            found.append((nearest, frame - self.starts[nearest]))
        return tuple(found)

    def split(self, z: Float[Tensor, "batch frame *state"]) -> Float[Tensor, "batch_window window *state"]:
        """All windows of all trajectories; windows run fastest."""
        return torch.stack([z[:, start : start + self.window] for start in self.starts], dim=1).flatten(0, 1)

    def join(self, parts: Float[Tensor, "batch_window window *state"]) -> Float[Tensor, "batch frame *state"]:
        """The trajectory of what was computed for each window."""
        windows = parts.unflatten(0, (-1, len(self.starts)))
        return torch.stack([windows[:, i, place] for i, place in self.sources], dim=1)


@dataclass(frozen=True)
class ComposedDenoiser:
    """A denoiser of windows as one of trajectories."""

    denoiser: Denoiser
    composition: Composition

    def __call__(self, z: Float[Tensor, "batch frame *state"], t: float) -> Float[Tensor, "batch frame *state"]:
        """E[z_0 | z_t], each frame from its window."""
        return self.composition.join(self.denoiser(self.composition.split(z), t))
