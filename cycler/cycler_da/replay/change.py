"""What a what-if changes in the observations of a cycle: some are dropped, some errors are scaled.

A drop is written `stream:NAME`, `station:NAME`, `region:y=LOW..HIGH,x=LOW..HIGH` (units of the grid axes, axes that
are not named are not limited), or it is the id of an observation as in the feedback file. What is dropped is
flagged BLACKLIST; flags of all others stay as the cycle had them, so that nothing else changes: a copy that had been
thinned for the sake of a dropped observation does not come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.obs.base import QC, ObsBatch, Observations
from cycler_da.obs.identity import stations_of

REASON = "dropped in this what-if"


@dataclass(frozen=True)
class Change:
    """Drops and the factor of all observation errors of each stream (`*`: all streams)."""

    drop: tuple[str, ...] = ()
    scale_error: tuple[tuple[str, float], ...] = ()

    def describe(self) -> str:
        """The change in words."""
        parts = [f"without {what}" for what in self.drop]
        parts += [f"errors of {'all streams' if s == '*' else s} times {factor:g}" for s, factor in self.scale_error]
        return "; ".join(parts) or "nothing changed"


def read_change(drop: Sequence[str], scale_error: Sequence[str]) -> Change:
    """Read what the command line says; `scale_error` items are `2` or `STREAM=2`. Raises ConfigError."""
    factors = []
    for item in scale_error:
        stream, separator, text = item.rpartition("=")
        try:
            factor = float(text)
        except ValueError:
            factor = float("nan")
        if not 0 < factor < float("inf") or (separator and not stream):
            raise ConfigError(f"--scale-error {item!r}: write a factor > 0, or STREAM=factor")
        factors.append((stream or "*", factor))
    return Change(tuple(drop), tuple(factors))


def changed(observations: Observations, change: Change) -> Observations:
    """Observations after the change; raises ConfigError when a drop or a stream names nothing there is."""
    streams = {batch.stream for batch in observations.batches}
    for stream, _ in change.scale_error:
        if stream != "*" and stream not in streams:
            raise ConfigError(f"--scale-error: no stream {stream!r} in this cycle; there are: {_listed(streams)}")
    batches = list(observations.batches)
    for what in change.drop:
        chooses = _chooser(what, observations.layout)
        masks = [chooses(batch) for batch in batches]
        if not any(mask.any() for mask in masks):
            raise ConfigError(
                f"--drop {what!r} names no observation of this cycle; write an id from the feedback file, stream:NAME "
                f"(there are: {_listed(streams)}), station:NAME or region:AXIS=LOW..HIGH"
            )
        batches = [_without(batch, mask) for batch, mask in zip(batches, masks, strict=True)]
    for stream, factor in change.scale_error:
        batches = [replace(b, error=factor * b.error) if stream in ("*", b.stream) else b for b in batches]
    return replace(observations, batches=tuple(batches))


def _without(batch: ObsBatch, mask: np.ndarray) -> ObsBatch:
    flags = torch.where(torch.from_numpy(mask), torch.tensor(int(QC.BLACKLIST), dtype=batch.flags.dtype), batch.flags)
    old = batch.reasons or ("",) * len(batch)
    return replace(batch, flags=flags, reasons=tuple(REASON if m else r for m, r in zip(mask, old, strict=True)))


def _chooser(what: str, layout: Layout) -> Callable[[ObsBatch], np.ndarray]:
    kind, _, name = what.partition(":")
    if kind == "stream":
        return lambda batch: np.full(len(batch), batch.stream == name)
    if kind == "station":
        return lambda batch: stations_of(batch.ids) == name
    if kind == "region":
        limits = _limits(what, name, layout)
        return lambda batch: _inside(batch.where.position.numpy(), limits)
    return lambda batch: np.asarray(batch.ids == what)


def _limits(what: str, text: str, layout: Layout) -> dict[int, tuple[float, float]]:
    names, limits = layout.grid.names, {}
    for part in text.split(","):
        axis, _, interval = part.partition("=")
        low, separator, high = interval.partition("..")
        try:
            if not separator:
                raise ValueError(interval)
            limits[names.index(axis.strip())] = (float(low), float(high))
        except ValueError as error:
            raise ConfigError(
                f"--drop {what!r}: write region:AXIS=LOW..HIGH[,AXIS=LOW..HIGH]; axes are {', '.join(names)}"
            ) from error
    return limits


def _inside(position: np.ndarray, limits: dict[int, tuple[float, float]]) -> np.ndarray:
    inside = np.ones(len(position), dtype=bool)
    for axis, (low, high) in limits.items():
        inside &= (position[:, axis] >= low) & (position[:, axis] <= high)
    return inside


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
