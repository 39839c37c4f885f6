"""The LETKF as a scheme: options, relaxation order, diagnostics and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.nonlinear import SineSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.letkf import LetkfSpec


def analyse(background, observations, **options):
    scheme = LetkfSpec(**options).build(SchemeContext(background.layout))
    return scheme.analyse(Prior(background), observations, noise=Noise(1), carry={})


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"inflation": 0.0}, "inflation"),
        ({"rtps": 1.5}, "rtps"),
        ({"rtpp": -0.1}, "rtpp"),
        ({"weight_stride": 0}, "weight_stride"),
        ({"cross_channel_factor": 2.0}, "cross_channel_factor"),
        ({"localization": "box"}, "observation or domain"),
        ({"least_taper": -1.0}, "least_taper"),
        ({"localization_radius_km": -1.0}, "localization_radius_km"),
        ({"localization_radius_km": 1.0, "localization_radius_cells": 1.0}, "one of them"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options, part):
    with pytest.raises(ConfigError, match=part):
        LetkfSpec(**options)


def test_radius_in_km_and_in_cells_agree(make_layout):
    layout = make_layout((64, 64), spacing=15625.0)
    assert LetkfSpec(localization_radius_km=62.5).radius(layout) == 62500.0
    assert LetkfSpec(localization_radius_cells=4).radius(layout) == 62500.0
    assert LetkfSpec().radius(layout) is None


def test_radius_in_km_is_refused_on_a_grid_without_metres(make_layout):
    layout = make_layout((40,), units="1")
    with pytest.raises(ConfigError, match="localization_radius_cells"):
        LetkfSpec(localization_radius_km=1.0).build(SchemeContext(layout))


def test_domain_localization_reaches_its_radius_and_no_further(make_layout, make_ensemble, make_observations):
    layout = make_layout((30,))
    background = make_ensemble(layout, 6)
    observations = make_observations(layout, [10.0], [2.0], error=0.5)
    moved = analyse(background, observations, localization="domain", localization_radius_cells=3.5).ensemble.latest
    is_moved = (moved != background.latest).any(dim=0)[0]
    assert is_moved.nonzero()[:, 0].tolist() == list(range(7, 14))


def test_relaxation_comes_after_the_transform(make_layout, make_ensemble, make_observations):
    layout = make_layout((20,))
    background = make_ensemble(layout, 8)
    observations = make_observations(layout, [3.0, 4.0, 9.0], [0.5, -0.2, 1.0], error=0.4)
    options = {"localization_radius_cells": 2.0, "inflation": 1.1}
    plain = analyse(background, observations, **options).ensemble.latest
    relaxed = analyse(background, observations, **options, rtpp=0.3, rtps=0.5).ensemble.latest
    before = background.latest
    blended = 0.7 * (plain - plain.mean(0)) + 0.3 * (before - before.mean(0))
    expected = 0.5 * blended.std(0) + 0.5 * before.std(0)
    torch.testing.assert_close(relaxed.std(0), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(relaxed.mean(0), plain.mean(0), rtol=0, atol=1e-13)


def test_diagnostics_have_their_definitions(make_layout, make_ensemble, make_observations):
    layout = make_layout((20,), channels=("u", "v"))
    background = make_ensemble(layout, 8)
    observations = make_observations(layout, [3.0, 4.0], [0.5, -0.2], error=0.4, channel=1)
    analysis = analyse(background, observations, localization_radius_cells=2.0)
    report, x = analysis.diagnostics, background.latest
    d = torch.tensor([0.5, -0.2], dtype=torch.float64) - x[:, 1, 3:5].mean(0)
    assert report["n_obs"] == 2
    assert report["mean_innovation.v"] == pytest.approx(d.mean().item(), rel=1e-13)
    assert "mean_innovation.u" not in report
    chi = (d**2 / (x[:, 1, 3:5].var(0) + 0.16)).mean().item()
    assert report["innovation_chi_square"] == pytest.approx(chi, rel=1e-13)
    after = analysis.ensemble.latest
    assert report["dof_signal"] == pytest.approx((after[:, 1, 3:5].var(0) / 0.16).sum().item(), rel=1e-12)
    assert report["spread_background.u"] == pytest.approx(x[:, 0].var(0).mean().sqrt().item(), rel=1e-13)
    assert report["spread_analysis.u"] == pytest.approx(after[:, 0].var(0).mean().sqrt().item(), rel=1e-13)
    largest = (after[:, 0].mean(0) - x[:, 0].mean(0)).abs().max().item()
    assert report["max_increment.u"] == pytest.approx(largest, rel=1e-13)


def test_background_that_is_not_finite_fails_with_a_name(make_layout, make_ensemble, make_observations):
    layout = make_layout((20,), channels=("u", "v"))
    background = make_ensemble(layout, 4)
    observations = make_observations(layout, [3.0], [0.5])
    bad = background.values.clone()
    bad[1, 0, 1, 3] = torch.nan  # v is not observed, but shares the transform
    with pytest.raises(AnalysisFailed, match="analysis of v"):
        analyse(background.with_values(bad), observations, localization_radius_cells=2.0)
    bad[1, 0, 0, 3] = torch.inf
    with pytest.raises(AnalysisFailed, match="model equivalents"):
        analyse(background.with_values(bad), observations, localization_radius_cells=2.0)


def test_regression_leaves_linear_observations_alone(make_layout, make_ensemble, make_observations):
    layout = make_layout((12,))
    background, seen = make_ensemble(layout, 6), make_observations(layout, [2.0, 7.5], [0.4, -1.0], error=0.3)
    as_members = analyse(background, seen, localization_radius_cells=2.0).ensemble
    by_regression = analyse(background, seen, localization_radius_cells=2.0, linearisation="regression").ensemble
    assert torch.allclose(by_regression.values, as_members.values, rtol=0, atol=1e-13)


def test_regression_does_not_make_members_sure_of_what_a_sine_cannot_tell(
    make_layout, make_ensemble, make_observations
):
    layout = make_layout((40,))
    background = make_ensemble(layout, 20, seed=3)
    points = make_observations(layout, list(range(40)), [0.5] * 40, error=0.1).batches[0]
    sine = replace(points, operator=SineSpec(scale=1 / 3).build(layout))

    def spread(linearisation: str) -> float:
        options = {"localization_radius_cells": 8.0, "inflation": 1.0, "linearisation": linearisation}
        return float(analyse(background, Observations((sine,), layout), **options).ensemble.values.std(dim=0).mean())

    # The sine explains 1/500 of the variance of N(0, 1): a deviation of 1 is right. 32 observations in reach explain 20
    # members nearly whatever they are; slopes sampled from 20 members explain a little more than nothing.
    assert spread("members") < 0.4 and spread("regression") > 0.8
