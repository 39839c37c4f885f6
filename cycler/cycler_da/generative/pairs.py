"""Training pairs (frames, next state), and how a numerical system makes them.

Some starts are perturbed before the true step is taken, with errors as an analysis has them (white and
smooth, up to a fraction of the climatological deviation): in a cycle the network never sees a clean state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from cycler_da.generative.scaling import Scaling
from cycler_da.layout import Layout
from cycler_da.noise import Noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """Frames `(sample, time, channel, *space)` and targets `(sample, channel, *space)`, physical units."""

    frames: Float[Tensor, "sample time channel *space"]
    targets: Float[Tensor, "sample channel *space"]

    def __len__(self) -> int:
        return int(self.targets.shape[0])


class PairSource(Protocol):
    """Where pairs come from; the three sets come from different trajectories."""

    layout: Layout
    history: int

    def training(self) -> Pairs:
        """Pairs to fit."""
        ...

    def calibration(self) -> Pairs:
        """Held-out pairs from which the residual covariance is measured."""
        ...

    def trajectory(self) -> Float[Tensor, "trajectory time channel *space"]:
        """Test trajectories, unseen by both."""
        ...


@dataclass(frozen=True)
class SimulatedPairs:
    """Pairs of a numerical system, all made at once from independent members.

    `start(members)` gives states on the attractor, `step` advances a batch by one layout step; with `part` the training
    pairs are of a part of a step, which `part` takes.
    """

    layout: Layout
    start: Callable[[range], Tensor]
    step: Callable[[Tensor], Tensor]
    scaling: Scaling
    seed: int
    n_trajectories: int = 24
    n_steps: int = 300
    n_held_out: int = 8  # half for calibration, half for the test
    perturbed_fraction: float = 0.5
    perturbation: float = 0.1  # largest error, fraction of the scaling's std
    history: int = 1
    part: Callable[[Tensor], Tensor] | None = None

    def training(self) -> Pairs:
        """Trajectories of the first members; the chosen fraction starts from perturbed states."""
        states = self._run(range(self.n_trajectories), self.n_steps)
        frames, targets = states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1)
        advance = self.part or self.step
        if self.part is not None:
            targets = _advanced(frames, advance)
        generator = np.random.Generator(np.random.Philox(key=self.seed))
        chosen = torch.from_numpy(generator.random(len(frames)) < self.perturbed_fraction)
        if not bool(chosen.any()):
            return Pairs(frames[:, None], targets)
        disturbed = self._disturb(frames[chosen])
        frames, targets = frames.clone(), targets.clone()
        frames[chosen] = disturbed
        targets[chosen] = _advanced(disturbed, advance)
        return Pairs(frames[:, None], targets)

    def calibration(self) -> Pairs:
        """Pairs of held-out members, half of them from perturbed starts, every fifth step."""
        members = range(self.n_trajectories, self.n_trajectories + self.n_held_out // 2)
        states = self._run(members, self.n_steps)
        frames = states[:, :-1:5].flatten(0, 1)
        frames = torch.cat([frames[::2], self._disturb(frames[1::2])])
        return Pairs(frames[:, None], _advanced(frames, self.step))

    def trajectory(self) -> Tensor:
        """Trajectories of the last members."""
        first = self.n_trajectories + self.n_held_out // 2
        return self._run(range(first, self.n_trajectories + self.n_held_out), self.n_steps)

    def _run(self, members: range, n_steps: int) -> Tensor:
        states = [self.start(members)]
        for _ in range(n_steps):
            states.append(self.step(states[-1]))
        return torch.stack(states, dim=1)

    def _disturb(self, states: Tensor) -> Tensor:
        noise = Noise(self.seed, len(states))
        white = noise.shared_normal("pairs.white", tuple(states.shape), dtype=torch.float32)
        radius = torch.sqrt(
            (torch.fft.fftfreq(states.shape[-2]) * states.shape[-2])[:, None] ** 2
            + (torch.fft.rfftfreq(states.shape[-1]) * states.shape[-1])[None] ** 2
        )
        # Half the errors are white, half fall off beyond wave number 6, as analysis errors do between observations.
        smooth = torch.fft.irfft2(torch.fft.rfft2(white) / (1.0 + (radius / 6.0) ** 4), s=states.shape[-2:])
        smooth = smooth / smooth.std()
        pick = (torch.arange(len(states)) % 2 == 0).reshape(-1, 1, 1, 1)
        size = torch.from_numpy(noise.generator("pairs.size").random(len(states))).float().reshape(-1, 1, 1, 1)
        shape = torch.where(pick, white, smooth) * size * self.perturbation
        return states + self.scaling.stretch(shape).to(states.dtype)


def _advanced(states: Float[Tensor, "sample channel *space"], advance: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([advance(some) for some in states.split(64)])
