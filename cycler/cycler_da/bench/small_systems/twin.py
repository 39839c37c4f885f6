"""Twin experiments of systems of few variables, many truths at once: what the benchmarks of filters share.

    truth        trials from one start each, stepped in one batch with process noise
    observations h(truth) + error z, the same for every method
    members      centre + `start_std` z, by default about the truth; the same for every method of one size
    a cycle      forecast of the members of all trials in one batch, then one analysis for each trial

Methods forecast with the true model or with a learned transition of one cycle. Methods that treat every member by
itself (`together`) analyse the members of all trials as one ensemble: H(x_i) - y of the member's own trial against 0,
in units of `scale`, which is the same analysis and a batch instead of a loop.
Noise is keyed by seed, cycle and stream; it does not depend on what other methods are run.

A trial has diverged when a forecast has a member that is not finite or larger than `FAR`. It goes on from its first
members, as a service that is started afresh, so that the others may go on; `Run.diverged` counts how often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.localisation import GaussianDraw, SharedNoise, localise
from cycler_da.generative.prediction import LearnedTransition
from cycler_da.generative.state_path import has_state_path
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, ObservationOperator, Observations
from cycler_da.schemes.base import AnalysisScheme, Prior, SchemeContext
from cycler_da.systems.double_well import DoubleWell
from cycler_da.systems.runge_kutta import OrdinaryDynamics
from cycler_da.verification.sums import ScoreSums, ensemble_sums

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

#: More members than this are thinned for the scores: a thousand know the mean to 3 % of the spread.
MOST_SCORED = 1000
START = np.datetime64("2020-01-01T00:00:00", "s")
#: A member beyond this has left every attractor there is here (Lorenz-63 reaches 50), units of the system.
FAR = 1000.0


@dataclass(frozen=True)
class TrueModel:
    """The system with its process noise, stepped for all members in one batch."""

    dynamics: OrdinaryDynamics | DoubleWell
    n_steps: int  # model steps of a cycle

    @property
    def layout(self) -> Layout:
        """Layout of the system with the step of a cycle."""
        return replace(self.dynamics.layout, step=self.n_steps * self.dynamics.layout.step)

    def advance(self, states: Float[Tensor, "batch channel *space"], noise: Noise) -> Tensor:
        """States one cycle later."""
        for step in range(self.n_steps):
            states = self.dynamics.step(states)
            z = noise.shared_normal("window", states.shape, step=step, dtype=torch.float64)
            states = self.dynamics.perturb(states, z)
        return states


@dataclass(frozen=True)
class LearnedTruth:
    """A learned transition in the place of nature: truths that the model can have made."""

    transition: LearnedTransition
    layout: Layout
    taus: tuple[float, ...] = (0.0,)

    def advance(self, states: Float[Tensor, "batch channel *space"], noise: Noise) -> Tensor:
        """States one cycle later."""
        prediction = self.transition.predict(states[:, None])
        if len(self.taus) > 1:
            keyed = SharedNoise(noise, range(len(states)), "window")
            draw, blank = GaussianDraw(prediction.endpoint, keyed), prediction.blank(torch.float64)
            return prediction.to_state(localise(draw, self.taus, like=blank, noise=keyed))
        z = noise.shared_normal("window", states.shape, step=0, dtype=torch.float64)
        return prediction.to_state(z)


@dataclass(frozen=True)
class Network:
    """Which variables are observed, how, and how well."""

    operator: ObservationOperator
    channels: tuple[int, ...]
    error: float

    def where(self, layout: Layout) -> Locations:
        """Places of the observations: the one point of the grid."""
        position = torch.zeros((len(self.channels), len(layout.grid.axes)), dtype=torch.float64)
        return Locations(position, torch.tensor(self.channels))


@dataclass(frozen=True)
class ComponentOperator:
    """H(x) = the observed variables of a grid of one point: what `cell` gives there, without looking for the cell."""

    name: str = "component"
    is_linear: bool = True

    def __call__(
        self, x: Float[Tensor, "batch channel one"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Model equivalents."""
        return x[:, where.channel, 0]

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel one"]:
        """Transpose."""
        return v.new_zeros((len(v), *layout.state_shape)).index_add(1, where.channel, v[:, :, None])


