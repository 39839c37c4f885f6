"""Resampling: every member is taken as often as its weight says, on average, and nearly so in every draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.generative.resampling import (
    RESAMPLING,
    normalised,
    resample,
    residual_resampling,
    stratified_resampling,
    systematic_resampling,
)

every_way = pytest.mark.parametrize("how", sorted(RESAMPLING))


def log_weights(n=50, seed=2):
    return 3 * torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def counts_of(index, n):
    return torch.bincount(index, minlength=n).to(torch.float64)


@every_way
def test_members_are_taken_in_rising_order_and_as_many_as_there_were(how):
    index = resample(log_weights(), how=how, generator=np.random.default_rng(1))
    assert len(index) == 50
    assert (index.diff() >= 0).all()


@every_way
def test_the_expected_count_of_a_member_is_its_weight_times_the_members(how):
    generator, logs, n_draws = np.random.default_rng(1), log_weights(10), 4000
    counts = torch.stack([counts_of(resample(logs, how=how, generator=generator), 10) for _ in range(n_draws)])
    # A count varies by less than one around its mean here: five standard errors.
    assert (counts.mean(dim=0) - 10 * normalised(logs)).abs().max() < 5 / n_draws**0.5


@pytest.mark.parametrize("uniform", [0.0, 0.3, 0.999999])
def test_systematic_counts_are_the_floor_or_the_ceiling_of_the_expected_ones(uniform):
    logs = log_weights()
    counts = counts_of(systematic_resampling(logs, uniform=uniform), 50)
    assert (counts - 50 * normalised(logs)).abs().max() < 1


def test_stratified_counts_are_within_two_of_the_expected_ones():
    logs, generator = log_weights(), torch.Generator().manual_seed(5)
    for _ in range(50):
        uniforms = torch.rand(50, generator=generator, dtype=torch.float64)
        counts = counts_of(stratified_resampling(logs, uniforms=uniforms), 50)
        assert (counts - 50 * normalised(logs)).abs().max() < 2


def test_residual_resampling_takes_at_least_the_whole_part_of_the_expected_counts():
    logs, generator = log_weights(), torch.Generator().manual_seed(5)
    for _ in range(50):
        uniforms = torch.rand(50, generator=generator, dtype=torch.float64)
        counts = counts_of(residual_resampling(logs, uniforms=uniforms), 50)
        assert (counts >= torch.floor(50 * normalised(logs))).all()


def test_stratified_resampling_with_one_number_for_all_teeth_is_systematic():
    logs = log_weights()
    stratified = stratified_resampling(logs, uniforms=torch.full((50,), 0.4, dtype=torch.float64))
    assert torch.equal(stratified, systematic_resampling(logs, uniform=0.4))


@every_way
def test_equal_weights_take_every_member_once(how):
    index = resample(torch.zeros(7, dtype=torch.float64), how=how, generator=np.random.default_rng(3))
    assert torch.equal(index, torch.arange(7))


@every_way
def test_one_member_with_all_weight_is_taken_always(how):
    logs = torch.full((6,), -800.0, dtype=torch.float64)
    logs[4] = 0.0
    assert torch.equal(resample(logs, how=how, generator=np.random.default_rng(3)), torch.full((6,), 4))
