"""The path from state to state: its endpoints are those of the transition, whatever the kind of prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.covariance import FullCovariance
from cycler_da.generative.dense_transition import DensePrediction
from cycler_da.generative.drift_sampler import EndpointDrift, sample_sde
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.generative.interpolant import Interpolant
from cycler_da.generative.localisation import SharedNoise
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.state_path import MemberCovariances, state_path
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.schemes.base import SchemeContext
from cycler_da.schemes.flowdas import FlowdasSpec

SCALING = Scaling((1.0, -2.0), (3.0, 0.5))
STD = torch.tensor(SCALING.std, dtype=torch.float64)


def roots(n: int) -> torch.Tensor:
    made = torch.randn(n, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.tril(0.4 * made + torch.eye(2, dtype=torch.float64)) * STD[:, None]


def test_covariances_of_members_are_those_of_matrices():
    root = roots(3) / STD[:, None]
    matrix = root @ root.mT
    ours = MemberCovariances(*torch.linalg.eigh(matrix))
    v = torch.randn(3, 2, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for i in range(3):
        one, theirs = v[i : i + 1], FullCovariance(matrix[i])
        for name in ("apply", "color", "whiten"):
            torch.testing.assert_close(getattr(ours, name)(v)[i : i + 1], getattr(theirs, name)(one))
        torch.testing.assert_close(ours.damped(2.5).apply(v)[i : i + 1], theirs.damped(2.5).apply(one))


def test_a_path_from_state_to_state_ends_in_the_transition_of_its_member():
    """Two members with roots of their own, 20 000 paths each: five standard errors are .035 deviations."""
    n = 20_000
    root, mean = roots(2).repeat_interleave(n, 0), torch.tensor([[1.5, -1.0], [-4.0, -3.0]], dtype=torch.float64)
    prediction = DensePrediction(mean.repeat_interleave(n, 0)[..., None], root, SCALING)
    path = state_path(prediction, torch.zeros(2 * n, 2, 1, dtype=torch.float64))
    noise = SharedNoise(Noise(4), range(2 * n), "t")
    z = sample_sde(EndpointDrift(path.endpoint, Interpolant(), path.start), n_steps=400, noise=noise)
    for i, drawn in enumerate(path.to_physical(z)[..., 0].split(n)):
        expected = roots(2)[i] @ roots(2)[i].T
        size = expected.diagonal().sqrt()
        assert float(((drawn.mean(dim=0) - mean[i]) / size).abs().max()) < 0.04
        assert float(((drawn.T.cov() - expected) / torch.outer(size, size)).abs().max()) < 0.06


def test_a_path_starts_at_the_present_state_in_deviations_of_the_climate():
    now = torch.tensor([[4.0, -2.5]], dtype=torch.float64)[..., None]
    prediction = DensePrediction(now, roots(1), SCALING)
    path = state_path(prediction, now)
    torch.testing.assert_close(path.start[..., 0], torch.tensor([[1.0, -1.0]], dtype=torch.float64))
    torch.testing.assert_close(path.to_physical(path.start), now)


class Unknown:
    """A prediction that knows no path."""


def test_a_prediction_without_a_path_is_refused_with_the_way_out():
    with pytest.raises(AnalysisFailed, match=r"Unknown.*coordinates: residual"):
        state_path(Unknown(), torch.zeros(1, 2, 1))


def test_weights_without_a_path_are_refused_when_the_scheme_is_built(monkeypatch):
    covariance = torch.eye(2, dtype=torch.float64)
    grid = Grid((Axis("x", 2, units="1"),))
    layout = Layout("toy", (Variable("a", "1", "toy"),), grid, np.timedelta64(3600, "s"))
    model = InterpolantForecast(layout, GaussianTransition(lambda x: x, covariance), (0.0,), "toy")
    built = FlowdasSpec().build(SchemeContext(layout, model))
    assert built.needs.linear_operators is False
    assert built.settings.order == 1 and FlowdasSpec(order=2).build(SchemeContext(layout, model)).settings.order == 2
    assert FlowdasSpec(coordinates="residual").build(SchemeContext(layout, model)).settings.order == 2
    monkeypatch.setattr(GaussianTransition, "has_state_path", False)
    with pytest.raises(ConfigError, match="coordinates: residual"):
        FlowdasSpec().build(SchemeContext(layout, model))
    assert FlowdasSpec(coordinates="residual").build(SchemeContext(layout, model))
