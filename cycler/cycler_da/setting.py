"""Setting: an experiment with every block of its config built and checked against the others.

Nothing here reads fields or writes files; weights are loaded, so that wrong ones fail before any cycle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cycler_da import nature as _nature  # noqa: F401  (registers the nature kinds)
from cycler_da.config import ChainBlock, DrawBlock, ExperimentConfig, StreamBlock, load_config, read_settings, read_spec
from cycler_da.control import Control, control_of, verified_variables
from cycler_da.errors import ConfigError, LayoutMismatch, WeightsMismatch
from cycler_da.executor import ModelSource
from cycler_da.forecast import ForecastModel
from cycler_da.generative.climatology import StateClimatology
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs import catalogue as _obs  # noqa: F401  (registers operators and networks)
from cycler_da.obs.base import ObservationOperator
from cycler_da.obs.error_laws import GAUSSIAN, ErrorLaw
from cycler_da.obs.qc_settings import QCSettings
from cycler_da.obs.seen_stream import SeenStream
from cycler_da.physics_checks import check_physics
from cycler_da.products.covariance_file import read_covariance
from cycler_da.registry import Spec
from cycler_da.schemes import catalogue as _schemes  # noqa: F401  (registers the schemes)
from cycler_da.schemes.base import AnalysisScheme, SchemeContext
from cycler_da.setting_checks import check_forecasts, check_needs, check_verification, frame_notes, step_within
from cycler_da.start import Start
from cycler_da.systems import catalogue as _systems  # noqa: F401  (registers the systems)
from cycler_da.systems.sevir import SevirNatureSpec, SevirSystemSpec
from cycler_da.times import Window, format_duration, parse_duration
from cycler_da.verification.error_tuning import ErrorTuning

if TYPE_CHECKING:
    from cycler_da.obs.networks import SiteNetwork


@dataclass(frozen=True)
class Stream:
    """One stream of observations, ready to be read and checked."""

    name: str
    folder: Path
    operators: Mapping[str, ObservationOperator]
    qc: QCSettings
    is_required: bool
    cutoff: np.timedelta64  # after the valid time: a cycle waits for the file no longer
    final: np.timedelta64 | None = None  # after the valid time: what came late is taken in
    tuning: ErrorTuning | None = None  # of observation errors
    network: SiteNetwork | None = None  # synthetic streams: how files are drawn
    error: Mapping[str, float] | None = None
    error_at_zero: Mapping[str, float] | None = None  # where the truth is zero or below; None: `error`
    error_scale: str = "physical"
    law: ErrorLaw = GAUSSIAN
    seed: int = 0
    every: np.timedelta64 | None = None  # between observing times of a window; None: its end alone


@dataclass(frozen=True)
class Chain:
    """One scheme with its forecast model, cycled through the experiment."""

    name: str
    scheme_kind: str
    scheme: AnalysisScheme
    model: ForecastModel
    source: ModelSource
    members: int
    fallback: AnalysisScheme | None = None  # the LETKF of the fallback ladder

    @property
    def covariance_digest(self) -> str:
        """Identifies the B file of a variational scheme; "" where there is none."""
        return getattr(self.scheme, "covariance_digest", "")


@dataclass(frozen=True)
class Setting:
    """Everything a cycle needs to know, fixed for the whole experiment."""

    config: ExperimentConfig
    layout: Layout  # physical
    control: Control
    chains: tuple[Chain, ...]
    streams: tuple[Stream, ...]
    nature: Spec | None
    start: Start
    executor: Spec
    valid_times: np.ndarray
    window_length: np.timedelta64
    frame_step: np.timedelta64 | None = None  # between frames of a window; None: its end alone
    notes: tuple[str, ...] = ()  # models of another physics than the truth, observations beside the kept forecasts

    def __post_init__(self) -> None:
        every = self.valid_times[1] - self.valid_times[0]
        for chain in self.chains:
            if chain.model.history > 1 and every != self.layout.step:
                raise ConfigError(
                    f"chains.{chain.name}: its model reads {chain.model.history} past states, so cycles.every must "
                    f"be one model step of {format_duration(self.layout.step)}, got {format_duration(every)}"
                )

    @property
    def root(self) -> Path:
        """Folder of all experiments."""
        return Path(self.config.root)

    @property
    def climatology(self) -> StateClimatology | None:
        """Climatology of the first chain whose forecast model brings one, in the control variable."""
        found = (getattr(chain.model, "climatology", None) for chain in self.chains)
        return next((climatology for climatology in found if climatology is not None), None)

    def chain(self, name: str) -> Chain:
        """Chain by name; raises ConfigError that lists the valid ones."""
        for chain in self.chains:
            if chain.name == name:
                return chain
        raise ConfigError(f"no chain {name!r} in {self.config.name}; valid: {', '.join(c.name for c in self.chains)}")

    def window(self, time: np.datetime64) -> Window:
        """Observing window of a cycle."""
        return Window.ending(time, self.window_length)

    def frame_times(self, time: np.datetime64) -> np.ndarray:
        """Times of a window at which its forecast is kept, the cycle's own time last."""
        return _ending_at(time, self.window_length, self.frame_step)

    def observing_times(self, stream: Stream, time: np.datetime64) -> np.ndarray:
        """Times of a window at which a synthetic stream observes."""
        return _ending_at(time, self.window_length, stream.every)

    def previous_time(self, time: np.datetime64) -> np.datetime64 | None:
        """Time of the cycle before, None at the start."""
        position = int(np.searchsorted(self.valid_times, time))
        return None if position == 0 else self.valid_times[position - 1]


