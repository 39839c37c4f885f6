"""Training of MASF's two heads from a config: climate of a small system and what operators see of it, fit, scores.

    x    states on the attractor (`state_training`), scaled by the config's scaling
    h    one operator for each observed variable at all cells, scaled by its own mean and deviation; 0 elsewhere

Scores of the card, on states of other trajectories: the share of the variance given u that the climate's Gaussian
leaves and the network too, at every level; and the RMSE of E[x | y] with everything observed, by network, Gaussian and
climate, in units of the scaling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.trained import TrainedTransition
from cycler_da.generative.training import Progress, TrainSettings
from cycler_da.generative.two_head_denoiser import TwoHeadDenoiser
from cycler_da.generative.two_head_training import ObservedPairs, measure_unexplained, train_heads
from cycler_da.generative.two_head_weights import COVARIANCE, LEVEL, MEAN, SHARE, TRANSITION
from cycler_da.generative.two_heads import Augmented, GaussianHeads, Mixed, PairProcess, forward, pair_of_covariance
from cycler_da.layout import Layout
from cycler_da.obs import catalogue as _obs  # noqa: F401  (registers the operators)
from cycler_da.obs.fields import ObservedField, distinct_fields
from cycler_da.state_training import SimulatedStates, StateSimulation

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

FORMS = ("augmented", "dual_head")


@dataclass(frozen=True, kw_only=True)
class ObservedStates:
    """States of a system of few variables, and what operators see of them."""

    system: Mapping[str, Any]  # kind and options of a numerical system
    seed: int
    form: str  # augmented | dual_head
    observed: tuple[Mapping[str, Any], ...]  # variable and operator, one for each observed variable
    error: float  # of an observation, units of the operators
    fractions: tuple[float, ...] = (1.0,)  # of the cells that are observed; every pair of the training has one of them
    together: int = 1  # pairs of a step with one level and mask; more where the Gaussian is large
    states: int = 20_000
    held_out: int = 2_000
    spin_up: int = 400  # model steps
    spacing: int = 7  # model steps between states

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(f"data.form is {self.form!r}; valid: {', '.join(FORMS)}")
        if not self.error > 0:
            raise ConfigError(f"data.error is {self.error}; expected a positive number")
        if not self.fractions or not all(0 < part <= 1 for part in self.fractions):
            raise ConfigError(f"data.fractions is {self.fractions}; expected numbers above 0 and up to 1")
        for name in ("states", "held_out"):
            if getattr(self, name) < 100:
                raise ConfigError(f"data.{name} is {getattr(self, name)}; expected 100 or more")
        if self.together < 1:
            raise ConfigError(f"data.together is {self.together}; expected 1 or more")
        self.fields()

    def simulated(self) -> SimulatedStates:
        """The states, as the training of transitions makes them."""
        return SimulatedStates(
            system=self.system,
            seed=self.seed,
            pairs=self.states,
            held_out=self.held_out,
            spin_up=self.spin_up,
            spacing=self.spacing,
        )

    def fields(self) -> tuple[ObservedField, ...]:
        """The observed fields; raises ConfigError without any, and for two of one variable."""
        return distinct_fields(self.observed, self.simulated().layout())


def train_observed(
    data: ObservedStates,
    scaling: Scaling,
    settings: TrainSettings,
    *,
    run_folder: Path,
    on_progress: Callable[[Progress], None] | None,
    on_message: Callable[[str], None],
) -> TrainedTransition:
    """Make the pairs, fit and score; continues the fit that an earlier call left."""
    layout, fields = data.simulated().layout(), data.fields()
    simulation = StateSimulation(data.simulated(), scaling)
    on_message(f"simulate {data.states + data.held_out} states and what is seen of them")
    states, others = (
        simulation.starts(count, stream=name)
        for count, name in ((data.states, "training"), (data.held_out, "held out"))
    )
    h_scaling = scaling_of_fields(fields, states, layout)
    z, held_z = (scaled_pairs(part, fields, scaling, h_scaling) for part in (states, others))
    pair = pair_of_covariance(z.mean(dim=0), torch.cov(z.mT))
    process = pair_process(data.form, fields, h_scaling, data.error, layout)
    training, held_out = (
        ObservedPairs(part, process, process.mask[0], data.fractions, data.together) for part in (z, held_z)
    )
    on_message(f"fit {settings.network.kind}, {data.form}: {settings.steps} steps")
    model, seconds = train_heads(
        training, held_out, pair, layout.state_shape, settings, folder=run_folder, on_progress=on_progress
    )
    unexplained = measure_unexplained(model, held_out)
    return TrainedTransition(
        network=model.network,
        layout=layout,
        transition={
            "kind": TRANSITION,
            "form": data.form,
            "error": data.error,
            "observed": [dict(block) for block in data.observed],
            "observed_mean": list(h_scaling.mean),
            "observed_std": list(h_scaling.std),
        },
        measured={
            MEAN: z.mean(dim=0),
            COVARIANCE: torch.cov(z.mT),
            LEVEL: unexplained.level,
            SHARE: unexplained.share,
        },
        scores={
            "share of the Gaussian's variance that is left, by level": [round(float(v), 4) for v in unexplained.share],
            "rmse of the state given all observations": rmse_given_all(model, process, held_z),
        },
        facts={"n_states": len(z), "n_held_out": len(held_z), "seed": data.seed},
        seconds=seconds,
    )


def scaling_of_fields(
    fields: Sequence[ObservedField], states: Float[Tensor, "sample channel *space"], layout: Layout
) -> Scaling:
    """Mean and deviation of what is seen of every channel; 0 and 1 where nothing is."""
    mean, std = [0.0] * len(layout.channels), [1.0] * len(layout.channels)
    for field in fields:
        seen = field.of(states)
        mean[field.channel], std[field.channel] = float(seen.mean()), float(seen.std())
    return Scaling(tuple(mean), tuple(std))


def scaled_pairs(
    states: Float[Tensor, "sample channel *space"],
    fields: Sequence[ObservedField],
    scaling: Scaling,
    h_scaling: Scaling,
) -> Float[Tensor, "sample nm"]:
    """z = (x, h), flat, float64."""
    seen = torch.zeros_like(states)
    for field in fields:
        i = field.channel
        seen[:, i] = (field.of(states)[:, 0] - h_scaling.mean[i]) / h_scaling.std[i]
    shape = (-1, *(1 for _ in states.shape[2:]))
    mean, std = (torch.tensor(values, dtype=torch.float64).reshape(shape) for values in (scaling.mean, scaling.std))
    return torch.cat([((states - mean) / std).flatten(1), seen.flatten(1)], dim=1)


def pair_process(
    form: str, fields: Sequence[ObservedField], h_scaling: Scaling, error: float, layout: Layout
) -> PairProcess:
    """The process with every observable cell observed."""
    mask, variance = (torch.zeros(layout.state_shape, dtype=torch.float64) for _ in range(2))
    for field in fields:
        mask[field.channel] = 1.0
        variance[field.channel] = (error / h_scaling.std[field.channel]) ** 2
    common = variance[mask > 0].mean()
    noise = torch.where(mask > 0, variance, common).flatten()
    if form == "dual_head":
        return Mixed(mask.flatten()[None], noise)
    return Augmented(mask.flatten()[None], torch.cat([torch.full_like(noise, float(common)), noise]))


@torch.no_grad()
def rmse_given_all(model: TwoHeadDenoiser, process: PairProcess, z: Float[Tensor, "sample nm"]) -> dict[str, float]:
    """RMSE of E[x | u] at a = 0, u at its end: the observations of one time without any forecast."""
    n, end = z.shape[1] // 2, torch.zeros(1, 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    u = forward(process, z, end, torch.randn(len(z), len(process.noise), generator=generator, dtype=torch.float64))
    answers = {
        "network": model(u, end, process),
        "Gaussian": GaussianHeads(model.pair, process).moments(u, end)[0],
        "climatology": model.pair.mean.expand_as(z),
    }
    return {name: float((answer - z)[:, :n].square().mean().sqrt()) for name, answer in answers.items()}
