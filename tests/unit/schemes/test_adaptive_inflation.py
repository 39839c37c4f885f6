"""Adaptive inflation: the published estimate, its update, and where it goes when the factor is known."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.schemes.ensemble.adaptive_inflation import (
    AdaptiveInflationSpec,
    InflationField,
    Innovations,
    read_inflation,
    update_inflation,
)
from cycler_da.schemes.ensemble.localization import gaspari_cohn

SETTINGS = AdaptiveInflationSpec(std=0.01, start_std=0.3, lower=0.5, upper=3.0)


def draw(positions, *, alpha, q=0.8, r=0.5, seed=0, channels=None) -> Innovations:
    """Innovations of variance alpha s^2 + r."""
    n_obs = len(positions)
    r = torch.full((n_obs,), r, dtype=torch.float64)
    z = torch.randn(n_obs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    alpha = torch.as_tensor(alpha, dtype=torch.float64)
    channels = torch.zeros(n_obs, dtype=torch.int64) if channels is None else channels
    return Innovations(z * (alpha * q * r + r).sqrt(), q * r, r, positions.to(torch.float64), channels)


def some_cells(layout, n_obs, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, n, (n_obs,), generator=generator) for n in layout.grid.shape], dim=1)


def test_update_equals_the_published_formulas_point_by_point(make_layout):
    layout, radius = make_layout((30,), periodic=False), 3.0
    x = torch.tensor([2.0, 4.0, 5.0, 5.0, 20.0], dtype=torch.float64)
    innovations = draw(x[:, None], alpha=2.0, seed=3)
    first = read_inflation({}, SETTINGS, start=1.2, layout=layout)
    got = update_inflation(first, innovations, SETTINGS, layout=layout, radius=radius)
    q, surplus = innovations.spread_variance / 0.5, innovations.innovation**2 / 0.5 - 1
    for point in range(30):
        rho = gaspari_cohn((x - point).abs(), radius)
        if not bool((rho > 0).any()):
            assert got.factor[0, point] == 1.2 and got.std[0, point] == 0.3
            continue
        estimate = (rho * surplus).sum() / (rho * q).sum()
        variance = 2 * (rho**2 * (1.44 * q + 1) ** 2).sum() / (rho * q).sum() ** 2
        alpha = (variance * 1.44 + 0.09 * estimate) / (variance + 0.09)
        expected = alpha.clamp(0.25, 9.0).sqrt()
        torch.testing.assert_close(got.factor[0, point], expected, rtol=1e-12, atol=0)
        narrowed = (variance * 0.09 / (variance + 0.09)).sqrt()
        torch.testing.assert_close(got.std[0, point], narrowed, rtol=1e-12, atol=0)


@pytest.mark.parametrize("start", [0.6, 2.5])
def test_factors_that_differ_from_place_to_place_are_found_from_any_start(make_layout, start):
    layout, radius = make_layout((8, 64)), 3.0
    settings = AdaptiveInflationSpec(std=0.05, start_std=1.0, lower=0.5, upper=3.0)
    field = read_inflation({}, settings, start=start, layout=layout)
    for cycle in range(200):
        cells = some_cells(layout, 200, cycle)
        alpha = torch.where(cells[:, 1] < 32, 1.0, 1.6**2)
        innovations = draw(cells, alpha=alpha, seed=1000 + cycle)
        field = update_inflation(field, innovations, settings, layout=layout, radius=radius)
    # 8 cells from the border, for the support of the taper is 6. The wrong start has a weight of (0.1 / 1)^2 of its
    # distance, which is up to 5; 4 standard deviations of the estimate are the rest.
    for columns, expected in ((slice(8, 24), 1.0), (slice(40, 56), 2.56)):
        found, std = field.factor[0, :, columns] ** 2, field.std[0, :, columns]
        assert found.mean().item() == pytest.approx(expected, abs=0.1)
        assert bool(((found - expected).abs() < 4 * std + 0.05).all())


def test_without_localization_all_points_share_one_estimate(make_layout):
    layout = make_layout((5, 7))
    innovations = draw(some_cells(layout, 40, 1), alpha=2.0)
    first = read_inflation({}, SETTINGS, start=1.1, layout=layout)
    everywhere = update_inflation(first, innovations, SETTINGS, layout=layout, radius=None)
    near = update_inflation(first, innovations, SETTINGS, layout=layout, radius=1e9)
    assert len(everywhere.factor.unique()) == 1
    torch.testing.assert_close(near.factor, everywhere.factor, rtol=1e-12, atol=0)


def test_variables_without_cross_talk_have_factors_of_their_own(make_layout):
    layout = make_layout((6, 6), channels=("u", "v"))
    cells, channels = some_cells(layout, 50, 2), torch.arange(50) % 2
    both = draw(cells, alpha=2.0, channels=channels)
    first = read_inflation({}, SETTINGS, start=1.1, layout=layout, n_fields=2)
    got = update_inflation(first, both, SETTINGS, layout=layout, radius=2.0, cross_channel=0.0)
    for channel in (0, 1):
        own = channels == channel
        alone = Innovations(
            both.innovation[own],
            both.spread_variance[own],
            both.error_variance[own],
            both.positions[own],
            channels[own],
        )
        single = InflationField(first.factor[:1], first.std[:1])
        expected = update_inflation(single, alone, SETTINGS, layout=layout, radius=2.0)
        torch.testing.assert_close(got.factor[channel], expected.factor[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(got.std[channel], expected.std[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("innovation", "bound"), [(1e3, 3.0), (0.0, 0.5)])
def test_factors_stay_within_their_bounds(make_layout, innovation, bound):
    layout = make_layout((10,))
    x = torch.arange(10, dtype=torch.float64)
    ones = torch.ones(10, dtype=torch.float64)
    innovations = Innovations(innovation * ones, 4 * ones, ones, x[:, None], torch.zeros(10, dtype=torch.int64))
    field = read_inflation({}, SETTINGS, start=1.0, layout=layout)
    for _ in range(60):
        field = update_inflation(field, innovations, SETTINGS, layout=layout, radius=2.0)
    assert field.factor.unique().item() == pytest.approx(bound, rel=1e-12)
    assert bool((field.std >= SETTINGS.std).all())


def test_members_without_spread_teach_nothing(make_layout):
    layout = make_layout((10,))
    x, zero = torch.arange(10, dtype=torch.float64)[:, None], torch.zeros(10, dtype=torch.float64)
    innovations = Innovations(zero + 5, zero, zero + 1, x, zero.to(torch.int64))
    first = read_inflation({}, SETTINGS, start=1.3, layout=layout)
    got = update_inflation(first, innovations, SETTINGS, layout=layout, radius=2.0)
    torch.testing.assert_close(got.factor, first.factor, rtol=1e-15, atol=0)
    torch.testing.assert_close(got.std, first.std, rtol=1e-15, atol=0)


def test_order_of_observations_does_not_matter(make_layout):
    layout = make_layout((12, 12))
    innovations = draw(some_cells(layout, 60, 4), alpha=1.5)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    shuffled = Innovations(*(getattr(innovations, name)[order] for name in innovations.__dataclass_fields__))
    first = read_inflation({}, SETTINGS, start=1.0, layout=layout)
    one = update_inflation(first, innovations, SETTINGS, layout=layout, radius=3.0)
    other = update_inflation(first, shuffled, SETTINGS, layout=layout, radius=3.0)
    torch.testing.assert_close(one.factor, other.factor, rtol=1e-12, atol=0)


def test_what_is_carried_is_read_back_and_another_shape_is_refused(make_layout):
    layout = make_layout((6,))
    field = read_inflation({}, SETTINGS, start=1.3, layout=layout)
    again = read_inflation(field.carried(), SETTINGS, start=9.0, layout=layout)
    assert torch.equal(again.factor, field.factor) and torch.equal(again.std, field.std)
    with pytest.raises(LayoutMismatch, match="inflation has shape"):
        read_inflation(field.carried(), SETTINGS, start=1.3, layout=make_layout((7,)))


@pytest.mark.parametrize("options", [{"std": 0.0}, {"std": 0.6}, {"lower": 0.0}, {"lower": 2.5}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="adaptive_inflation"):
        AdaptiveInflationSpec(**options)