def _ending_at(time: np.datetime64, length: np.timedelta64, step: np.timedelta64 | None) -> np.ndarray:
    """Times after `time - length`, a step apart, that end at `time`."""
    if step is None:
        return np.array([time])
    return np.arange(time, time - length, -step)[::-1]


def load_setting(path: Path, overrides: Sequence[str] = ()) -> Setting:
    """Read a config file and build its setting."""
    return build_setting(load_config(path, overrides))


def build_setting(config: ExperimentConfig) -> Setting:
    """Build and cross-check every block; raises ConfigError, WeightsMismatch or LayoutMismatch."""
    system = read_spec("system", config.system, where="system")
    nature = None if config.nature is None else read_spec("nature", config.nature, where="nature")
    layout = _physical_layout(system, nature)
    control = control_of(config.system["kind"], layout)
    every = parse_duration(config.cycles.every)
    if every % layout.step:
        raise ConfigError(
            f"cycles.every is {format_duration(every)}, not a whole number of model steps of "
            f"{format_duration(layout.step)}"
        )
    check_verification(config, verified_variables(control))
    check_forecasts(config, layout)
    window = every if config.cycles.window is None else parse_duration(config.cycles.window)
    frame_step = step_within(config.cycles.frames, window, layout, where="cycles.frames")
    if frame_step is not None and window > every:
        raise ConfigError(
            f"cycles.frames: the window of {format_duration(window)} is longer than a cycle of "
            f"{format_duration(every)}, and there is no forecast before the cycle began; shorten cycles.window"
        )
    streams = tuple(_stream(block, layout, every, window) for block in config.observations)
    seen = tuple(_seen(stream, config.valid_times()[1]) for stream in streams)
    chains = tuple(_chain(block, config, control, seen) for block in config.chains)
    spacings = {stream.name: stream.every for stream in streams}
    needs = {chain.name: chain.scheme.needs for chain in chains}
    return Setting(
        config=config,
        layout=layout,
        control=control,
        chains=chains,
        streams=streams,
        nature=nature,
        start=read_spec("start", config.start, where="start").build(),  # type: ignore[attr-defined]
        executor=read_spec("executor", config.executor, where="executor"),
        valid_times=config.valid_times(),
        window_length=window,
        frame_step=frame_step,
        notes=(*check_physics(config, system, nature), *frame_notes(config, spacings, needs)),
    )