@dataclass(frozen=True)
class CurvedOperator:
    """H(x) = curve(observed variables), on a grid of one point; no transpose."""

    curve: Callable[[Tensor], Tensor]
    name: str = "curved"
    is_linear: bool = False

    def __call__(
        self, x: Float[Tensor, "batch channel one"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Model equivalents."""
        return self.curve(x[:, where.channel, 0])

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel one"]:
        """Refused: raises ConfigError."""
        raise ConfigError("a curved operator has no transpose")


@dataclass(frozen=True)
class Twin:
    """Truths of many trials and their observations."""

    layout: Layout  # its step is a cycle
    model: TrueModel | LearnedTruth
    network: Network
    start_std: float
    seed: int
    truth: Float[Tensor, "trial time channel *space"]  # the start, then every cycle
    values: Float[Tensor, "trial cycle obs"]
    centre: Float[Tensor, "trial channel *space"]  # about which members are drawn

    @property
    def n_trials(self) -> int:
        """Number of truths."""
        return len(self.truth)

    def first_members(self, n_members: int) -> Float[Tensor, "trial member channel *space"]:
        """Members at the start."""
        shape = (self.n_trials, n_members, *self.layout.state_shape)
        z = Noise(self.seed).shared_normal(f"members.{n_members}", shape, dtype=torch.float64)
        return self.centre[:, None] + self.start_std * z


@dataclass
class CountedTransition:
    """A learned transition that counts how many members it was run for."""

    inner: LearnedTransition
    n_passes: int = 0

    @property
    def history(self) -> int:
        """Past states it reads."""
        return self.inner.history

    @property
    def state_climatology(self) -> Any:
        """That of the transition."""
        return self.inner.state_climatology

    @property
    def has_state_path(self) -> bool:
        """Whether the transition's is known."""
        return has_state_path(self.inner)

    def predict(self, frames: Float[Tensor, "batch time channel *space"]) -> Any:
        """That of the transition."""
        self.n_passes += len(frames)
        return self.inner.predict(frames)


@dataclass(frozen=True)
class Method:
    """A scheme with its model and size; without a scheme the ensemble runs free."""

    name: str
    n_members: int
    spec: Any = None
    learned: LearnedTransition | None = None  # of one cycle; None: the true model
    taus: tuple[float, ...] = (0.0,)  # of the learned model's forecasts
    together: bool = False
    scale: float = 1.0  # of the observations, where members of all trials are analysed together


@dataclass
class Run:
    """One method on a twin: iterate for the analysis states `(trial, member, channel, *space)` of every cycle."""

    twin: Twin
    method: Method
    transition: CountedTransition | None = None
    carry: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)
    background: Tensor | None = None  # of the last cycle, before its analysis
    n_analysed: int = 0
    diverged: Int[Tensor, "trial"] = field(init=False)  # how often each trial was started afresh

    def __post_init__(self) -> None:
        self.diverged = torch.zeros(self.twin.n_trials, dtype=torch.int64)

    def __iter__(self) -> Iterator[Tensor]:
        twin, method = self.twin, self.method
        if method.learned is not None:
            self.transition = CountedTransition(method.learned)
        first, scheme = twin.first_members(method.n_members), self._scheme()
        states = first
        for cycle in range(1, twin.values.shape[1] + 1):
            ahead = self._forecast(states, Noise(twin.seed, cycle))
            gone = ~(ahead.abs() <= FAR).flatten(1).all(dim=1)  # NaN is not <= anything
            previous, states = (torch.where(_as_wide(gone, x), first, x) for x in (states, ahead))
            self.background = states
            self._start_afresh(gone)
            if scheme is not None:
                states = self._analyse(scheme, previous, states, cycle)
            self.n_analysed += twin.n_trials * method.n_members
            yield states

    @property
    def passes(self) -> float:
        """Passes of the network for each member and cycle, its share of the batched forecast included."""
        return float("nan") if self.transition is None else self.transition.n_passes / self.n_analysed

    def _start_afresh(self, gone: Bool[Tensor, "trial"]) -> None:
        """Count the trials that have diverged and forget what their schemes carried."""
        self.diverged += gone
        for trial in gone.nonzero().flatten().tolist():
            self.carry.pop(trial, None)

    def _scheme(self) -> AnalysisScheme | None:
        if self.method.spec is None:
            return None
        scheme: AnalysisScheme = self.method.spec.build(SchemeContext(self.twin.layout, self._model()))
        if self.method.together and scheme.needs.couples_members and not _is_uncoupled(self.method.spec):
            raise ConfigError(f"method {self.method.name} couples members; it cannot be analysed together")
        return scheme

    def _model(self) -> InterpolantForecast | None:
        if self.transition is None:
            return None
        return InterpolantForecast(self.twin.layout, self.transition, self.method.taus, self.method.name)

    def _forecast(self, states: Tensor, noise: Noise) -> Tensor:
        batch = states.flatten(0, 1)
        model = self.twin.model
        if self.transition is not None:
            model = LearnedTruth(self.transition, self.twin.layout, self.method.taus)
        return model.advance(batch, noise).reshape(states.shape)

    def _analyse(self, scheme: AnalysisScheme, previous: Tensor, background: Tensor, cycle: int) -> Tensor:
        twin = self.twin
        if self.method.together:
            values = twin.values[:, cycle - 1].repeat_interleave(self.method.n_members, dim=0)
            observations = self._observations(torch.zeros_like(values[0]), cycle, own=values)
            noise = Noise(twin.seed, cycle)
            after = self._one(scheme, -1, previous.flatten(0, 1), background.flatten(0, 1), observations, noise)
            return after.reshape(background.shape)
        analysed = []
        for trial in range(twin.n_trials):
            observations = self._observations(twin.values[trial, cycle - 1], cycle)
            noise = Noise(twin.seed + 1 + trial, cycle)
            analysed.append(self._one(scheme, trial, previous[trial], background[trial], observations, noise))
        return torch.stack(analysed)

    def _one(
        self,
        scheme: AnalysisScheme,
        trial: int,
        previous: Tensor,
        background: Tensor,
        observations: Observations,
        noise: Noise,
    ) -> Tensor:
        layout, ids = self.twin.layout, tuple(range(len(background)))
        time = observations.batches[0].times[0]
        before = Ensemble(previous[:, None], np.array([time - layout.step]), ids, layout)
        prior = Prior(Ensemble(background[:, None], np.array([time]), ids, layout), before, self._model())
        analysis = scheme.analyse(prior, observations, noise=noise, carry=self.carry.get(trial, {}))
        self.carry[trial] = analysis.carry
        return analysis.ensemble.latest

    def _observations(self, values: Tensor, cycle: int, own: Tensor | None = None) -> Observations:
        twin, network = self.twin, self.twin.network
        n_obs = len(network.channels)
        operator: ObservationOperator = network.operator
        scale = self.method.scale if own is not None else 1.0
        if own is not None:
            operator = DepartureOperator(network.operator, own, scale)
        batch = ObsBatch(
            stream="twin",
            operator=operator,
            where=network.where(twin.layout),
            values=values,
            error=torch.full((n_obs,), network.error / scale, dtype=torch.float64),
            times=np.full(n_obs, START + cycle * twin.layout.step),
            ids=np.array([str(channel) for channel in network.channels]),
            flags=torch.zeros(n_obs, dtype=torch.int32),
        )
        return Observations((batch,), twin.layout)


@dataclass(frozen=True)
class DepartureOperator:
    """(h(x_i) - y_i) / scale, with an observation of its own for every member; to be observed as 0."""

    inner: ObservationOperator
    own: Float[Tensor, "member obs"]
    scale: float
    name: str = "departure"
    is_linear: bool = False

    def __call__(
        self, x: Float[Tensor, "batch channel *space"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Row i belongs to member i."""
        return (self.inner(x, where, layout) - self.own.to(x.dtype)) / self.scale

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel *space"]:
        """Refused: it is affine, not linear."""
        raise ConfigError("a departure is affine; it has no transpose")


def score_states(
    states: Float[Tensor, "trial member channel one"],
    truth: Float[Tensor, "trial channel one"],
    *,
    thresholds: Mapping[str, Sequence[float]] | None = None,
) -> list[ScoreSums]:
    """Score sums of one cycle for each trial, all variables together as `state`; very many members are thinned."""
    stride = max(1, states.shape[1] // MOST_SCORED)
    n = states.shape[2]
    return [
        ensemble_sums(
            members.reshape(-1, 1, n).numpy(), true.reshape(1, n).numpy(), names=["state"], thresholds=thresholds
        )
        for members, true in zip(states[:, ::stride], truth, strict=True)
    ]


def make_twin(
    model: TrueModel | LearnedTruth,
    network: Network,
    first: Float[Tensor, "trial channel *space"],
    *,
    n_cycles: int,
    start_std: float,
    seed: int,
    centre: Float[Tensor, "trial channel *space"] | None = None,
) -> Twin:
    """Truths from the given starts, and their observations; members are drawn about `centre`, by default the truth."""
    layout = model.layout
    states, kept = first, [first]
    for cycle in range(1, n_cycles + 1):
        states = model.advance(states, Noise(seed, -cycle))
        kept.append(states)
    truth = torch.stack(kept, dim=1)
    hx = network.operator(truth[:, 1:].flatten(0, 1), network.where(layout), layout).unflatten(0, (len(first), -1))
    errors = network.error * Noise(seed).shared_normal("observations", hx.shape, dtype=torch.float64)
    return Twin(layout, model, network, start_std, seed, truth, hx + errors, first if centre is None else centre)


def _as_wide(of_trials: Bool[Tensor, "trial"], states: Tensor) -> Bool[Tensor, "trial ..."]:
    return of_trials.view(-1, *(1 for _ in states.shape[1:]))


def _is_uncoupled(spec: Any) -> bool:
    return getattr(spec, "coupling", None) == "none" or getattr(spec, "prior", None) == "own_member"
