"""Ways in which an observation file goes wrong between the instrument and the cycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import torch

from cycler_da.layout import Layout
from cycler_da.obs.base import ObsBatch
from cycler_da.obs.file_writer import write_obs_file
from cycler_da.obs.files import read_obs_file
from cycler_da.obs.points import PointsSpec
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec


def truncate(path: Path, *, fraction: float) -> None:
    """Cut a file short at a fraction of its size."""
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])


def fill_with_noise(path: Path) -> None:
    """Replace all bytes by random ones."""
    path.write_bytes(np.random.default_rng(3).bytes(path.stat().st_size))


def flip_bit(path: Path, *, position: float) -> None:
    """Flip a bit of the byte at a fraction of the size."""
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 0x10
    path.write_bytes(bytes(content))


def rows(path: Path, layout: Layout) -> ObsBatch:
    """The observations of a file in an order of their own."""
    operator = PointsSpec().build(layout)
    (batch,) = read_obs_file(path, layout, stream="insitu", operators=dict.fromkeys(layout.channels, operator))
    return batch


def rewrite(path: Path, layout: Layout, change: Callable[[ObsBatch], Sequence[ObsBatch]]) -> None:
    """Write the file again with its observations changed."""
    write_obs_file(path, layout, batches=change(rows(path, layout)))


def keep(path: Path, layout: Layout, mask: torch.Tensor) -> None:
    """Keep the observations of the mask."""
    rewrite(path, layout, lambda batch: [batch.select(mask)])


def put_on_another_grid(path: Path) -> None:
    """The same numbers as if they had been observed on a grid of another size."""
    other = TwoLayerQGSpec(size=32).layout()
    write_obs_file(path, other, batches=[rows(path, TwoLayerQGSpec(size=16).layout())])


def rename_variable(path: Path) -> None:
    """Call q1 t1, which no layout has."""
    with h5py.File(path, "r+") as file:
        for group in ("ObsValue", "ObsError", "PreQC"):
            file[group].move("q1", "t1")


def claim_units(path: Path, units: str) -> None:
    """Let q1 claim other units."""
    with netCDF4.Dataset(path, "r+") as file:
        file.groups["ObsValue"].variables["q1"].units = units


def shift_time(path: Path, layout: Layout, by: np.timedelta64) -> None:
    """Move all times."""
    rewrite(path, layout, lambda batch: [replace(batch, times=batch.times + by)])


def set_values(path: Path, layout: Layout, chosen: torch.Tensor, values: np.ndarray) -> None:
    """Overwrite single values in place, NaN and infinity included, which the writer of this project refuses."""
    wanted = dict(zip(np.asarray(rows(path, layout).values)[chosen.numpy()].tolist(), values.tolist(), strict=True))
    with netCDF4.Dataset(path, "r+") as file:
        file.set_auto_maskandscale(False)
        for variable in file.groups["ObsValue"].variables.values():
            variable[:] = np.asarray([wanted.get(value, value) for value in variable[:].tolist()])
