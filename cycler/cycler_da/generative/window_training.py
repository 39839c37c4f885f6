"""Training of a window network: what the space-time Wiener filter leaves of clean frames, at random noise.

    x = z_0 + r e,    target = (z_0 - G(x)) / c(r),    loss = | F(x, G(x), r) - target |^2

with log r uniform over `window.RATIOS`, one for each sample; 1 for F = 0. One network learns all that the schemes ask
for, one task a step, drawn at random: states alone (SDA), states with observed fields beside them (SOAD), and states of
which the first frames are given (PDEDiff); windows as long as the network's own, and longer ones of which it sees a
part. Samples are shifted around the torus and, where the law allows it, mirrored. Every draw is a function of (seed,
step), made on the processor and moved to where the network is. Adam, schedule of rates, clipping and the released
moving average are those of `generative.training`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.checkpoint import Checkpoint
from cycler_da.generative.diffusion.window import RATIOS, WindowNetwork
from cycler_da.generative.diffusion.window_gaussian import WindowGaussian, window_gaussian
from cycler_da.generative.fitting import run_steps
from cycler_da.generative.networks import build_network
from cycler_da.generative.training import Progress, TrainSettings

if TYPE_CHECKING:
    from jaxtyping import Complex, Float
    from torch import Tensor

#: Share of the steps for each kind of task.
SHARES = {"states": 0.35, "given": 0.15, "observed": 0.5}
#: Ratios at which a card says what is left of the Gaussian's error.
SCORED = (0.03, 0.1, 0.3, 1.0, 3.0)
_SCORED_WINDOWS = 24


@dataclass(frozen=True)
class Task:
    """What one step trains: which channels are present, how long the window is, how many frames are given."""

    present: tuple[int, ...]
    frames: int
    n_given: int = 0


@dataclass(frozen=True)
class WindowData:
    """Scaled trajectories of all channels, with what is known of their law."""

    training: Float[Tensor, "trajectory time channel y x"]
    held_out: Float[Tensor, "trajectory time channel y x"]
    lags: Complex[Tensor, "lag channel channel y k"]
    n_states: int  # the first channels
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # channels of observed fields by operator
    mirror: bool = False
    _gaussians: dict[Task, WindowGaussian] = field(default_factory=dict)

    def gaussian(self, task: Task) -> WindowGaussian:
        """The Gaussian of a task."""
        if task not in self._gaussians:
            whole = window_gaussian(self.lags, task.frames, channels=task.present)
            self._gaussians[task] = whole.given(task.n_given) if task.n_given else whole
        return self._gaussians[task]

    def draw(
        self, source: Float[Tensor, "trajectory time channel y x"], task: Task, n: int, generator: torch.Generator
    ) -> Float[Tensor, "n frame channel y x"]:
        """Windows at random, shifted around the torus and, where the law allows it, mirrored."""
        n_trajectories, n_times = source.shape[:2]
        shifts = torch.randint(0, source.shape[-1], (n, 2), generator=generator).tolist()
        flips = torch.rand(n, generator=generator).tolist()
        which = torch.randint(0, n_trajectories, (n,), generator=generator).tolist()
        starts = torch.randint(0, n_times - task.frames + 1, (n,), generator=generator).tolist()
        windows = []
        for i, start, shift, flip in zip(which, starts, shifts, flips, strict=True):
            window = source[i, start : start + task.frames, list(task.present)]
            if self.mirror and flip < 0.5:
                window = -window.flip(-2)
            windows.append(torch.roll(window, shift, dims=(-2, -1)))
        return torch.stack(windows)

    def presences(self) -> tuple[tuple[int, ...], ...]:
        """Channels of a task with observed fields: each operator alone, and all together."""
        states = tuple(range(self.n_states))
        alone = [states + channels for channels in self.groups.values()]
        together = tuple(range(self.training.shape[2]))
        return tuple(dict.fromkeys([*alone, together])) if alone else (states,)


class WindowFit:
    """A fit of a window network: draws tasks and batches, and takes steps."""

    def __init__(self, data: WindowData, settings: TrainSettings) -> None:
        if settings.precision != "float32" or settings.compiled:
            raise ConfigError("fit.precision and fit.compiled are not for networks of windows; leave them out")
        self.data, self.settings = data, settings
        self.frames = int(settings.network.arguments["frames"])
        self._gaussians: dict[tuple[Task, torch.device], WindowGaussian] = {}

    def run(
        self, *, folder: Path | None = None, on_progress: Callable[[Progress], None] | None = None
    ) -> tuple[nn.Module, float]:
        """All steps, continuing a checkpoint; the averaged network and the seconds it took."""
        settings = self.settings
        network, average = (build_network(settings.network, seed=settings.seed).to(settings.device) for _ in range(2))
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
        running = Checkpoint(folder, f"{settings!r} decay_over={settings.decay_over}", network, average, optimiser)

        def tell(step: int, last: float, seconds: float) -> None:
            if on_progress is not None:
                left = math.sqrt(self.left_of_gaussian(average, Task(self._states, self.frames), 0.3))
                on_progress(Progress(step, settings.steps, last, left, 1.0, seconds))

        seconds = run_steps(running, settings, lambda step: self.loss(network, step), tell)
        return average.cpu().eval(), seconds

    def loss(self, network: nn.Module, step: int) -> Float[Tensor, ""]:
        """Mean squared miss of one step's task and batch."""
        generator = torch.Generator().manual_seed((self.settings.seed << 32) + step)
        task = self.draw_task(generator)
        low, high = (math.log(bound) for bound in RATIOS)
        ratio = torch.exp(low + (high - low) * torch.rand(self.settings.batch, generator=generator))
        clean = self.data.draw(self.data.training, task, self.settings.batch, generator)
        found, target, _ = self._compare(network, task, clean, ratio, generator)
        return ((found - target) ** 2).mean()

    def draw_task(self, generator: torch.Generator) -> Task:
        """A task at random."""
        kind, size, which = torch.rand(3, generator=generator).tolist()
        longest = len(self.data.lags)
        frames = self.frames if size < 0.5 else longest
        if kind < SHARES["given"]:
            return Task(self._states, self.frames, 1 + int(which * (self.frames - 1)))
        if kind < SHARES["given"] + SHARES["states"] or not self.data.groups:
            return Task(self._states, frames)
        choices = self.data.presences()
        return Task(choices[int(which * len(choices))], frames)

    @torch.no_grad()
    def left_of_gaussian(self, network: nn.Module, task: Task, ratio: float) -> float:
        """Part of the Gaussian's squared error that the network leaves on held-out states, scaled channels pooled."""
        generator = torch.Generator().manual_seed(12345)
        windows = self.data.draw(self.data.held_out, task, _SCORED_WINDOWS, generator)
        left, whole = 0.0, 0.0
        for part in windows.split(4):
            ratios = part.new_full((len(part),), ratio)
            found, target, std = (
                x[:, :, : self.data.n_states] for x in self._compare(network, task, part, ratios, generator)
            )
            left += float(((found - target) * std).square().sum())
            whole += float((target * std).square().sum())
        return left / whole

    def _compare(
        self, network: nn.Module, task: Task, clean: Tensor, ratio: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """F, its target, and c for a part of each window as long as the network's, without frames that are given."""
        where, n = next(network.parameters()).device, task.n_given
        gaussian = self._gaussian(task, where)
        noise = torch.randn(clean[:, n:].shape, generator=generator).to(where)
        clean, ratio = clean.to(where), ratio.to(where)
        noisy = clean[:, n:] + ratio.view(-1, 1, 1, 1, 1) * noise
        mean = gaussian.mean_given(clean[:, :n]) if n else torch.zeros_like(noisy[:1])
        estimate = mean + gaussian.denoise(noisy - mean, ratio)
        std = gaussian.left_std(ratio)[..., None, None]
        target = (clean[:, n:] - estimate) / std
        noisy, estimate = (torch.cat([clean[:, :n], part], dim=1) for part in (noisy, estimate))
        first = int(torch.randint(0, noisy.shape[1] - self.frames + 1, (1,), generator=generator))
        seen = WindowNetwork(network, self.frames, self.data.training.shape[2], task.present)
        some, kept = slice(first, first + self.frames), slice(first, first + self.frames - n)
        found = seen.correction(noisy[:, some], estimate[:, some], ratio, n)[:, n:]
        return found, target[:, kept], std[:, kept]

    def _gaussian(self, task: Task, device: torch.device) -> WindowGaussian:
        if (task, device) not in self._gaussians:
            self._gaussians[task, device] = self.data.gaussian(task).on(device)
        return self._gaussians[task, device]

    @property
    def _states(self) -> tuple[int, ...]:
        return tuple(range(self.data.n_states))


def score_window(fit: WindowFit, network: nn.Module, *, ratios: Sequence[float] = SCORED) -> dict[str, Any]:
    """What the network leaves of the Gaussian's squared error of the states (1: it knows nothing more)."""
    states, longest = tuple(range(fit.data.n_states)), len(fit.data.lags)
    tasks = {
        f"{fit.frames} frames": Task(states, fit.frames),
        f"{longest} frames": Task(states, longest),
        "given the first frame": Task(states, fit.frames, 1),
    }
    tasks |= {f"with {name}": Task(states + channels, fit.frames) for name, channels in fit.data.groups.items()}
    found = {
        name: {f"{ratio:g}": round(fit.left_of_gaussian(network, task, ratio), 4) for ratio in ratios}
        for name, task in tasks.items()
    }
    return {"quantity": "squared error of the states beside the Gaussian's, by noise ratio", "left": found}
