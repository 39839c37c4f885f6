"""Checks of a config that need its blocks built: what schemes ask for, times inside a window, names of variables.

All raise ConfigError that names the key, what it is, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cycler_da.config import ExperimentConfig
from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import ObservationOperator
from cycler_da.schemes.base import Needs
from cycler_da.times import format_duration, parse_duration
from cycler_da.verification.sums import POOLED


def check_needs(
    needs: Needs, config: ExperimentConfig, layout: Layout, operators: tuple[ObservationOperator, ...], *, where: str
) -> None:
    """Raise ConfigError where the cycles or the operators cannot give what a scheme needs."""
    n_frames = int(parse_duration(config.cycles.every) / layout.step) + 1
    if n_frames < needs.window:
        raise ConfigError(
            f"{where} smooths windows of {needs.window} frames or more, from one analysis to the next; cycles.every of "
            f"{config.cycles.every} gives {n_frames}. Set cycles.every to "
            f"{format_duration((needs.window - 1) * layout.step)}, or take a filter (interpolant_filter, letkf)"
        )
    window = config.cycles.window
    if needs.window > 1 and window is not None and parse_duration(window) > parse_duration(config.cycles.every):
        raise ConfigError(
            f"{where} smooths windows from one analysis to the next; cycles.window of {window} begins before the "
            f"analysis that is {config.cycles.every} earlier, and what is observed before that has no frame. Set "
            f"cycles.window to {config.cycles.every}, or leave it out"
        )
    if needs.longest_window is not None and n_frames > needs.longest_window:
        raise ConfigError(
            f"{where} takes windows of {needs.longest_window} frames at most; cycles.every of {config.cycles.every} "
            f"gives {n_frames}. Set it to {format_duration((needs.longest_window - 1) * layout.step)} or less"
        )
    rough = [operator.name for operator in operators if not getattr(operator, "is_differentiable", True)]
    if needs.gradient and rough:
        raise ConfigError(
            f"{where} differentiates observation operators, and {', '.join(rough)} has no derivative. Leave that "
            "stream out, or take a scheme without gradients (letkf, enkf, particle)"
        )
    curved = [operator.name for operator in operators if not operator.is_linear]
    if needs.linear_operators and curved:
        raise ConfigError(
            f"{where} takes linear operators alone, and a stream is seen through {', '.join(curved)}; use letkf, enkf, "
            "a particle filter, the interpolant_filter, or var3d and envar with `solver: control`"
        )
    if config.cycles.frames is not None and not needs.own_times:
        raise ConfigError(
            f"{where} takes all observations of a window to be at its end; leave cycles.frames out, or use a scheme "
            "that takes them at their own times: letkf, etkf, enkf; sda, pdediff, soad"
        )


def step_within(text: str | None, window: np.timedelta64, layout: Layout, *, where: str) -> np.timedelta64 | None:
    """A spacing of times inside the window; raises ConfigError unless it is of whole model steps."""
    if text is None:
        return None
    step = parse_duration(text)
    if step % layout.step or step > window:
        raise ConfigError(
            f"{where} is {format_duration(step)}; expected whole model steps of {format_duration(layout.step)}, "
            f"at most the window of {format_duration(window)}"
        )
    return step


def frame_notes(
    config: ExperimentConfig, spacings: Mapping[str, np.timedelta64 | None], needs: Mapping[str, Needs]
) -> tuple[str, ...]:
    """Notes of streams that observe inside a window of which no forecast is kept; each once.

    `spacings`: between the observing times of each drawn stream, None for the end of the window alone; `needs`: of the
    scheme of each chain.
    """
    chains = ", ".join(name for name, need in needs.items() if need.own_times)
    window = parse_duration(config.cycles.window or config.cycles.every)
    if config.cycles.frames is not None or not chains:
        return ()
    return tuple(
        f"observations.{stream} observes every {format_duration(spacing)} in windows of {format_duration(window)}, and "
        "cycles.frames is not set: first guesses and quality control compare all of a window with the forecast of its "
        f"end (chains {chains}). Set cycles.frames to {format_duration(spacing)}"
        for stream, spacing in spacings.items()
        if spacing is not None and spacing < window
    )


def check_verification(config: ExperimentConfig, names: tuple[str, ...]) -> None:
    """Raise ConfigError for scales, thresholds and a headline of variables that are not verified."""
    scale, thresholds = config.verification.scale, config.verification.thresholds
    for key, named in (("scale", scale), ("thresholds", thresholds)):
        unknown = ", ".join(sorted(set(named) - set(names)))
        if unknown:
            raise ConfigError(f"verification.{key}: unknown variable {unknown}; valid: {', '.join(names)}")
    absent = set(names) - set(scale)
    if scale and absent:
        raise ConfigError(f"verification.scale: no scale for {', '.join(sorted(absent))}; give all variables or none")
    for name, value in scale.items():
        if not value > 0:
            raise ConfigError(f"verification.scale.{name}: got {value}, expected a standard deviation > 0")
    headline, valid = config.verification.headline, (POOLED, *names)
    if headline not in valid:
        raise ConfigError(f"verification.headline: unknown variable {headline!r}; valid: {', '.join(valid)}")
    if config.nature is not None and headline == POOLED and not scale:
        raise ConfigError(
            f"verification.scale is empty, and the closing table pools all variables by it (headline: {POOLED}); give "
            f"the climatological standard deviation of {', '.join(names)}, or name one of them as verification.headline"
        )


def check_forecasts(config: ExperimentConfig, layout: Layout) -> None:
    """Raise ConfigError for leads, chains or thresholds of forecasts that do not fit the experiment."""
    block = config.forecasts
    if block is None:
        return
    block.leads(layout.step)
    for what, named, valid in (
        ("chains", block.chains, [chain.name for chain in config.chains]),
        ("thresholds", list(block.thresholds), list(layout.channels)),
    ):
        unknown = [name for name in named if name not in valid]
        if unknown:
            raise ConfigError(f"forecasts.{what}: unknown {', '.join(unknown)}; valid: {', '.join(valid)}")
