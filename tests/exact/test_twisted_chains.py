"""Chains that are resampled along tau: posterior and evidence of chains weighed at their end, with evener weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.covariance import WhiteCovariance
from cycler_da.generative.guidance import ConjugateDraw
from cycler_da.generative.localisation import SharedNoise, localise, tau_grid
from cycler_da.generative.path_weights import RecordedEndpoint, linear_path_weights
from cycler_da.generative.resampling import effective_share, normalised, systematic_resampling
from cycler_da.generative.twisted import localise_twisted
from cycler_da.noise import Noise
from cycler_da.schemes.optimal_particle import OptimalParticleSpec

N = 20_000
TAUS = tau_grid(12, 400.0)
CENTRES, SHARES, VARIANCE = (-1.0, 1.5), (0.6, 0.4), 0.04
Y, R = 0.5, 0.3


@dataclass(frozen=True)
class TwoModes:
    """x1 of two narrow Gaussians; its covariance model knows one variance alone, that of unit noise."""

    def mean(self, tau, u):
        spread = VARIANCE / (1.0 + tau * VARIANCE)
        logs, means = [], []
        for centre, share in zip(CENTRES, SHARES, strict=True):
            if tau > 0.0:
                logs.append(math.log(share) - 0.5 * (u / tau - centre) ** 2 / (VARIANCE + 1.0 / tau))
            else:
                logs.append(torch.full_like(u, math.log(share)))
            means.append(spread * (centre / VARIANCE + u))
        weights = torch.softmax(torch.stack(logs), dim=0)
        return (weights * torch.stack(means)).sum(dim=0)

    def covariance(self, tau):
        return WhiteCovariance(1.0 / (1.0 + tau))


@dataclass(frozen=True)
class Seen:
    """y = x + e."""

    values = torch.tensor([Y], dtype=torch.float64)
    error_variance = torch.tensor([R], dtype=torch.float64)

    def linear(self, v):
        return v.flatten(1)

    __call__ = linear

    def adjoint(self, v):
        return v[:, None, :]


LIKE = torch.zeros(N, 1, 1, dtype=torch.float64)


def chain(seed: int):
    """Chains weighed at their end: endpoints and log weights."""
    noise, recorded = SharedNoise(Noise(seed), range(N), "t"), RecordedEndpoint(TwoModes())
    ends = localise(ConjugateDraw(recorded, Seen(), noise), TAUS, like=LIKE, noise=noise)
    return ends.flatten(), linear_path_weights(recorded, Seen())[0]


def twisted(seed: int, share: float):
    noise = SharedNoise(Noise(seed), range(N), "t")
    bound = (TwoModes(), Seen())
    return localise_twisted(
        bound, lambda which: bound, TAUS, like=LIKE, noise=noise, share=share, uniform=lambda step: 0.3
    )


def test_without_resampling_the_weights_are_those_of_whole_chains():
    ends, log_w = chain(1)
    chains = twisted(1, 1e-9)
    torch.testing.assert_close(chains.endpoint.flatten(), ends, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(chains.log_weights, log_w, rtol=1e-9, atol=1e-9)
    assert chains.n_resampled == 0 and torch.equal(chains.ancestors, torch.arange(N))


def test_resampled_along_the_way_chains_have_the_same_posterior_and_evidence_and_evener_weights():
    ends, log_w = chain(2)
    weights, chains = normalised(log_w), twisted(3, 0.8)
    ours = normalised(chains.log_weights)
    assert chains.n_resampled >= 2
    assert effective_share(log_w) < 0.75 < effective_share(chains.log_weights)
    mine = chains.endpoint.flatten()
    # Four standard errors of some 10 000 effective draws of a spread of about one.
    assert float((ours * mine).sum()) == pytest.approx(float((weights * ends).sum()), abs=0.05)
    assert float((ours * (mine > 0)).sum()) == pytest.approx(float((weights * (ends > 0)).sum()), abs=0.025)
    theirs = float(torch.logsumexp(log_w, 0)) - math.log(N)
    assert chains.log_evidence == pytest.approx(theirs, abs=0.04)


def test_the_posterior_is_that_of_two_modes():
    """Twelve steps leave the chain close to the mixture, whose posterior is known."""
    logs = [
        math.log(share) - 0.5 * (Y - centre) ** 2 / (VARIANCE + R)
        for centre, share in zip(CENTRES, SHARES, strict=True)
    ]
    right = 1.0 / (1.0 + math.exp(logs[0] - logs[1]))
    chains = twisted(4, 0.7)
    kept = systematic_resampling(chains.log_weights, uniform=0.5)
    found = float((chains.endpoint.flatten()[kept] > 0.25).double().mean())
    assert found == pytest.approx(right, abs=0.03)


@pytest.mark.parametrize("options", [{"resample_below": 0.0}, {"resample_below": 1.5}, {"resample_below": 0.5}])
def test_a_share_that_is_none_or_is_not_used_is_refused(options):
    with pytest.raises(ConfigError, match="resample_below"):
        OptimalParticleSpec(**options)
