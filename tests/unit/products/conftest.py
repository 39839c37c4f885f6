"""Small layouts and ensembles of every shape a product file must hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.products.conventions import FileFacts
from cycler_da.systems.sevir_grid import corner_of_centre, sevir_layout
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

START = np.datetime64("2020-01-01T00:00:00", "s")
DAY = np.timedelta64(86400, "s")


def _make_ensemble(
    layout: Layout, *, n_members: int = 5, n_times: int = 1, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> Ensemble:
    """A random ensemble; equal arguments give equal values."""
    draws = np.random.default_rng(7).standard_normal((n_members, n_times, *layout.state_shape))
    values = torch.from_numpy(scale * draws).to(dtype)
    return Ensemble(values, START + DAY * np.arange(1, n_times + 1), tuple(range(3, 3 + n_members)), layout)


@pytest.fixture(scope="session")
def qg_layout() -> Layout:
    return TwoLayerQGSpec(size=16).layout()


@pytest.fixture(scope="session")
def radar_layout() -> Layout:
    corner = corner_of_centre((39.0, -97.0))
    return sevir_layout(128, np.timedelta64(300, "s"), corner=corner, georeference="config")


@pytest.fixture(scope="session")
def ring_layout() -> Layout:
    """One-dimensional and periodic, like Lorenz 96."""
    return Layout("ring", (Variable("x", "1", "wind"),), Grid((Axis("x", 40, units="1", periodic=True),)), DAY)


@pytest.fixture(scope="session")
def point_layout() -> Layout:
    """No grid at all, like Lorenz 63."""
    variables = tuple(Variable(name, "1", f"variable {name}") for name in ("x", "y", "z"))
    return Layout("point", variables, Grid(()), DAY)


@pytest.fixture(params=["qg_layout", "radar_layout", "ring_layout", "point_layout"])
def any_layout(request: pytest.FixtureRequest) -> Layout:
    return request.getfixturevalue(request.param)


@pytest.fixture
def facts() -> FileFacts:
    return FileFacts(
        kind="analysis",
        reference_time=START + DAY,
        experiment="experiment",
        chain="letkf",
        scheme="letkf",
        attributes={"seed": 1, "degraded": False, "model_digest": "0123456789abcdef", "license": "CC0-1.0"},
    )


@pytest.fixture(scope="session")
def make_ensemble() -> Callable[..., Ensemble]:
    return _make_ensemble
