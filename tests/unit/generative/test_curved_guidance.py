"""Guidance through curves of linear observations beside the same guidance with dense slopes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.generative.covariance import SpectralCovariance, WhiteCovariance
from cycler_da.generative.curved_guidance import linearise_curves
from cycler_da.generative.gauss_newton import GaussNewtonDraw, linearise
from cycler_da.generative.guidance import observation_covariance, observation_variance
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.prediction import CurvedResidualObservation, ResidualObservation
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.transition import Transition
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.curves import CurvedObservations, is_curved, uncurved
from cycler_da.obs.nonlinear import ArctanSpec, CubicSpec, SineSpec
from cycler_da.obs.points import PointsSpec
from cycler_da.schemes.transition.predictive import predict_observations

LAYOUT = Layout(
    "toy",
    (Variable("a", "1", "toy"), Variable("b", "1", "toy")),
    Grid((Axis("y", 6, units="1", periodic=True), Axis("x", 8, units="1", periodic=True))),
    np.timedelta64(3600, "s"),
)
MEMBERS = 4


class Still(torch.nn.Module):
    """No change of the state."""

    def forward(self, x):
        return torch.zeros_like(x)


def batch(operator, channel: int, seed: int) -> ObsBatch:
    generator = torch.Generator().manual_seed(seed)
    n = 5
    position = torch.rand(n, 2, generator=generator, dtype=torch.float64) * 5
    return ObsBatch(
        stream=operator.name,
        operator=operator,
        where=Locations(position, torch.full((n,), channel, dtype=torch.int64)),
        values=0.5 * torch.randn(n, generator=generator, dtype=torch.float64),
        error=torch.full((n,), 0.2, dtype=torch.float64),
        times=np.full(n, np.datetime64("NaT", "s")),
        ids=np.array([f"{operator.name}{i}" for i in range(n)]),
        flags=torch.zeros(n, dtype=torch.int32),
    )


def observations() -> Observations:
    operators = (ArctanSpec(scale=0.5), SineSpec(scale=0.4), PointsSpec())
    return Observations(tuple(batch(spec.build(LAYOUT), i % 2, i) for i, spec in enumerate(operators)), LAYOUT)


def prediction():
    values = 0.02 + 0.3 * torch.rand(6, 5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    vectors = torch.eye(2, dtype=torch.float64).expand(6, 5, 2, 2)
    transition = Transition(Still(), Scaling((0.0, 0.0), (1.0, 2.0)), SpectralCovariance(values, vectors))
    frames = Noise(5).normal("frames", (1, 2, 6, 8), members=range(MEMBERS), dtype=torch.float64)
    return transition.predict(frames)


def curved(bound) -> CurvedResidualObservation:
    return CurvedResidualObservation(bound, CurvedObservations.of(observations()))


def test_a_curve_and_its_slope_are_those_of_the_operator():
    seen, state = CurvedObservations.of(observations()), prediction().mean.to(torch.float64)
    values, slopes = seen.curve(seen.inner.hx(state))
    assert torch.equal(values, seen.observations.hx(state))
    s = seen.inner.hx(state)
    known = torch.cat(
        [1 / (0.5 * (1 + (s[:, :5] / 0.5) ** 2)), 1.5 / 0.4 * torch.cos(s[:, 5:10] / 0.4), torch.ones_like(s[:, :5])], 1
    )
    assert torch.allclose(slopes, known, rtol=1e-12, atol=1e-12)


def test_only_curves_of_linear_observations_are_taken_apart():
    seen = observations()
    linear = replace(seen, batches=seen.batches[2:])
    assert is_curved(seen) and not is_curved(linear)
    assert uncurved(linear).batches[0] is linear.batches[0]
    with pytest.raises(ValueError, match="through points are no curves"):
        CurvedObservations.of(linear)


def test_slopes_that_are_never_built_linearise_as_dense_ones_do():
    bound, x = prediction(), Noise(6).normal("x", (2, 6, 8), members=range(MEMBERS), dtype=torch.float64)
    factored, dense = linearise_curves(curved(bound), x), linearise(ResidualObservation(bound, observations()), x)
    other, covariance = 0.3 * x, WhiteCovariance(0.7)
    assert torch.allclose(factored.innovation(other), dense.innovation(other), rtol=0, atol=1e-12)
    innovation = dense.innovation(other)
    expected = dense.correction(innovation, covariance)
    # Conjugate gradients stop at 1e-10 of the right-hand side; S has a condition of about a hundred.
    assert torch.allclose(factored.correction(innovation, covariance), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("iterations", "caution"), [(1, 1.0), (3, 2.0)])
def test_draws_are_those_of_dense_slopes(iterations, caution):
    bound, noise = prediction(), MemberNoise(Noise(7), range(MEMBERS), "guided")
    options = {"iterations": iterations, "caution": caution}
    u = bound.blank(torch.float64)
    dense = GaussNewtonDraw(bound.endpoint, ResidualObservation(bound, observations()), noise, **options)
    factored = GaussNewtonDraw(bound.endpoint, curved(bound), noise, **options, linearised=linearise_curves)
    assert torch.allclose(factored(0.0, u, step=0), dense(0.0, u, step=0), rtol=0, atol=1e-7)


def test_variances_of_what_is_observed_are_the_diagonal_of_their_covariance():
    bound, seen = prediction(), uncurved(observations())
    whole = observation_covariance(WhiteCovariance(2.0), ResidualObservation(bound, seen), like=bound.mean)
    alone = observation_variance(WhiteCovariance(2.0), ResidualObservation(bound, seen), like=bound.mean)
    assert torch.allclose(alone, whole.diagonal(), rtol=1e-12, atol=0)


def test_the_predictive_variance_through_curves_is_that_of_dense_slopes(monkeypatch):
    bound, seen = prediction(), observations()
    dense = predict_observations(bound, seen)
    monkeypatch.setattr("cycler_da.schemes.transition.predictive.MOST_NUMBERS", 0)
    factored = predict_observations(bound, seen)
    assert dense.is_full and not factored.is_full
    assert torch.allclose(factored.variance, dense.variance, rtol=1e-10, atol=0)


def test_a_cube_is_a_curve_too():
    seen = Observations((batch(CubicSpec(scale=2.0).build(LAYOUT), 0, 1),), LAYOUT)
    _, slopes = CurvedObservations.of(seen).curve(torch.full((1, 5), 3.0, dtype=torch.float64))
    assert torch.allclose(slopes, torch.full_like(slopes, 3 * 3.0**2 / 2.0**3))
