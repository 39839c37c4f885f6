"""Small layouts and observation sets for the tests of schemes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec

START = np.datetime64("2020-01-01T00:00:00", "s")


@pytest.fixture
def make_layout():
    def make(shape, *, channels=("q",), spacing=1.0, periodic=True, units="m") -> Layout:
        names = ("x",) if len(shape) == 1 else ("y", "x")
        axes = tuple(
            Axis(name, size, spacing=spacing, periodic=periodic, units=units)
            for name, size in zip(names, shape, strict=True)
        )
        variables = tuple(Variable(name, "1", name) for name in channels)
        return Layout("toy", variables, Grid(axes), np.timedelta64(3600, "s"))

    return make


@pytest.fixture
def make_ensemble():
    def make(layout, n_members, *, seed=0, n_times=1, dtype=torch.float64) -> Ensemble:
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn((n_members, n_times, *layout.state_shape), generator=generator, dtype=torch.float64)
        times = START + np.arange(n_times) * layout.step
        return Ensemble(values.to(dtype), times, tuple(range(10, 10 + n_members)), layout)

    return make


@pytest.fixture
def make_observations():
    def make(layout, positions, values, *, error=1.0, channel=0) -> Observations:
        positions = torch.as_tensor(positions, dtype=torch.float64).reshape(-1, len(layout.grid.axes))
        n_obs = len(positions)
        batch = ObsBatch(
            stream="toy",
            operator=CellSpec().build(layout),
            where=Locations(positions, torch.full((n_obs,), channel) if isinstance(channel, int) else channel),
            values=torch.as_tensor(values, dtype=torch.float64).reshape(n_obs),
            error=torch.as_tensor(error, dtype=torch.float64).expand(n_obs).clone(),
            times=np.full(n_obs, START),
            ids=np.array([f"o{i}" for i in range(n_obs)]),
            flags=torch.zeros(n_obs, dtype=torch.int32),
        )
        return Observations((batch,) if n_obs else (), layout)

    return make
