"""The dense transition: persistence before training, transposes, independence of the batch, guided draws."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.localisation import MemberNoise, SharedNoise, localise
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.prediction import LearnedTransition, Prediction, ResidualObservation
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise
from cycler_da.schemes.flowdas import Flowdas, FlowdasSpec
from cycler_da.schemes.transition.scaled_observation import ScaledObservation

SCALING = Scaling((0.0, 1.0, -2.0), (1.0, 2.0, 0.5))


class Sum:
    """Two observations: the first value, and the sum of all."""

    values = torch.tensor([0.7, -0.4], dtype=torch.float64)
    error_variance = torch.tensor([0.3, 0.5], dtype=torch.float64)
    rows = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)

    def hx(self, x):
        return x.flatten(1).to(torch.float64) @ self.rows.T

    def adjoint(self, v):
        return (v @ self.rows)[..., None]


def network(*, is_trained):
    net = build_network(NetworkSpec("mlp", {"size": 3, "width": 8, "depth": 1}))
    if is_trained:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in net.parameters():
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return net


def states(n=200):
    return torch.randn((n, 1, 3, 1), generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def climatological(scaled):
    middle, std = (torch.tensor(x, dtype=torch.float64)[:, None] for x in (SCALING.mean, SCALING.std))
    return middle + std * scaled


def test_an_untrained_network_is_persistence_with_the_measured_root():
    transition = DenseTransition(network(is_trained=False), SCALING)
    near = climatological(states())
    prediction = transition.predict(near)
    assert torch.equal(prediction.mean, near[:, -1])
    expected = torch.diag(torch.tensor(SCALING.std, dtype=torch.float64)).expand(200, 3, 3)
    torch.testing.assert_close(prediction.root, expected, rtol=0, atol=0)


def test_it_meets_the_protocols():
    transition = DenseTransition(network(is_trained=True), SCALING)
    assert isinstance(transition, LearnedTransition)
    assert isinstance(transition.predict(states(2)), Prediction)


def test_a_member_does_not_depend_on_its_batch():
    transition = DenseTransition(network(is_trained=True), SCALING)
    together = transition.predict(states())
    for part in (slice(0, 1), slice(70, 75), slice(64, 200)):
        alone = transition.predict(states()[part])
        assert torch.equal(alone.mean, together.mean[part])
        assert torch.equal(alone.root, together.root[part])


def test_gathering_is_the_transpose_of_spreading():
    prediction = DenseTransition(network(is_trained=True), SCALING).predict(states())
    r, v = states()[:, 0], states().flip(0)[:, 0]
    forward, backward = (prediction.spread(r) * v).sum(), (r * prediction.gather(v)).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=0)


@pytest.mark.parametrize("taus", [(0.0,), (0.0, 3.0)])
def test_guided_draws_of_every_member_are_its_own_kalman_posterior(taus):
    n = 4000
    one = states(2)
    transition = DenseTransition(network(is_trained=True), SCALING)
    prediction = transition.predict(one.repeat_interleave(n, dim=0))
    noise = MemberNoise(Noise(3), range(2 * n), "guided")
    draw = prediction.guided(Sum(), noise)
    drawn = prediction.to_state(localise(draw, taus, like=prediction.blank(torch.float64), noise=noise)).flatten(1)
    both = transition.predict(one)
    for i in range(2):
        mean, covariance = both.mean[i].flatten(), both.covariance[i]
        spread = Sum.rows @ covariance @ Sum.rows.T + torch.diag(Sum.error_variance)
        gain = torch.linalg.solve(spread, Sum.rows @ covariance).T
        expected = mean + gain @ (Sum.values - Sum.rows @ mean)
        left = covariance - gain @ Sum.rows @ covariance
        mine = drawn[i * n : (i + 1) * n]
        # 4000 draws: standard error 1.6 % of a standard deviation, 2.2 % of a variance; four of each.
        size = left.diagonal().sqrt()
        assert float(((mine.mean(dim=0) - expected) / size).abs().max()) < 0.065
        assert float(((mine.T.cov() - left) / torch.outer(size, size)).abs().max()) < 0.09


def test_moment_matching_by_derivatives_is_the_kalman_posterior_of_every_member():
    n, one = 4000, states(2)
    transition = DenseTransition(network(is_trained=True), SCALING)
    prediction = transition.predict(one.repeat_interleave(n, dim=0))
    seen = ScaledObservation(ResidualObservation(prediction, Sum()), torch.ones(2, dtype=torch.float64))
    scheme = Flowdas(FlowdasSpec(guidance="moment_matching", coordinates="residual", covariance="derivative"))
    drawn = prediction.to_state(scheme.sample_residual(prediction, seen, SharedNoise(Noise(3), range(2 * n), "t")))
    both = transition.predict(one)
    for i in range(2):
        mean, covariance = both.mean[i].flatten(), both.covariance[i]
        spread = Sum.rows @ covariance @ Sum.rows.T + torch.diag(Sum.error_variance)
        gain = torch.linalg.solve(spread, Sum.rows @ covariance).T
        left = covariance - gain @ Sum.rows @ covariance
        mine, size = drawn.flatten(1)[i * n : (i + 1) * n], left.diagonal().sqrt()
        # Four standard errors of 4000 draws, .065 and .09, and what a hundred steps leave.
        expected = mean + gain @ (Sum.values - Sum.rows @ mean)
        assert float(((mine.mean(dim=0) - expected) / size).abs().max()) < 0.1
        assert float(((mine.T.cov() - left) / torch.outer(size, size)).abs().max()) < 0.12


def test_moment_matching_refuses_members_that_do_not_share_their_covariance():
    prediction = DenseTransition(network(is_trained=True), SCALING).predict(states(4))
    seen = ScaledObservation(ResidualObservation(prediction, Sum()), torch.ones(2, dtype=torch.float64))
    scheme = Flowdas(FlowdasSpec(guidance="moment_matching", n_steps=3))
    with pytest.raises(AnalysisFailed, match=r"differs between members.*covariance: derivative"):
        scheme.sample_residual(prediction, seen, MemberNoise(Noise(1), range(4), "test"))


def test_far_from_the_climate_means_are_held_and_residuals_have_at_most_its_variance():
    transition = DenseTransition(network(is_trained=True), SCALING)
    prediction = transition.predict(1e3 * states())
    middle, std = (torch.tensor(x, dtype=torch.float64)[:, None] for x in (SCALING.mean, SCALING.std))
    assert float(((prediction.mean - middle) / std).abs().max()) <= 5.0
    of_member = (prediction.root / std).square().sum(dim=(1, 2)) / 3
    assert float(of_member.max()) <= 1.0 + 1e-12 and float(of_member.min()) > 0.0


def test_within_the_climate_nothing_is_held():
    net, scaled = network(is_trained=True), states()
    with torch.no_grad():
        net.base_root.mul_(0.01)
    prediction = DenseTransition(net, SCALING).predict(climatological(0.1 * scaled))
    with torch.no_grad():
        root = net.covariance_root((0.1 * scaled[:, 0]).float())
    rows = torch.tensor(SCALING.std, dtype=torch.float64)[:, None]
    torch.testing.assert_close(prediction.root, rows * root, rtol=1e-4, atol=1e-7)
