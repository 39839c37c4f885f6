"""Observations of a twin experiment: H of the nature run plus an error.

    y = H(x_nature) + f sigma_v e,    e ~ N(0, 1) independent, f = 1 or a factor of the site (radars: distance)

e may have another law of variance 1 (`error_laws`); filters and schemes take it for Gaussian all the same.

Sites and errors are keyed by (seed, time, stream, variable), so a file is the same in every run, whatever other
streams, variables or windows are drawn with it. All observations of a window are made at its end, the valid time,
unless times inside it are given: each is then drawn as a window that ends there. Values are not clipped to the valid
range of their variable: the part of the error that leaves it is needed for the errors to have mean zero. Another way of
adding errors (on another scale) may be given. Where the nature run itself is missing (NaN), there is no observation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import netCDF4
import numpy as np
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import QC, ObsBatch, ObservationOperator
from cycler_da.obs.error_laws import GAUSSIAN, ErrorLaw
from cycler_da.obs.file_writer import write_obs_file
from cycler_da.obs.identity import names_of, observation_ids
from cycler_da.obs.networks import SiteNetwork
from cycler_da.obs.points import PointsSpec
from cycler_da.times import time_stamp
from cycler_da.trial_read import fatal_ends, read_attributes

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_SOURCE = "cycler_source"

#: True values, standard deviations and draws of variance 1 -> observed values and their errors.
Perturb = Callable[["Tensor", "Tensor", "Tensor"], "tuple[Tensor, Tensor]"]


def add_errors(values: Tensor, std: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Errors in the units of the variable."""
    return values + std * z, std


def draw_observations(
    states: Float[Tensor, "channel *space"],
    layout: Layout,
    valid_time: np.datetime64,
    *,
    network: SiteNetwork,
    error: Mapping[str, float],
    noise: Noise,
    stream: str,
    operator: ObservationOperator | None = None,
    perturb: Perturb = add_errors,
    error_at_zero: Mapping[str, float] | None = None,
    law: ErrorLaw = GAUSSIAN,
) -> ObsBatch:
    """Observe a true state (`operator` defaults to interpolation to the site).

    `error` gives the standard deviation for each observed variable, in its units or those of `perturb`, and
    `error_at_zero` that of what is truly zero or below; `noise` is that of the cycle.

    Raises ConfigError when `error` lacks a variable or is not positive.
    """
    operator = operator or PointsSpec().build(layout)
    sites = network.sites(valid_time, noise=noise, stream=stream)
    names = names_of(operator, sites.where, layout)
    hx = operator(states.to(torch.float64).unsqueeze(0), sites.where, layout)[0]
    std = _errors_of(names, error, stream=stream)
    if error_at_zero is not None:
        std = np.where(hx.cpu().numpy() <= 0.0, _errors_of(names, error_at_zero, stream=stream), std)
    std = std * (1.0 if sites.error_factor is None else sites.error_factor)
    draws = torch.from_numpy(_draws(names, law, noise=noise, stream=stream))
    values, errors = perturb(hx.cpu(), torch.from_numpy(std), draws)
    times = np.full(len(sites), valid_time.astype("datetime64[s]"))
    position = sites.where.position.numpy()
    drawn = ObsBatch(
        stream=stream,
        operator=operator,
        where=sites.where,
        values=values,
        error=errors,
        times=times,
        ids=observation_ids(sites.names, variables=names, times=times, position=position),
        flags=torch.full((len(sites),), int(QC.USED), dtype=torch.int32),
        reasons=("",) * len(sites),
    )
    exists = hx.cpu().isfinite()
    return drawn if bool(exists.all()) else drawn.select(exists)


def write_synthetic(
    states_at: Callable[[np.datetime64], Float[Tensor, "channel *space"]],
    folder: Path | str,
    *,
    layout: Layout,
    times: Iterable[np.datetime64],
    stream: str,
    network: SiteNetwork,
    error: Mapping[str, float],
    seed: int,
    operator: ObservationOperator | None = None,
    perturb: Perturb = add_errors,
    source: str = "",
    error_at_zero: Mapping[str, float] | None = None,
    law: ErrorLaw = GAUSSIAN,
    times_of: Callable[[np.datetime64], np.ndarray] = lambda time: np.array([time]),
    on_written: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Write one file for each valid time, `<stream>_<stamp>.nc`; only one window is held at a time.

    `states_at` gives the true state at a time, `times_of` the observing times of a window; `source` names the nature
    run in the files (see `source_of`); `on_written` is called after each file (progress).
    """
    paths = []
    for valid_time in times:
        batches = [
            draw_observations(
                states_at(time),
                layout,
                time,
                network=network,
                error=error,
                noise=Noise.of_cycle(seed, time),
                stream=stream,
                operator=operator,
                perturb=perturb,
                error_at_zero=error_at_zero,
                law=law,
            )
            for time in times_of(valid_time)
        ]
        path = Path(folder) / f"{stream}_{time_stamp(valid_time)}.nc"
        attributes = {"cycler_stream": stream, "cycler_seed": str(seed), "cycler_error": json.dumps(dict(error))}
        if error_at_zero is not None:
            attributes["cycler_error_at_zero"] = json.dumps(dict(error_at_zero))
        if law != GAUSSIAN:
            attributes["cycler_error_law"] = law.words
        attributes |= {_SOURCE: source} if source else {}
        write_obs_file(path, layout, batches=batches, attributes=attributes)
        paths.append(path)
        on_written(path)
    return paths


def sources_of(paths: Sequence[Path]) -> dict[Path, str]:
    """The same of many files; "" also for one that ends the process that reads it."""
    fatal = fatal_ends(paths, read_attributes)
    return {path: "" if path in fatal else source_of(path) for path in paths}


def source_of(path: Path | str) -> str:
    """Name of the nature run that a file was drawn from; "" when it does not say or cannot be read."""
    try:
        with netCDF4.Dataset(path) as file:
            return str(getattr(file, _SOURCE, ""))
    except (OSError, RuntimeError):
        return ""


def _errors_of(names: np.ndarray, error: Mapping[str, float], *, stream: str) -> Float[np.ndarray, "obs"]:
    observed = dict.fromkeys(names.tolist())
    for name in observed:
        if name not in error:
            raise ConfigError(
                f"observations of stream {stream!r}: no error for {name}; got errors for {', '.join(error) or 'none'}"
            )
        if not (error[name] > 0 and np.isfinite(error[name])):
            raise ConfigError(
                f"observations of stream {stream!r}: got error {error[name]} for {name}, "
                "expected a standard deviation > 0"
            )
    return np.asarray([error[name] for name in names.tolist()], dtype=np.float64)


def _draws(names: np.ndarray, law: ErrorLaw, *, noise: Noise, stream: str) -> Float[np.ndarray, "obs"]:
    """Draws of variance 1, a stream of its own for each variable."""
    draws = np.zeros(len(names))
    for name in dict.fromkeys(names.tolist()):
        of_name = names == name
        draws[of_name] = law.draw(noise.generator(f"{stream}.error.{name}"), int(of_name.sum()))
    return draws
