"""Preparation of an experiment: the nature run and synthetic observation files, where they are missing.

What is there is checked and left alone: files that say they were drawn from another nature run are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cycler_da.errors import ConfigError
from cycler_da.nature import Nature, SimulatedNatureSpec
from cycler_da.obs.files import find_obs_file
from cycler_da.obs.synthetic import add_errors, sources_of, write_synthetic
from cycler_da.setting import Setting, Stream
from cycler_da.times import time_stamp

Say = Callable[[str], None]

_ANOTHER_RUN = (
    "Give nature.system and system the same size and step; a run of another one stands at that path already: name "
    "another nature.path, or make it again with `cycler nature CONFIG --force`"
)
_ANOTHER_FILE = "Set system to what nature stands for, or name another file in nature"


def open_or_make_nature(setting: Setting, say: Say, *, force: bool = False) -> Nature | None:
    """Open the nature run, after making it when it is simulated and missing."""
    spec = setting.nature
    if spec is None:
        return None
    if isinstance(spec, SimulatedNatureSpec) and (force or not Path(spec.path).is_file()):
        say(f"making nature run {spec.path}: spin-up, then {spec.steps} steps")
        spec.make()
    nature: Nature = spec.build()  # type: ignore[attr-defined]
    advice = _ANOTHER_RUN if isinstance(spec, SimulatedNatureSpec) else _ANOTHER_FILE
    setting.layout.require_same(nature.layout, what="the nature run", advice=advice)
    return nature


def draw_stream(
    setting: Setting, stream: Stream, nature: Nature | None, *, say: Say, force: bool = False
) -> list[Path]:
    """Draw the files of a synthetic stream that are missing, one for each window; raises ConfigError without nature."""
    if stream.network is None or stream.error is None:
        raise ConfigError(f"stream {stream.name}: has no `draw` block, its files must be provided in {stream.folder}")
    if nature is None:
        raise ConfigError(f"stream {stream.name}: `draw` needs a nature run; add a nature block")
    stream.folder.mkdir(parents=True, exist_ok=True)
    found = {time: find_obs_file(stream.folder, stream.name, time_stamp(time)) for time in setting.valid_times[1:]}
    source = str(getattr(setting.nature, "identity", ""))
    if not force:
        _require_source(source, [path for path in found.values() if path is not None], stream)
    times = [time for time, path in found.items() if force or path is None]
    if not times:
        return []
    say(f"drawing {len(times)} observation files of stream {stream.name} into {stream.folder}")
    truth: Nature = nature
    return write_synthetic(
        lambda time: truth.states(np.array([time]))[0],
        stream.folder,
        layout=setting.layout,
        times=times,
        stream=stream.name,
        network=stream.network,
        error=stream.error,
        error_at_zero=stream.error_at_zero,
        law=stream.law,
        seed=stream.seed,
        times_of=lambda time: setting.observing_times(stream, time),
        operator=next(iter(stream.operators.values())),
        perturb=setting.control.perturb if stream.error_scale == "control" else add_errors,
        source=source,
    )


def _require_source(source: str, paths: Sequence[Path], stream: Stream) -> None:
    """Refuse files that say they were drawn from another nature run; files that do not say are taken."""
    for path, other in sources_of(paths).items():
        if source and other and other != source:
            raise ConfigError(
                f"stream {stream.name}: {path} was drawn from {other}, this experiment's truth is {source}; set "
                f"observations.{stream.name}.folder to another one, or draw again: `cycler observe CONFIG --force`"
            )
