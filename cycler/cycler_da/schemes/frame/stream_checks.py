"""Checks of an experiment's streams against what weights were trained for, when the config is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.fields import ObservedField, operator_words, same_operator
from cycler_da.obs.seen_stream import SeenStream

#: Largest difference of an error from the one of the weights, as a part of it.
SAME_ERROR = 0.01


def require_known_fields(
    streams: Sequence[SeenStream], fields: Sequence[ObservedField], layout: Layout, *, scheme: str, other: str
) -> None:
    """Raise ConfigError for a stream that will observe a variable or places that the fields do not have.

    `other` is a scheme that takes anything.
    """
    for stream in streams:
        for channel in stream.channels():
            alike = [field for field in fields if same_operator(field.operator, stream.operator)]
            if channel not in [field.channel for field in alike]:
                raise ConfigError(
                    f"scheme {scheme}: stream {stream.name} observes {layout.channels[channel]} through "
                    f"{operator_words(stream.operator)}, a field that the weights do not know; they know "
                    f"{field_names(fields)}. Draw known variables alone (draw.network.variables), train weights with "
                    f"that field (data.observed), or take {other}"
                )
        require_at_cells(stream, layout, scheme=scheme, other=other)


def require_at_cells(stream: SeenStream, layout: Layout, *, scheme: str, other: str) -> None:
    """Raise ConfigError for a stream that will observe between cells."""
    if stream.is_between_cells(layout):
        raise ConfigError(
            f"scheme {scheme}: stream {stream.name} observes between cells through {stream.operator.name}; expected "
            f"cell centres. Take a network of cells (random_fraction, stride), or {other}"
        )


def require_error(
    streams: Sequence[SeenStream],
    known: float,
    units: Sequence[float],
    layout: Layout,
    *,
    scheme: str,
    weights: str,
) -> None:
    """Raise ConfigError for a stream whose drawn errors, in units of their channels, are not the known one."""
    for stream in streams:
        for channel, errors in stream.drawn_errors(layout).items():
            name, far = layout.channels[channel], np.abs(errors / units[channel] - known) > SAME_ERROR * known
            if far.any():
                got = errors[far][0]
                raise ConfigError(
                    f"scheme {scheme}: stream {stream.name} is drawn with an error of {got:.4g} for {name}; weights "
                    f"{weights} know {known * units[channel]:.4g} alone. Set draw.error to that, or train weights for "
                    "it (data.error)"
                )


def require_least_error(
    streams: Sequence[SeenStream], least: float, units: Sequence[float], layout: Layout, *, scheme: str, way_out: str
) -> None:
    """Raise ConfigError for a stream whose drawn errors, in units of their channels, are below `least`."""
    for stream in streams:
        for channel, errors in stream.drawn_errors(layout).items():
            low = float(errors.min())
            if low < least * units[channel]:
                raise ConfigError(
                    f"scheme {scheme}: stream {stream.name} is drawn with an error of {low:.4g} for "
                    f"{layout.channels[channel]}; expected {least * units[channel]:.4g} or more. {way_out}"
                )


def field_names(fields: Sequence[ObservedField]) -> str:
    """Operators with their settings, and their variables."""
    names = [f"{operator_words(field.operator)} of {field.layout.channels[field.channel]}" for field in fields]
    return ", ".join(names) or "linear operators alone"
