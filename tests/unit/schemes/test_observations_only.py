"""Observations only: the ensemble mean is optimal interpolation, its covariance the posterior's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.observations_only import ObservationsOnlySpec


class DenseCovariance:
    """A covariance as a matrix over the flattened state."""

    def __init__(self, matrix):
        self.matrix, self.root = matrix, torch.linalg.cholesky(matrix)

    def apply(self, x):
        return (x.flatten(1) @ self.matrix).reshape(x.shape)

    def color(self, z):
        return (z.flatten(1) @ self.root.T).reshape(z.shape)

    def noise_shape(self, state_shape):
        return tuple(state_shape)


@pytest.fixture
def climate(make_layout):
    layout = make_layout((8,), channels=("u", "v"), periodic=False)
    root = torch.randn((16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    covariance = DenseCovariance(root @ root.T / 16 + 0.1 * torch.eye(16, dtype=torch.float64))
    model = SimpleNamespace(
        climatology=SimpleNamespace(mean=torch.tensor([2.0, -1.0], dtype=torch.float64), covariance=covariance)
    )
    return layout, model, covariance.matrix


def run(layout, model, background, observations, *, seed=1, **options):
    scheme = ObservationsOnlySpec(**options).build(SchemeContext(layout, model))
    return scheme.analyse(Prior(background), observations, noise=Noise(seed), carry={})


def optimal(layout, matrix, observations):
    h = observations.hx(torch.eye(16, dtype=torch.float64).reshape(16, 2, 8)).T
    mean = torch.tensor([2.0, -1.0], dtype=torch.float64).repeat_interleave(8)
    k = matrix @ h.T @ torch.linalg.inv(h @ matrix @ h.T + torch.diag(observations.error_variance))
    return mean + k @ (observations.values - h @ mean), matrix - k @ h @ matrix, (h @ k).trace().item()


def test_ensemble_mean_is_optimal_interpolation(climate, make_ensemble, make_observations):
    layout, model, matrix = climate
    observations = make_observations(layout, [1.0, 4.0, 6.0], [3.0, 2.5, 0.0], error=[0.3, 0.5, 0.2])
    analysis = run(layout, model, make_ensemble(layout, 5), observations)
    mean, _, dof = optimal(layout, matrix, observations)
    torch.testing.assert_close(analysis.ensemble.latest.mean(0).flatten(), mean, rtol=0, atol=1e-12)
    assert analysis.diagnostics["dof_signal"] == pytest.approx(dof, abs=1e-12)


def test_ensemble_covariance_is_the_posterior_covariance(climate, make_ensemble, make_observations):
    layout, model, matrix = climate
    observations = make_observations(layout, [1.0, 4.0, 6.0], [3.0, 2.5, 0.0], error=[0.3, 0.5, 0.2])
    analysis = run(layout, model, make_ensemble(layout, 20000), observations)
    _, posterior, _ = optimal(layout, matrix, observations)
    got = torch.cov(analysis.ensemble.latest.flatten(1).T)
    # Standard error of a sample covariance: sqrt((P_ij^2 + P_ii P_jj) / 20000) < 0.02 here; 4 of them.
    torch.testing.assert_close(got, posterior, rtol=0, atol=0.08)
    assert (matrix - posterior).abs().max() > 0.5


def test_background_values_do_not_matter(climate, make_ensemble, make_observations):
    layout, model, _ = climate
    observations = make_observations(layout, [1.0, 4.0], [3.0, 2.5])
    first = run(layout, model, make_ensemble(layout, 4, seed=1), observations)
    second = run(layout, model, make_ensemble(layout, 4, seed=2), observations)
    assert torch.equal(first.ensemble.latest, second.ensemble.latest)


def test_a_model_without_climatology_is_refused(climate):
    with pytest.raises(ConfigError, match="climatolog"):
        ObservationsOnlySpec().build(SchemeContext(climate[0], SimpleNamespace()))


def test_too_many_observations_are_refused_with_advice(climate, make_ensemble, make_observations):
    layout, model, _ = climate
    observations = make_observations(layout, [1.0, 4.0], [3.0, 2.5])
    with pytest.raises(AnalysisFailed, match=r"Thin the observations"):
        run(layout, model, make_ensemble(layout, 4), observations, max_observations=1)
