"""Training of the transition of a system of few variables: pairs of its own simulations, fit, scores.

    start     scaling.mean + scaling.std z, then `spin_up` model steps; one start is kept every `spacing` steps after
    pair      a start and the state `interval` model steps later, every step with the system's process noise

The layout of the weights has the step of `interval` model steps. A fraction of the starts is moved off the attractor
first (white, up to `perturbation` of the scaling's standard deviation), for in a cycle members stand beside it.

Scores of the card, on pairs of other trajectories, none of them moved: RMSE of the mean beside persistence,
climatology and the ensemble mean of the true model (the least that any mean can have); the negative log likelihood of
the residual beside that of one Gaussian for all states; and of the residual whitened by its own root the mean square
(1: the spread is right), skewness and excess kurtosis (0: no denoiser could know more than the Gaussian). Where they
are not 0 a block `denoiser` has one fitted to the whitened residual (`generative.residual_training`).

With `conditioning` errors are known to the network and not taken for the start: `conditioned_states`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.dense_training import DenseFit, ScaledPairs, residuals, root_loss, whiten, whiten_by_base
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.networks.base import MeanAndRoot, NetworkSpec, require_levels
from cycler_da.generative.residual_training import (
    N_DRAWS,
    N_SCORED,
    ResidualFit,
    energy_by_points,
    energy_score,
    held_out_loss,
)
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.registry import lookup, read_strictly
from cycler_da.systems import double_well as _double_well  # noqa: F401  (registers the system)
from cycler_da.systems import lorenz63 as _lorenz63  # noqa: F401
from cycler_da.systems import lorenz96 as _lorenz96  # noqa: F401
from cycler_da.systems.base import Dynamics, StochasticDynamics

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Most values of a state: the covariance of a member has this many squared.
_LARGEST = 100
#: Starts kept of each trajectory.
_KEPT = 50
#: Starts, and members of the true model for each, of the reference in the card.
_TRUE_STARTS, _TRUE_MEMBERS = 2000, 256


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Options of block `data.conditioning` (`conditioned_states`)."""

    levels: Sequence[float]  # from 0 on


@dataclass(frozen=True, kw_only=True)
class SimulatedStates:
    """Pairs of a system of few variables."""

    system: Mapping[str, Any]  # kind and options of a numerical system
    seed: int
    interval: int = 1  # model steps of one transition
    pairs: int = 1_000_000
    held_out: int = 50_000
    spin_up: int = 400  # model steps
    spacing: int = 7  # model steps between starts
    perturbed_fraction: float = 0.5
    perturbation: float = 0.4  # of the scaling's standard deviation
    conditioning: Mapping[str, Any] | None = None  # levels of errors of starts that the network is told

    def __post_init__(self) -> None:
        for name in ("interval", "pairs", "held_out", "spacing"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} is {getattr(self, name)}; expected 1 or more")
        if self.levels() is not None and self.perturbed_fraction != 0.0:
            raise ConfigError(
                f"data.perturbed_fraction is {self.perturbed_fraction}; with data.conditioning it is 0.0, for what "
                "follows a start with an error is the next state of the clean one, and clean ones lie on the attractor"
            )
        n_values, n_levels = prod(self.layout().state_shape), len(self.levels() or ())
        if self.pairs < 10 * n_levels * n_values:
            raise ConfigError(
                f"data.pairs is {self.pairs}; with {n_levels} levels of data.conditioning and {n_values} values "
                f"expected {10 * n_levels * n_values} or more, for every level has a residual covariance of its own"
            )

    def levels(self) -> tuple[float, ...] | None:
        """Levels of the errors of starts, standard deviations of the scaling; None where the network is told none."""
        if self.conditioning is None:
            return None
        if not isinstance(self.conditioning, Mapping):
            raise ConfigError(f"data.conditioning is {self.conditioning!r}; expected a block with levels")
        known: Conditioning = read_strictly(Conditioning, self.conditioning, where="data.conditioning")
        return require_levels(known.levels, where="data.conditioning.levels")

    def dynamics(self) -> Dynamics:
        """The true model."""
        built: Dynamics = self._spec().build()
        return built

    def layout(self) -> Layout:
        """Layout of the transition; raises ConfigError for a system without dynamics or with too many values."""
        layout: Layout = self._spec().layout()
        n_values = prod(layout.state_shape)
        if n_values > _LARGEST:
            raise ConfigError(f"data.system {layout.system!r} has {n_values} values; expected {_LARGEST} or less")
        return replace(layout, step=self.interval * layout.step)

    def _spec(self) -> Any:
        options = dict(self.system)
        kind = str(options.pop("kind", None))
        spec = lookup("system", kind)
        if not hasattr(spec, "build"):
            raise ConfigError(f"data.system.kind is {kind!r}, which has no dynamics to simulate")
        return read_strictly(spec, options, where="data.system")


