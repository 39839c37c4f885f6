"""The advected transition: exact mean for known motion, exact guidance against dense algebra, range of states."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from cycler_da.advection import advect_history, block_flow
from cycler_da.errors import LayoutMismatch
from cycler_da.generative.advected import AdvectedPrediction, AdvectedTransition, MeanAndSpread, StateRange
from cycler_da.generative.local_covariance import LocalCovariance, exponential_correlation
from cycler_da.generative.localisation import GaussianDraw, MemberNoise, localise, tau_grid
from cycler_da.generative.networks.base import NetworkSpec, build_network
from cycler_da.generative.prediction import LearnedTransition, Prediction
from cycler_da.generative.scaling import Scaling
from cycler_da.noise import Noise

SHAPE = (7, 9)
N = 63
SCALING = Scaling((0.0,), (0.1,))


def untrained(size: int = 64, **settings) -> AdvectedTransition:
    network = build_network(NetworkSpec("unet", {"history": 3, "n_outputs": 2, "channels": [8, 8]}))
    correlation = exponential_correlation((size, size), [(1.0, 2.0)])
    return AdvectedTransition(MeanAndSpread(network.eval(), SCALING), correlation, **settings)


def moving_square(n_members: int = 3, size: int = 64) -> torch.Tensor:
    frames = torch.zeros(n_members, 3, 1, size, size)
    for member in range(n_members):
        for k in range(3):
            frames[member, k, 0, 16 + 2 * k : 32 + 2 * k, 10 + member * k : 34 + member * k] = 0.5
    return frames


@dataclass(frozen=True)
class Cells:
    """y = H x + r of a field, H a dense matrix."""

    matrix: torch.Tensor
    values: torch.Tensor
    error_variance: torch.Tensor

    def hx(self, x):
        return x.flatten(1).to(torch.float64) @ self.matrix.T

    def adjoint(self, v):
        return (v @ self.matrix).reshape(len(v), 1, *SHAPE)


def prediction(n_members: int = 3) -> AdvectedPrediction:
    noise = Noise(7)
    mean = noise.shared_normal("mean", (n_members, 1, *SHAPE), dtype=torch.float64)
    std = 0.2 + noise.shared_normal("std", (n_members, 1, *SHAPE), dtype=torch.float64).abs()
    return AdvectedPrediction(mean, LocalCovariance(std, exponential_correlation(SHAPE, [(1.0, 2.0)])), StateRange())


def observations(n_obs: int = 12) -> Cells:
    generator = Noise(9).generator("h")
    matrix = torch.from_numpy(generator.standard_normal((n_obs, N)) * (generator.random((n_obs, N)) < 0.1))
    values = torch.from_numpy(generator.standard_normal(n_obs))
    return Cells(matrix, values, torch.full((n_obs,), 0.04, dtype=torch.float64))


def members(n: int = 3) -> MemberNoise:
    return MemberNoise(Noise(5), range(n), "draw")


def test_the_kinds_of_transition_and_prediction_fit_their_protocols():
    transition = untrained()
    assert isinstance(transition, LearnedTransition)
    assert isinstance(transition.predict(moving_square()), Prediction)


def test_an_untrained_mean_is_the_advected_frame_of_each_member():
    frames = moving_square()
    predicted = untrained().predict(frames)
    flow = block_flow(frames[:, :, 0])
    torch.testing.assert_close(predicted.mean, advect_history(frames[:, :, 0], flow)[:, -1:])
    for member in range(3):  # the square moves on by its own two rows and `member` columns
        centre = predicted.mean[member, 0, 24:32, 18 + 3 * member : 30 + 3 * member]
        torch.testing.assert_close(centre, torch.full_like(centre, 0.5), rtol=0.0, atol=0.02)


def test_a_member_is_predicted_alike_alone_and_among_others():
    frames = moving_square(11)
    together, alone = untrained().predict(frames), untrained().predict(frames[9:10])
    torch.testing.assert_close(together.mean[9:10], alone.mean, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(together.residual.std[9:10], alone.residual.std, rtol=1e-6, atol=0.0)


def test_states_stay_in_the_range_of_the_codes_and_weak_values_are_no_echo():
    predicted = untrained().predict(moving_square())
    noise = members()
    drawn = predicted.to_state(
        localise(GaussianDraw(predicted.endpoint, noise), (0.0,), like=predicted.blank(torch.float64), noise=noise)
    )
    assert float(drawn.min()) == 0.0 and float(drawn.max()) <= 254 / 255
    assert not bool(((drawn > 0) & (drawn < 3 / 255)).any())


def test_guidance_equals_the_dense_update_of_every_member():
    predicted, seen, noise = prediction(), observations(), members()
    residual = localise(predicted.guided(seen, noise), (0.0,), like=predicted.blank(torch.float64), noise=noise)
    analysed = predicted.mean + predicted.spread(residual)
    z = noise.normal("endpoint", predicted.blank(torch.float64).shape[1:], step=0)
    eta = seen.error_variance.sqrt() * noise.normal("obs", (12,), step=0)
    drawn = (predicted.mean + predicted.spread(z)).flatten(1)
    y, x = torch.meshgrid(torch.arange(SHAPE[0]), torch.arange(SHAPE[1]), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], dim=1).to(torch.float64)
    for i in range(3):
        d = predicted.residual.std[i].flatten()
        c = d[:, None] * torch.exp(-torch.cdist(place, place) / 2.0) * d
        s = seen.matrix @ c @ seen.matrix.T + torch.diag(seen.error_variance)
        innovation = seen.values + eta[i] - seen.matrix @ drawn[i]
        expected = drawn[i] + c @ seen.matrix.T @ torch.linalg.solve(s, innovation)
        # Conjugate gradients stop at a relative residual of 1e-10; the condition of S is below 1e3.
        torch.testing.assert_close(analysed[i].flatten(), expected, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("points", [1, 3])
def test_without_observations_guidance_is_bitwise_the_forecast(points):
    predicted, noise = prediction(), members()
    none = Cells(*(part[:0] for part in (observations().matrix, observations().values, observations().error_variance)))
    like = predicted.blank(torch.float64)
    free = localise(GaussianDraw(predicted.endpoint, noise), tau_grid(points), like=like, noise=noise)
    guided = localise(predicted.guided(none, noise), tau_grid(points), like=like, noise=noise)
    assert torch.equal(free, guided)


def test_observed_variance_is_that_of_the_cells_that_are_read():
    predicted = prediction()
    picks = torch.eye(N, dtype=torch.float64)[[3, 40]]
    seen = Cells(picks, torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    expected = predicted.residual.std.flatten(1)[:, [3, 40]].square().mean(dim=0)
    torch.testing.assert_close(predicted.observed_variance(seen), expected)


def test_frames_of_two_variables_or_too_few_times_are_refused():
    with pytest.raises(LayoutMismatch, match="expected one variable at 3 times"):
        untrained().predict(torch.zeros(1, 3, 2, 64, 64))
    with pytest.raises(LayoutMismatch, match="expected one variable at 3 times"):
        untrained().predict(torch.zeros(1, 2, 1, 64, 64))


def test_a_network_with_a_wrong_grid_says_what_grid_it_takes():
    network = build_network(NetworkSpec("unet", {"history": 1, "channels": [8, 8, 8]}))
    assert isinstance(network, nn.Module)
    with pytest.raises(LayoutMismatch, match="multiple of 8"):
        network(torch.zeros(1, 1, 12, 16))
