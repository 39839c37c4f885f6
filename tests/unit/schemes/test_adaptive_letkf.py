"""The LETKF with adaptive inflation: what it uses, carries and reports, and Lorenz-96 with a wrong forcing."""

from __future__ import annotations

from statistics import mean

import numpy as np
import pytest
import torch

from cycler_da.config import read_spec
from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.ensemble.adaptive_inflation import (
    AdaptiveInflationSpec,
    Innovations,
    read_inflation,
    update_inflation,
)
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.systems.lorenz96 import Lorenz96Spec

ADAPTIVE = AdaptiveInflationSpec(std=0.1, start_std=1.0)


def analyse(background, observations, *, carry=None, **options):
    scheme = LetkfSpec(**{"localization_radius_cells": 2.0, **options}).build(SchemeContext(background.layout))
    return scheme.analyse(Prior(background), observations, noise=Noise(1), carry=carry or {})


@pytest.fixture
def case(make_layout, make_ensemble, make_observations):
    layout = make_layout((20,), channels=("u", "v"))
    observations = make_observations(layout, [3.0, 4.0, 9.0], [0.5, -4.0, 3.0], error=0.4)
    return make_ensemble(layout, 8), observations


@pytest.mark.parametrize("stride", [1, 2])
def test_the_first_cycle_uses_the_inflation_of_the_settings(case, stride):
    options = {"inflation": 1.3, "weight_stride": stride}
    adaptive = analyse(*case, **options, adaptive_inflation=ADAPTIVE)
    fixed = analyse(*case, **options)
    torch.testing.assert_close(adaptive.ensemble.values, fixed.ensemble.values, rtol=0, atol=1e-13)


def test_what_is_carried_is_the_update_by_the_innovations_of_the_cycle(case):
    background, observations = case
    analysis = analyse(background, observations, inflation=1.1, adaptive_inflation=ADAPTIVE)
    innovations = Innovations.of(observations.hx(background.latest), observations)
    first = read_inflation({}, ADAPTIVE, start=1.1, layout=background.layout)
    expected = update_inflation(first, innovations, ADAPTIVE, layout=background.layout, radius=2.0)
    assert torch.equal(analysis.carry["inflation"], expected.factor)
    assert torch.equal(analysis.carry["inflation_std"], expected.std)


def test_a_carried_field_inflates_each_grid_point_by_its_own_factor(case):
    background, observations = case
    factor = torch.linspace(1.0, 2.0, 20, dtype=torch.float64)[None]
    carry = {"inflation": factor, "inflation_std": torch.full_like(factor, 0.1)}
    got = analyse(background, observations, carry=carry, adaptive_inflation=ADAPTIVE)
    for cell in (2, 4, 5, 9, 12):
        fixed = analyse(background, observations, inflation=float(factor[0, cell])).ensemble.latest
        torch.testing.assert_close(got.ensemble.latest[..., cell], fixed[..., cell], rtol=0, atol=1e-13)
    # Observations reach less than 4 cells.
    assert torch.equal(got.ensemble.latest[..., 14:19], background.latest[..., 14:19])
    assert got.diagnostics["inflation_mean"] == pytest.approx(1.5, abs=1e-12)
    assert got.diagnostics["inflation_largest"] == 2.0


def test_each_variable_has_a_field_when_transforms_are_apart(case):
    analysis = analyse(*case, adaptive_inflation=ADAPTIVE, cross_channel_factor=0.0)
    factor = analysis.carry["inflation"]
    assert factor.shape == (2, 20)
    assert bool((factor[0, 7:11] != 1.05).all())  # u is observed there with a large innovation
    assert bool((factor[1] == 1.05).all())


def test_the_block_is_read_strictly_from_a_config():
    block = {"kind": "letkf", "localization_radius_cells": 3, "adaptive_inflation": {"std": 0.05}}
    spec = read_spec("scheme", block, where="scheme")
    assert spec.adaptive_inflation == AdaptiveInflationSpec(std=0.05)
    with pytest.raises(ConfigError, match="sdt"):
        read_spec("scheme", {**block, "adaptive_inflation": {"sdt": 0.05}}, where="scheme")