@dataclass(frozen=True)
class StateSimulation:
    """Simulates the states of a training; every draw is a function of seed, stream and step."""

    data: SimulatedStates
    scaling: Scaling

    def starts(self, n: int, *, stream: str) -> Float[Tensor, "sample channel *space"]:
        """Starts on the attractor, float64, physical units."""
        data, shape = self.data, self.data.layout().state_shape
        z = Noise(data.seed).shared_normal(f"{stream}.start", (-(-n // _KEPT), *shape), dtype=torch.float64)
        x, kept = self._centre(z) + z * self._std(z), []
        x = self.advance(x, data.spin_up, stream=f"{stream}.spin_up")
        for i in range(_KEPT):
            x = self.advance(x, data.spacing, stream=f"{stream}.spacing.{i}")
            kept.append(x)
        return torch.cat(kept)[:n]

    def moved(self, x: Float[Tensor, "sample channel *space"]) -> Float[Tensor, "sample channel *space"]:
        """Starts of which the chosen fraction is moved off the attractor."""
        noise = Noise(self.data.seed)
        draws = torch.from_numpy(noise.generator("moved").random((2, len(x)))).reshape(2, -1, *(1,) * (x.ndim - 1))
        size = self.data.perturbation * draws[0] * (draws[1] < self.data.perturbed_fraction)
        return x + size * self._std(x) * noise.shared_normal("moved.by", x.shape, dtype=x.dtype)

    def advance(
        self, x: Float[Tensor, "sample channel *space"], n_steps: int, *, stream: str
    ) -> Float[Tensor, "sample channel *space"]:
        """States `n_steps` model steps later, with process noise where the system has it."""
        dynamics = self.data.dynamics()
        for step in range(n_steps):
            x = dynamics.step(x)
            if isinstance(dynamics, StochasticDynamics) and dynamics.noise_std > 0:
                z = Noise(self.data.seed).shared_normal(stream, x.shape, step=step, dtype=x.dtype)
                x = dynamics.perturb(x, z)
        return x

    def pairs(self, starts: Float[Tensor, "sample channel *space"], *, stream: str) -> ScaledPairs:
        """Each start with the state one transition later, scaled."""
        ends = self.advance(starts, self.data.interval, stream=f"{stream}.transition")
        return ScaledPairs(self.scaled(starts), self.scaled(ends))

    def true_means(self, starts: Float[Tensor, "sample channel *space"]) -> Float[Tensor, "sample channel *space"]:
        """Ensemble mean of the true model one transition later, scaled."""
        return self.true_draws(starts, _TRUE_MEMBERS, stream="true means").mean(dim=1)

    def true_draws(
        self, starts: Float[Tensor, "sample channel *space"], n: int, *, stream: str
    ) -> Float[Tensor, "sample draw channel *space"]:
        """Draws of the true model one transition later, scaled."""
        ends = self.advance(starts.repeat_interleave(n, dim=0), self.data.interval, stream=stream)
        return self.scaled(ends).unflatten(0, (-1, n))

    def scaled(self, x: Float[Tensor, "sample channel *space"]) -> Float[Tensor, "sample channel *space"]:
        """Physical to scaled, float32."""
        return ((x - self._centre(x)) / self._std(x)).to(torch.float32)

    def _centre(self, like: Tensor) -> Tensor:
        return torch.tensor(self.scaling.mean, dtype=like.dtype).reshape(-1, *(1,) * (like.ndim - 2))

    def _std(self, like: Tensor) -> Tensor:
        return torch.tensor(self.scaling.std, dtype=like.dtype).reshape(-1, *(1,) * (like.ndim - 2))


def train_states(
    data: SimulatedStates,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    run_folder: Path,
    denoiser: NetworkSpec | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] = lambda text: None,
) -> TrainedTransition:
    """Run a training to its end; continues what an earlier call left in the run folder."""
    simulation = StateSimulation(data, scaling)
    on_message(f"simulate {data.pairs} pairs of {data.interval} model steps")
    states = simulation.starts(data.pairs, stream="training")
    training = simulation.pairs(simulation.moved(states), stream="training")
    held_starts = simulation.starts(data.held_out, stream="held out")
    held_out = simulation.pairs(held_starts, stream="held out")
    on_message(f"fit {settings.network.kind}: mean, then root, {settings.steps} steps each")
    network, seconds = DenseFit(training, held_out, settings, run_folder, on_progress).run()
    flat = states[-len(states) // 5 :].flatten(1)  # the latest, which have forgotten where they began
    on_message("score on held-out pairs")
    trained = TrainedTransition(
        network=network,
        layout=data.layout(),
        transition={"kind": "dense"},
        measured={"climatology.mean": flat.mean(dim=0), "climatology.covariance": torch.atleast_2d(torch.cov(flat.T))},
        scores=score_network(network, held_out, simulation, held_starts[:_TRUE_STARTS]),
        facts={"n_pairs": len(training), "n_held_out": len(held_out), "seed": data.seed},
        seconds=seconds,
    )
    if denoiser is None:
        return trained
    on_message(f"fit {denoiser.kind} to the whitened residual, {settings.steps} steps")
    fitted, more = ResidualFit(network, denoiser, settings, run_folder, on_progress).run(training)
    on_message("score draws")
    return replace(
        trained,
        transition={"kind": "dense", "denoiser": {"kind": denoiser.kind, "arguments": dict(denoiser.arguments)}},
        scores={**trained.scores, **score_denoiser(network, fitted, held_out, simulation, held_starts[:N_SCORED])},
        seconds=seconds + more,
        denoiser=fitted,
    )


@torch.no_grad()
def score_denoiser(
    network: MeanAndRoot,
    denoiser: NetworkDenoiser,
    held_out: ScaledPairs,
    simulation: StateSimulation,
    starts: Float[Tensor, "sample channel *space"],
) -> dict[str, Any]:
    """What a card says of a denoiser; `starts` are the first of the held-out ones, physical units."""
    transition = DenseTransition(network, simulation.scaling, denoiser=denoiser)
    ends = held_out.ends[: len(starts)]
    energy = energy_by_points(transition, starts, ends, seed=simulation.data.seed, to_scaled=simulation.scaled)
    true = simulation.true_draws(starts, N_DRAWS, stream="true draws")
    return {
        "denoising loss": {"Gaussian": 1.0, "denoiser": held_out_loss(network, denoiser, held_out)},
        f"energy score of {N_DRAWS} draws, first {len(starts)} pairs": {
            **energy,
            "true model": energy_score(true, ends),
        },
    }


@torch.no_grad()
def score_network(
    network: MeanAndRoot,
    held_out: ScaledPairs,
    simulation: StateSimulation,
    starts: Float[Tensor, "sample channel *space"],
) -> dict[str, Any]:
    """Scores of a card; `starts` are the first of the held-out ones, physical units."""
    left = residuals(network, held_out)
    first = ScaledPairs(held_out.starts[: len(starts)], held_out.ends[: len(starts)])
    true = simulation.true_means(starts)
    white = whiten(network, held_out)
    return {
        "n_pairs": len(held_out),
        "units": "scaling.std",
        "rmse": {
            "model": _rmse(left),
            "persistence": _rmse(held_out.ends - held_out.starts),
            "climatology": _rmse(held_out.ends - held_out.ends.mean(dim=0)),
        },
        f"rmse, first {len(starts)} pairs": {
            "model": _rmse(residuals(network, first)),
            "mean of the true model": _rmse(first.ends - true),
            "model against the mean of the true model": _rmse(true - first.starts - network(first.starts)),
        },
        "negative log likelihood": {
            "root of its own state": float(root_loss(network, held_out)),
            "one root for all states": float(0.5 * whiten_by_base(network, held_out).square().sum(dim=1).mean()),
        },
        "whitened residual": {
            "mean square": white.square().mean(dim=0).tolist(),
            "skewness": (white**3).mean(dim=0).tolist(),
            "excess kurtosis": ((white**4).mean(dim=0) - 3.0).tolist(),
        },
    }


def _rmse(error: Tensor) -> float:
    return float(error.to(torch.float64).square().mean().sqrt())
