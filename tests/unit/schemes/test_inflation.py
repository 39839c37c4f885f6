"""Inflation and relaxation: exact factors on spread, and means that stay."""

from __future__ import annotations

import pytest
import torch

from cycler_da.schemes.ensemble.inflation import inflate, relax_to_prior_perturbations, relax_to_prior_spread


@pytest.fixture
def members():
    generator = torch.Generator().manual_seed(0)
    background = torch.randn((9, 2, 7), generator=generator, dtype=torch.float64) * 3 + 1
    analysis = torch.randn((9, 2, 7), generator=generator, dtype=torch.float64) * 0.5 + 2
    return background, analysis


def test_inflation_multiplies_the_spread_and_keeps_the_mean(members):
    background, _ = members
    inflated = inflate(background, 1.3)
    torch.testing.assert_close(inflated.std(0), 1.3 * background.std(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(inflated.mean(0), background.mean(0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0])
def test_rtps_blends_the_spreads(members, amount):
    background, analysis = members
    relaxed = relax_to_prior_spread(analysis, background, amount=amount)
    expected = (1 - amount) * analysis.std(0) + amount * background.std(0)
    torch.testing.assert_close(relaxed.std(0), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(relaxed.mean(0), analysis.mean(0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0])
def test_rtpp_blends_the_anomalies(members, amount):
    background, analysis = members
    relaxed = relax_to_prior_perturbations(analysis, background, amount=amount)
    expected = (1 - amount) * (analysis - analysis.mean(0)) + amount * (background - background.mean(0))
    torch.testing.assert_close(relaxed - relaxed.mean(0), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(relaxed.mean(0), analysis.mean(0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("relax", [relax_to_prior_spread, relax_to_prior_perturbations])
def test_relaxation_leaves_members_that_the_analysis_did_not_change(members, relax):
    background = members[0].to(torch.float32)
    analysis = background.clone()
    analysis[:, 0] *= 0.5
    relaxed = relax(analysis, background, amount=0.7)
    assert torch.equal(relaxed[:, 1], background[:, 1])
    assert relaxed.dtype == torch.float32


def test_rtps_leaves_an_analysis_without_spread(members):
    background, _ = members
    analysis = torch.full_like(background, 2.0)
    assert torch.equal(relax_to_prior_spread(analysis, background, amount=0.9), analysis)