def cycle_lorenz96(make_observations, *, start, adaptive, forcing=9.0, n_cycles=240):
    """Cycle with a model of the wrong forcing; chi-square, mean factor and error over the second half."""
    system = Lorenz96Spec()
    layout, nature, model = system.layout(), system.build(), Lorenz96Spec(forcing=forcing).build()
    options = {"localization_radius_cells": 7.3, "inflation": start, "adaptive_inflation": adaptive}
    scheme = LetkfSpec(**options).build(SchemeContext(layout))
    generator = torch.Generator().manual_seed(0)
    truth = 8.0 + 0.01 * torch.eye(40, dtype=torch.float64)[:1, None]
    for _ in range(800):
        truth = nature.step(truth)
    members = truth + torch.randn((10, 1, 40), generator=generator, dtype=torch.float64)
    carry, rows = {}, []
    for _ in range(n_cycles):
        truth, members = nature.step(truth), model.step(members)
        y = truth[0, 0] + torch.randn(40, generator=generator, dtype=torch.float64)
        background = Ensemble(members[:, None], np.array(["2020-01-01"], "datetime64[s]"), tuple(range(10)), layout)
        observations = make_observations(layout, np.arange(40), y)
        analysis = scheme.analyse(Prior(background), observations, noise=Noise(0), carry=carry)
        members, carry, report = analysis.ensemble.latest, analysis.carry, analysis.diagnostics
        error = (members.mean(0) - truth[0]).square().mean().sqrt().item()
        rows.append((report["innovation_chi_square"], report.get("inflation_mean", start), error))
    return [mean(column) for column in zip(*rows[n_cycles // 2 :], strict=True)]


@pytest.mark.slow
def test_a_wrong_start_converges_and_chi_square_goes_to_one_in_spite_of_a_model_error(make_observations):
    chi_low, factor_low, error_low = cycle_lorenz96(make_observations, start=1.0, adaptive=ADAPTIVE)
    chi_high, factor_high, error_high = cycle_lorenz96(make_observations, start=1.8, adaptive=ADAPTIVE)
    # 120 cycles of 40 innovations: chi-square has a standard deviation of (2 / 4800)^0.5 = 0.02 at the least; the
    # model error is not of the members' shape, which leaves 1.06 (400 cycles).
    assert 0.95 < chi_low < 1.12 and 0.95 < chi_high < 1.12
    assert factor_low == pytest.approx(factor_high, abs=0.02)
    assert 1.1 < factor_low < 1.2
    # Fixed factors of 1.1 and 1.3 have errors of 0.45 and 0.43 over 400 cycles.
    assert error_low < 0.45 and error_high < 0.45


def test_without_adaptation_the_same_start_is_lost(make_observations):
    chi, _, error = cycle_lorenz96(make_observations, start=1.0, adaptive=None, n_cycles=120)
    assert chi > 3 and error > 1


def test_rotation_and_analysis_inflation_come_last(case):
    background, observations = case
    plain = analyse(background, observations).ensemble.latest
    wide = analyse(background, observations, analysis_inflation=1.2).ensemble.latest
    turned = analyse(background, observations, analysis_inflation=1.2, rotation=True).ensemble.latest
    moved = (plain != background.latest).any(dim=0)
    assert bool(moved.any()) and not bool(moved.all())
    torch.testing.assert_close(wide.std(0)[moved], 1.2 * plain.std(0)[moved], rtol=1e-12, atol=0)
    torch.testing.assert_close(wide.mean(0), plain.mean(0), rtol=0, atol=1e-14)
    assert torch.equal(wide[:, ~moved], plain[:, ~moved])
    torch.testing.assert_close(turned.std(0), wide.std(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(turned.mean(0), wide.mean(0), rtol=0, atol=1e-13)
    assert float((turned - wide).abs().max()) > 0.1
