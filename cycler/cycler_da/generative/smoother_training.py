"""Training of a window smoother: its gains by least squares, one after the other, on windows with noise.

For each task (states alone; the first frame given; observed fields beside the states) and each noise ratio the two
sweeps of `diffusion.smoother` run over training windows once; wherever they need a gain it is fitted to what is still
missing there, and then used. Nothing is iterated: the transition was trained before, the rest has a closed form. So
minutes are enough, and the same windows always give the same gains. Each task is kept when it is done (`kept_tables`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.generative.diffusion.smoother import Smoother
from cycler_da.generative.diffusion.window import RATIOS
from cycler_da.generative.diffusion.window_gaussian import WindowGaussian
from cycler_da.generative.kept_tables import KeptTables
from cycler_da.generative.shells import Shells, resampled
from cycler_da.generative.window_smoother import WindowSmoother, task_name
from cycler_da.generative.window_training import SCORED, Task, WindowData

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_SCORED_WINDOWS = 12


@dataclass(frozen=True)
class FittedGains:
    """Gains that are fitted where they are asked for, and kept."""

    truth: Float[Tensor, "batch frame channel y x"]
    n_states: int
    inner: int
    n_given: int
    kept: dict[str, dict[int, Tensor]] = field(default_factory=dict)

    def spread(self, place: int, forecast: Tensor) -> Tensor:
        """S of a forecast, over the batch."""
        error = self._states(place) - forecast
        return self._keep("spread", place, Shells(self.inner).cross(error, error)).to(forecast.dtype)

    def correct(self, sweep: str, place: int, state: Tensor, features: Tensor) -> Tensor:
        """State plus the gain that leaves least."""
        shells = Shells(state.shape[-1])
        gain = self._keep(sweep, place, shells.fit(features, self._missing(sweep, place) - state))
        return state + shells.apply(gain.to(state.dtype), features)

    def tables(self) -> dict[str, Float[Tensor, "place shell n p"]]:
        """All gains by place; places that never came up are zero."""
        found = {}
        for sweep, kept in self.kept.items():
            rows = [kept.get(place, torch.zeros_like(next(iter(kept.values())))) for place in range(max(kept) + 1)]
            found[sweep] = torch.stack(rows)
        return found

    def _missing(self, sweep: str, place: int) -> Tensor:
        if sweep == "fields":
            return self.truth[:, :, self.n_states :].flatten(0, 1)
        return self._states(place if sweep == "forward" else self.truth.shape[1] - 2 - place, sweep)

    def _states(self, place: int, sweep: str = "forward") -> Tensor:
        frame = place if sweep == "back" else place + max(self.n_given, 1) - 1
        return resampled(self.truth[:, frame, : self.n_states], self.inner)

    def _keep(self, sweep: str, place: int, value: Tensor) -> Tensor:
        self.kept.setdefault(sweep, {})[place] = value
        return value


@dataclass(frozen=True)
class SmootherFit:
    """What a fit needs: windows, the transition inside the smoother, and how much is done."""

    data: WindowData
    smoother: Mapping[tuple[int, ...], Smoother]  # by the channels that are present
    n_windows: int
    n_ratios: int
    shortest: int  # frames
    seed: int

    @property
    def ratios(self) -> Float[Tensor, "ratio"]:
        """Noise ratios of the tables."""
        low, high = (torch.log10(torch.tensor(bound, dtype=torch.float64)) for bound in RATIOS)
        return torch.logspace(float(low), float(high), self.n_ratios, dtype=torch.float64)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """States, and states with observed fields, over the shortest and longest window; states after a given frame."""
        longest, states = len(self.data.lags), tuple(range(self.data.n_states))
        kinds = dict.fromkeys([states, *self.data.presences()])
        free = [Task(present, n) for present in kinds for n in sorted({self.shortest, longest})]
        return (*free, Task(states, longest, 1))

    def tables(self, kept: KeptTables) -> tuple[dict[str, Tensor], float]:
        """All tables by task and sweep, ratios outside, and the seconds they took; what is kept is not fitted again."""
        found, seconds = dict[str, torch.Tensor](), 0.0
        for task in self.tasks:
            tables, spent = kept.of(f"gains.{self._name(task)}", partial(self._tables_of, task))
            found.update(tables)
            seconds += spent
        return found, seconds

    def _tables_of(self, task: Task) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {}
        generator, gaussian = torch.Generator().manual_seed(self.seed), self.data.gaussian(task)
        clean = self.data.draw(self.data.training, task, self.n_windows, generator)
        for ratio in self.ratios.tolist():
            noise = torch.randn(clean.shape, generator=generator)
            gains = FittedGains(clean, self.data.n_states, self.smoother[task.present].inner, task.n_given)
            noisy, estimate = estimates(gaussian, clean, noise, ratio, task.n_given)
            better = self.smoother[task.present].smooth(noisy, estimate, gains, task.n_given)
            part = _part(better, estimate, clean, self.data.n_states)
            tables = {**gains.tables(), "left": torch.full((1, 1, 1, 1), part, dtype=torch.float64)}
            for sweep, table in tables.items():
                found.setdefault(f"{self._name(task)}.{sweep}", []).append(table)
        return {name: torch.stack(some) for name, some in found.items()}

    def _name(self, task: Task) -> str:
        return f"{task_name(task.present, task.n_given, self.data.n_states)}.{task.frames}"

    def scores(self, tables: Mapping[str, Tensor]) -> dict[str, Any]:
        """What is left of the Gaussian's squared error of the states on held-out windows, by noise ratio."""
        states = tuple(range(self.data.n_states))
        longest = len(self.data.lags)
        tasks = {f"{n} frames": Task(states, n) for n in (self.shortest, longest)}
        tasks["given the first frame"] = Task(states, longest, 1)
        tasks |= {f"with {name}": Task(states + some, longest) for name, some in self.data.groups.items()}
        found = {
            name: {f"{ratio:g}": round(self._left(tables, task, ratio), 4) for ratio in SCORED}
            for name, task in tasks.items()
        }
        return {"quantity": "squared error of the states beside the Gaussian's, by noise ratio", "left": found}

    @torch.no_grad()
    def _left(self, tables: Mapping[str, Tensor], task: Task, ratio: float) -> float:
        generator = torch.Generator().manual_seed(12345)
        clean = self.data.draw(self.data.held_out, task, _SCORED_WINDOWS, generator)
        noise = torch.randn(clean.shape, generator=generator)
        noisy, estimate = estimates(self.data.gaussian(task), clean, noise, ratio, task.n_given)
        known = WindowSmoother(
            self.smoother[task.present], tables, self.ratios, task.frames, task.present, self.data.n_states
        )
        std = clean.new_ones(*clean.shape[:3], 1, 1)
        better = known.improved(noisy, estimate, std, ratio, task.n_given)
        return _part(better, estimate, clean, self.data.n_states)


def estimates(
    gaussian: WindowGaussian, clean: Tensor, noise: Tensor, ratio: float, n_given: int
) -> tuple[Tensor, Tensor]:
    """Noisy frames and what the Gaussian makes of them; given frames stay."""
    noisy = clean[:, n_given:] + ratio * noise[:, n_given:]
    mean = gaussian.mean_given(clean[:, :n_given]) if n_given else torch.zeros_like(noisy)
    estimate = mean + gaussian.denoise(noisy - mean, ratio)
    first, second = (torch.cat([clean[:, :n_given], part], dim=1) for part in (noisy, estimate))
    return first, second


def _part(better: Tensor, estimate: Tensor, clean: Tensor, n_states: int) -> float:
    left, whole = (float((part - clean)[:, :, :n_states].square().sum()) for part in (better, estimate))
    return left / whole
