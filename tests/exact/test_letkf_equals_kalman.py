"""Without localization the LETKF is the Kalman analysis of the sample mean and sample covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec, PointsSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.letkf import LetkfSpec

TIME = np.array(["2020-01-01T00:00:00"], dtype="datetime64[s]")


def layout_of(n_x: int, *channels: str) -> Layout:
    variables = tuple(Variable(name, "1", name) for name in channels)
    return Layout("gaussian", variables, Grid((Axis("x", n_x),)), np.timedelta64(3600, "s"))


def observations_of(layout, operator, positions, channels, values, error) -> Observations:
    n_obs = len(values)
    where = Locations(torch.tensor(positions, dtype=torch.float64)[:, None], torch.tensor(channels))
    batch = ObsBatch(
        stream="gaussian",
        operator=operator.build(layout),
        where=where,
        values=torch.tensor(values, dtype=torch.float64),
        error=torch.tensor(error, dtype=torch.float64),
        times=np.repeat(TIME, n_obs),
        ids=np.arange(n_obs).astype(str),
        flags=torch.zeros(n_obs, dtype=torch.int32),
    )
    return Observations((batch,), layout)


def cases():
    three = layout_of(3, "x")
    yield (
        "3 variables, 2 observed",
        three,
        observations_of(three, CellSpec(), [0.0, 2.0], [0, 0], [1.5, -0.3], [0.7, 0.2]),
    )
    two = layout_of(6, "u", "v")
    yield (
        "2 x 6 variables, more observations than members",
        two,
        observations_of(
            two,
            PointsSpec(),
            [0.5 + 0.2 * i for i in range(20)],
            [i % 2 for i in range(20)],
            [0.1 * i for i in range(20)],
            [0.5] * 20,
        ),
    )


CASES = list(cases())


@pytest.mark.parametrize(("layout", "observations"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("n_members", [2, 7, 40])
@pytest.mark.parametrize("inflation", [1.0, 1.1])
def test_global_letkf_equals_the_kalman_analysis_of_the_sample(layout, observations, n_members, inflation):
    generator = torch.Generator().manual_seed(n_members)
    n_state = int(np.prod(layout.state_shape))
    mixing = torch.randn((n_state, n_state), generator=generator, dtype=torch.float64)
    draws = torch.randn((n_members, n_state), generator=generator, dtype=torch.float64) @ mixing + 2
    values = draws.reshape(n_members, 1, *layout.state_shape)
    background = Ensemble(values, TIME, tuple(range(n_members)), layout)
    scheme = LetkfSpec(inflation=inflation).build(SchemeContext(layout))
    analysis = scheme.analyse(Prior(background), observations, noise=Noise(1), carry={})
    got = analysis.ensemble.latest.flatten(1)

    identity = torch.eye(n_state, dtype=torch.float64).reshape(n_state, *layout.state_shape)
    h = observations.hx(identity).T
    p = inflation**2 * torch.cov(draws.T)
    s = h @ p @ h.T + torch.diag(observations.error_variance)
    k = p @ h.T @ torch.linalg.inv(s)
    mean = draws.mean(0) + k @ (observations.values - h @ draws.mean(0))
    covariance = (torch.eye(n_state, dtype=torch.float64) - k @ h) @ p
    torch.testing.assert_close(got.mean(0), mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cov(got.T), covariance, rtol=0, atol=1e-10)
    assert analysis.diagnostics["dof_signal"] == pytest.approx(float((h @ k).trace()), abs=1e-10)


def test_localized_letkf_with_an_endless_radius_equals_the_global_one():
    layout, observations = CASES[1][1:]
    generator = torch.Generator().manual_seed(9)
    values = torch.randn((7, 1, *layout.state_shape), generator=generator, dtype=torch.float64)
    background = Ensemble(values, TIME, tuple(range(7)), layout)
    results = [
        LetkfSpec(localization_radius_km=radius)
        .build(SchemeContext(layout))
        .analyse(Prior(background), observations, noise=Noise(1), carry={})
        for radius in (None, 1e6)
    ]
    # 1e9 m against 6 m: the taper differs from one by less than 1e-16.
    torch.testing.assert_close(results[0].ensemble.values, results[1].ensemble.values, rtol=0, atol=1e-12)
