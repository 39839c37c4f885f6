"""Observations at their own times: interpolation of H(x), and four-dimensional schemes equal to filters in sequence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.enkf import EnkfSpec
from cycler_da.schemes.etkf import EtkfSpec
from cycler_da.schemes.letkf import LetkfSpec
from cycler_da.schemes.window.hx import window_hx

N, HOUR = 5, np.timedelta64(3600, "s")
START = np.datetime64("2020-01-01T00:00:00", "s")
FRAMES = START + HOUR * np.arange(3)
LAYOUT = Layout("linear", (Variable("x", "1", "x"),), Grid((Axis("x", N),)), HOUR)
CONTEXT = SchemeContext(LAYOUT)


def model() -> torch.Tensor:
    """A linear model of one hour, far from singular."""
    noise = torch.randn((N, N), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.eye(N, dtype=torch.float64) + 0.2 * noise


def ensemble(states) -> Ensemble:
    """Frames `(time, member, x)` as an ensemble that ends at the last of FRAMES."""
    values = torch.stack(list(states), dim=1)[:, :, None]
    return Ensemble(values, FRAMES[-len(states) :], tuple(range(len(values))), LAYOUT)


def window(n_members=9):
    """Members at the three frames, each the model applied to the one before."""
    x = torch.randn((n_members, N), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [x, x @ model().T, x @ model().T @ model().T]


def observe(cells, times, values, error=0.4) -> Observations:
    n_obs = len(cells)
    batch = ObsBatch(
        stream="late",
        operator=CellSpec().build(LAYOUT),
        where=Locations(torch.tensor(cells, dtype=torch.float64)[:, None], torch.zeros(n_obs, dtype=torch.int64)),
        values=torch.tensor(values, dtype=torch.float64),
        error=torch.full((n_obs,), error, dtype=torch.float64),
        times=np.array(times),
        ids=np.arange(n_obs).astype(str),
        flags=torch.zeros(n_obs, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


ASYNCHRONOUS = observe([0, 3, 1, 4, 2], FRAMES[[1, 0, 2, 0, 1]], [1.0, -0.5, 0.3, 2.0, -1.0])


def at_frame(i_frame) -> Observations:
    batch = ASYNCHRONOUS.batches[0]
    return Observations((batch.select(torch.from_numpy(batch.times == FRAMES[i_frame])),), LAYOUT)


def analyse(spec, background, observations):
    return spec.build(CONTEXT).analyse(Prior(background), observations, noise=Noise(1), carry={}).ensemble


def test_equivalents_are_interpolated_in_time_and_exact_at_frames():
    states = window()
    minutes = np.array([-30, 0, 15, 60, 105, 120, 200]) * np.timedelta64(60, "s")
    observations = observe([1] * 7, START + minutes, [0.0] * 7)
    got = window_hx(ensemble(states), observations)
    first, second, third = (x[:, 1] for x in states)
    expected = [first, first, 0.75 * first + 0.25 * second, second, 0.25 * second + 0.75 * third, third, third]
    torch.testing.assert_close(got, torch.stack(expected, dim=1), rtol=0, atol=1e-15)
    assert torch.equal(got[:, 3], second) and torch.equal(got[:, 5], third)


def test_one_frame_stands_for_the_whole_window():
    background = ensemble(window()[-1:])
    assert torch.equal(window_hx(background, ASYNCHRONOUS), ASYNCHRONOUS.hx(background.latest))


def test_observations_at_the_last_frame_are_what_they_were():
    together, alone = ensemble(window()), ensemble(window()[-1:])
    late = replace(ASYNCHRONOUS.batches[0], times=np.repeat(FRAMES[2:], 5))
    for spec in (EtkfSpec(), EnkfSpec(), LetkfSpec(localization_radius_cells=2.0)):
        got = analyse(spec, together, Observations((late,), LAYOUT))
        expected = analyse(spec, alone, Observations((late,), LAYOUT))
        # Rounding: letkf and etkf move all frames in one product.
        torch.testing.assert_close(got.latest, expected.latest, rtol=0, atol=1e-13)


@pytest.mark.parametrize("spec", [EtkfSpec(inflation=1.0), LetkfSpec(inflation=1.0)], ids=["etkf", "letkf"])
def test_earlier_frames_are_smoothed_so_that_the_linear_model_leads_from_one_to_the_next(spec):
    smoothed = analyse(spec, ensemble(window()), ASYNCHRONOUS).values[:, :, 0]
    for i_frame in range(2):
        torch.testing.assert_close(smoothed[:, i_frame + 1], smoothed[:, i_frame] @ model().T, rtol=0, atol=1e-10)
    assert not torch.allclose(smoothed[:, 0], window()[0])


@pytest.mark.parametrize("spec", [EtkfSpec(inflation=1.0), LetkfSpec(inflation=1.0)], ids=["etkf", "letkf"])
def test_a_window_at_once_equals_the_filter_from_time_to_time(spec):
    four_dimensional = analyse(spec, ensemble(window()), ASYNCHRONOUS).latest[:, 0]
    x = window()[0]
    for i_frame in range(3):
        x = analyse(spec, ensemble([x]), at_frame(i_frame)).latest[:, 0]
        x = x @ model().T if i_frame < 2 else x
    # For a linear model both are the Kalman filter of the sample.
    torch.testing.assert_close(four_dimensional.mean(0), x.mean(0), rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cov(four_dimensional.T), torch.cov(x.T), rtol=0, atol=1e-10)


def test_the_mean_of_the_enkf_is_that_of_the_etkf_in_a_window():
    background = ensemble(window())
    stochastic = analyse(EnkfSpec(inflation=1.1), background, ASYNCHRONOUS).latest.mean(0)
    deterministic = analyse(EtkfSpec(inflation=1.1), background, ASYNCHRONOUS).latest.mean(0)
    torch.testing.assert_close(stochastic, deterministic, rtol=0, atol=1e-10)
