"""Members that are moved before their windows are drawn, against dense Bayes with the ensemble as prior."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gaussian_window import (
    CONTEXT,
    CORRELATION,
    FRAMES,
    LAYOUT,
    SCALING,
    START,
    STEP,
    N,
    continued,
    dense_observations,
    observations,
)

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.diffusion.gaussian import GaussianDenoiser
from cycler_da.generative.diffusion.schedule import COSINE
from cycler_da.layout import Axis, Grid
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.window.coupling import WindowCouplingSpec

MEMBERS, STATE = 200, 2 * N * N
UNEVEN = dataclasses.replace(LAYOUT, grid=Grid((Axis("y", N, periodic=True), Axis("x", N, spacing=2.0, periodic=True))))
GLOBAL = WindowCouplingSpec(inflation=1.0)


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def standard_ensemble(members, n):
    """Members whose sample mean is 0 and whose sample covariance is I, to rounding."""
    z = numbers(members, n, seed=4)
    z = z - z.mean(dim=0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(z.mT.cov()), z.mT, upper=False).mT


def law_of_ensemble():
    """Mean and covariance of all frames: an uncertain first one, and the others as the window's prior continues it."""
    root = 0.1 * numbers(STATE, STATE, seed=5) + 0.5 * torch.eye(STATE, dtype=torch.float64)
    return continued(numbers(STATE, seed=6), root @ root.mT)


def ensemble_of(mean, covariance):
    """Members that have these moments; the first frame is the previous analysis, the others are the background."""
    windows = mean + standard_ensemble(MEMBERS, len(mean)) @ torch.linalg.cholesky(covariance).mT
    frames = SCALING.to_physical(windows.view(MEMBERS, FRAMES, 2, N, N))
    members, times = tuple(range(MEMBERS)), START + STEP * np.arange(FRAMES)
    previous = Ensemble(frames[:, :1], times[:1], members, LAYOUT)
    return Prior(Ensemble(frames[:, 1:], times[1:], members, LAYOUT), previous)


def posterior(mean, covariance, seen):
    return GaussianDenoiser(mean, covariance, COSINE).given(*dense_observations(seen))


def test_first_frames_are_moved_to_the_smoothing_law_of_the_ensemble():
    (mean, covariance), seen = law_of_ensemble(), observations()
    expected = posterior(mean, covariance, seen)
    before = ensemble_of(mean, covariance)
    moved = GLOBAL.build(LAYOUT).moved(before.previous.values, before, seen, scheme="it")
    found = SCALING.to_scaled(moved[:, 0]).flatten(1)
    torch.testing.assert_close(found.mean(dim=0), expected.mean[:STATE], rtol=0, atol=1e-9)
    torch.testing.assert_close(found.mT.cov(), expected.covariance[:STATE, :STATE], rtol=0, atol=1e-9)


def error_of_mean(coupling):
    """Of last frames that are drawn, posterior deviations."""
    (mean, covariance), seen = law_of_ensemble(), observations()
    scheme = PdediffSpec(correlation=CORRELATION, coupling=coupling).build(CONTEXT)
    whole = dataclasses.replace(scheme, known=dataclasses.replace(scheme.known, frames=FRAMES))
    drawn = whole.analyse(ensemble_of(mean, covariance), seen, noise=Noise(7), carry={}).ensemble.latest
    expected, last = posterior(mean, covariance, seen), slice(-STATE, None)
    error = SCALING.to_scaled(drawn).flatten(1).mean(dim=0) - expected.mean[last]
    return float((error / expected.covariance.diagonal()[last].sqrt()).square().mean().sqrt())


def test_coupled_windows_are_draws_of_the_posterior_and_uncoupled_ones_are_not():
    """Sampling alone leaves 1/sqrt(200) = .07."""
    assert error_of_mean(GLOBAL) < 0.1
    assert error_of_mean(None) > 0.15


def test_options_are_checked_when_the_config_is_read():
    with pytest.raises(ConfigError, match="inflation is 0"):
        WindowCouplingSpec(inflation=0.0)
    with pytest.raises(ConfigError, match="localization radius is both km and cells"):
        WindowCouplingSpec(localization_radius_km=100.0, localization_radius_cells=2.0)
    with pytest.raises(ConfigError, match=r"localization_radius_cells is .*; expected equal spacings on all axes"):
        PdediffSpec(coupling=WindowCouplingSpec(localization_radius_cells=2.0)).build(
            dataclasses.replace(CONTEXT, layout=UNEVEN)
        )


def test_forecasts_that_are_not_finite_stop_it():
    before = ensemble_of(*law_of_ensemble())
    broken = before.background.values.clone()
    broken[0, 0, 0, 0, 0] = torch.nan
    before = dataclasses.replace(before, background=before.background.with_values(broken))
    with pytest.raises(AnalysisFailed, match=r"pdediff: .* are not finite"):
        PdediffSpec(coupling=GLOBAL).build(CONTEXT).analyse(before, observations(), noise=Noise(7), carry={})