def _physical_layout(system: Spec, nature: Spec | None) -> Layout:
    """Layout of the system; one that has no position of its own is where its nature run is.

    Raises ConfigError when the two differ in size or step; other differences show when nature is opened.
    """
    layout: Layout = system.layout()  # type: ignore[attr-defined]
    if not isinstance(system, SevirSystemSpec) or not isinstance(nature, SevirNatureSpec):
        return layout
    if (system.size, parse_duration(system.step)) != (nature.size, parse_duration(nature.step)):
        raise ConfigError(
            f"system has size {system.size} and step {system.step}, nature has size {nature.size} and step "
            f"{nature.step}: set both to the same"
        )
    return layout if system.has_position else nature.layout()


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Put the place in a config before what is wrong with it."""
    try:
        yield
    except (ConfigError, LayoutMismatch, WeightsMismatch) as error:
        raise type(error)(f"{where}: {error}") from error


def _chain(block: ChainBlock, config: ExperimentConfig, control: Control, streams: tuple[SeenStream, ...]) -> Chain:
    where, operators = f"chains.{block.name}", tuple(stream.operator for stream in streams)
    options: Mapping[str, Any] = config.forecast if block.forecast is None else block.forecast
    own = f"{where}.forecast" if block.forecast else "forecast"
    forecast = read_spec("forecast", options, where=own)
    scheme_spec = read_spec("scheme", block.scheme, where=f"{where}.scheme")
    with _named(own):
        model: ForecastModel = forecast.build(control.layout)  # type: ignore[attr-defined]
    context = SchemeContext(control.layout, model, read_covariance, operators, streams)
    with _named(where):
        scheme = scheme_spec.build(context)  # type: ignore[attr-defined]
    check_needs(scheme.needs, config, control.layout, operators, where=f"{where}: scheme {block.scheme['kind']}")
    members = block.members or config.ensemble.members
    if members < scheme.needs.n_members:
        raise ConfigError(
            f"{where}: scheme {block.scheme['kind']} needs {scheme.needs.n_members} members, got {members}"
        )
    source = ModelSource(forecast, control.layout, model.digest)
    return Chain(block.name, block.scheme["kind"], scheme, model, source, members, _fallback(config, control, members))


def _fallback(config: ExperimentConfig, control: Control, members: int) -> AnalysisScheme | None:
    """The LETKF of the ladder, None where the config knows no such rung."""
    spec = read_spec("scheme", {**config.fallback.letkf, "kind": "letkf"}, where="fallback.letkf")
    if config.on_failed_analysis != "ladder" or "letkf" not in config.fallback.rungs:
        return None
    scheme: AnalysisScheme = spec.build(SchemeContext(control.layout))  # type: ignore[attr-defined]
    return scheme if members >= scheme.needs.n_members else None


def _stream(block: StreamBlock, layout: Layout, every: np.timedelta64, window: np.timedelta64) -> Stream:
    where = f"observations.{block.stream}"
    cutoff = every if block.cutoff is None else parse_duration(block.cutoff)
    final = None if block.final is None else parse_duration(block.final)
    if final is not None and final < cutoff:
        raise ConfigError(
            f"{where}.final: got {block.final}, earlier than the cut-off of {format_duration(cutoff)}; the final pass "
            "comes after the early one"
        )
    operator: ObservationOperator = read_spec("operator", block.operator, where=f"{where}.operator").build(layout)  # type: ignore[attr-defined]
    qc: QCSettings = read_settings(QCSettings, block.qc, where=f"{where}.qc")
    qc.require_variables(layout.channels)
    options = block.error_tuning
    tuning = None if options is None else read_settings(ErrorTuning, options, where=f"{where}.error_tuning")
    operators = dict.fromkeys(layout.channels, operator)
    if block.draw is None:
        return Stream(block.stream, Path(block.folder), operators, qc, block.required, cutoff, final, tuning)
    network = read_spec("network_of_sites", block.draw.network, where=f"{where}.draw.network")
    unknown = {*block.draw.error, *(block.draw.error_at_zero or {})} - set(layout.channels)
    if unknown:
        raise ConfigError(
            f"{where}.draw.error: unknown variable {', '.join(unknown)}; valid: {', '.join(layout.channels)}"
        )
    for name, error in [*block.draw.error.items(), *(block.draw.error_at_zero or {}).items()]:
        if not 0 < error < np.inf:
            raise ConfigError(f"{where}.draw: the error of {name} is {error}; expected a standard deviation above 0")
    built: SiteNetwork = network.build(layout)  # type: ignore[attr-defined]
    return Stream(
        name=block.stream,
        folder=Path(block.folder),
        operators=operators,
        qc=qc,
        is_required=block.required,
        cutoff=cutoff,
        final=final,
        tuning=tuning,
        network=built,
        error=block.draw.error,
        error_at_zero=block.draw.error_at_zero,
        error_scale=block.draw.error_scale,
        law=_law(block.draw, where=f"{where}.draw"),
        seed=block.draw.seed,
        every=step_within(block.draw.every, window, layout, where=f"{where}.draw.every"),
    )


def _seen(stream: Stream, first: np.datetime64) -> SeenStream:
    """What is known of a stream before its files are there; of drawn ones the sites of the first window."""
    operator, network = next(iter(stream.operators.values())), stream.network
    if network is None:
        return SeenStream(stream.name, operator)
    # On another scale the errors of files depend on the values; the same there means nothing here.
    drawn = (stream.error, stream.error_at_zero) if stream.error_scale == "physical" else ()
    errors = tuple(error for error in drawn if error is not None)
    noise = Noise.of_cycle(stream.seed, first)
    return SeenStream(stream.name, operator, lambda: network.sites(first, noise=noise, stream=stream.name), errors)


def _law(block: DrawBlock, *, where: str) -> ErrorLaw:
    """The law of drawn errors; raises ConfigError for one that does not go with the other options."""
    try:
        law = ErrorLaw(block.law, block.law_shape)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if law != GAUSSIAN and block.error_scale != "physical":
        raise ConfigError(
            f"{where}.law is {block.law} with error_scale {block.error_scale}, the scale on which errors are Gaussian; "
            "expected law gaussian there. Leave law out, or set error_scale to physical"
        )
    return law
