"""3D-Var with the standard deviation that a learned transition predicts, against dense algebra (float64, rounding)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.forecast import InterpolantForecast
from cycler_da.generative.advected import AdvectedTransition, MeanAndSpread
from cycler_da.generative.local_covariance import exponential_correlation
from cycler_da.generative.scaling import Scaling
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.var3d import Var3dSpec

N, N_MEMBERS, N_OBS, FACTOR = 16, 3, 30, 1.7
STEP = np.timedelta64(600, "s")
START = np.datetime64("2020-01-01T00:00:00", "s")
LAYOUT = Layout(
    "toy", (Variable("vil_code", "1", "code"),), Grid(tuple(Axis(name, N, 1.0) for name in ("y", "x"))), STEP
)


class BrighterIsLessCertain(nn.Module):
    """No increment; the logarithm of the spread is twice the last frame, scaled."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x[:, :1]), 2.0 * x[:, -1:]], dim=1)


TRANSITION = AdvectedTransition(
    MeanAndSpread(BrighterIsLessCertain(), Scaling((0.0,), (1.0,))), exponential_correlation((N, N), [(1.0, 2.0)])
)
MODEL = InterpolantForecast(LAYOUT, TRANSITION, (0.0,), "toy")
CONTEXT = SchemeContext(LAYOUT, MODEL)


def prior_of() -> Prior:
    frames = torch.rand((N_MEMBERS, 3, 1, N, N), generator=torch.Generator().manual_seed(1))
    times = START + STEP * np.arange(-2, 1)
    previous = Ensemble(frames, times, tuple(range(N_MEMBERS)), LAYOUT)
    return Prior(MODEL.forecast(previous, times[-1:] + STEP, noise=Noise(3)), previous, MODEL)


def observe() -> Observations:
    draw = np.random.default_rng(2)
    cells = torch.from_numpy(np.stack(np.unravel_index(draw.permutation(N * N)[:N_OBS], (N, N)), axis=1))
    batch = ObsBatch(
        "toy",
        CellSpec().build(LAYOUT),
        Locations(cells.to(torch.float64), torch.zeros(N_OBS, dtype=torch.int64)),
        torch.from_numpy(draw.random(N_OBS)),
        torch.full((N_OBS,), 0.05, dtype=torch.float64),
        np.repeat(START + STEP, N_OBS),
        np.array([str(i) for i in range(N_OBS)]),
        torch.zeros(N_OBS, dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


@pytest.mark.parametrize("solver", ["dense", "cg"])
def test_the_mean_moves_by_the_gain_of_the_predicted_covariance(solver):
    prior, seen = prior_of(), observe()
    spec = Var3dSpec(std="predicted", factor=FACTOR, members="mean", solver=solver)
    analysis = spec.build(CONTEXT).analyse(prior, seen, noise=Noise(3), carry={})

    std = TRANSITION.predict(prior.previous.values).residual.std.to(torch.float64)
    d = torch.diag(std.square().mean(dim=0).sqrt().flatten())
    identity = torch.eye(N * N, dtype=torch.float64).reshape(-1, 1, N, N)
    k = TRANSITION.correlation.apply(identity).flatten(1)
    h = seen.hx(identity).T
    b = FACTOR * d @ k @ d
    mean = prior.background.latest.to(torch.float64).mean(dim=0).flatten()
    gain = b @ h.T @ torch.linalg.inv(h @ b @ h.T + torch.diag(seen.error_variance))
    expected = mean + gain @ (seen.values - h @ mean)
    found = analysis.ensemble.latest.to(torch.float64).mean(dim=0).flatten()
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)  # states are float32, numbers of order one


def test_without_observations_the_background_stays_bit_for_bit():
    prior = prior_of()
    scheme = Var3dSpec(std="predicted").build(CONTEXT)
    analysis = scheme.analyse(prior, Observations((), LAYOUT), noise=Noise(3), carry={})
    assert torch.equal(analysis.ensemble.values, prior.background.values)


def test_a_model_without_a_spread_of_its_own_is_refused_when_the_scheme_is_built():
    with pytest.raises(ConfigError, match="differs from place to place"):
        Var3dSpec(std="predicted").build(SchemeContext(LAYOUT, object()))


def test_a_calibrated_file_beside_the_predicted_spread_is_refused():
    with pytest.raises(ConfigError, match="no file with std: predicted"):
        Var3dSpec(std="predicted", b="b.nc")


def test_an_analysis_without_the_previous_one_says_what_is_missing():
    prior = prior_of()
    with pytest.raises(AnalysisFailed, match="var3d: needs the previous analysis"):
        Var3dSpec(std="predicted").build(CONTEXT).analyse(Prior(prior.background), observe(), noise=Noise(3), carry={})
