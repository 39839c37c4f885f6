"""A Gaussian prior of windows on a small torus, observations of it, and dense matrices of both."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from cycler_da.ensemble import Ensemble
from cycler_da.generative.climatology import ScaledCovariance, StateClimatology
from cycler_da.generative.covariance import spectral_from_shells
from cycler_da.generative.diffusion.gaussian import GaussianDenoiser
from cycler_da.generative.diffusion.schedule import COSINE
from cycler_da.generative.diffusion.window_gaussian import window_gaussian
from cycler_da.generative.scaling import Scaling
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.obs.base import Locations, ObsBatch, Observations
from cycler_da.obs.points import PointsSpec
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.window.measurement import split_by_frame

N, FRAMES, CORRELATION = 4, 3, 0.8
STEP, START = np.timedelta64(3600, "s"), np.datetime64("2020-01-01T00:00:00", "s")
STD = (2.0, 0.5)
LAYOUT = Layout(
    "toy",
    (Variable("q1", "1", "first"), Variable("q2", "1", "second")),
    Grid((Axis("y", N, periodic=True), Axis("x", N, periodic=True))),
    STEP,
)
SCALING = Scaling((1.0, -1.0), STD)
BLOCK = torch.tensor([[1.0, -0.4], [-0.4, 1.0]], dtype=torch.float64)
SHELLS = torch.stack([BLOCK * power for power in (3.0, 2.0, 1.0, 0.5, 0.3, 0.2)])
MODEL = SimpleNamespace(
    climatology=StateClimatology(
        torch.tensor(SCALING.mean, dtype=torch.float64), ScaledCovariance(SCALING, spectral_from_shells(SHELLS, N))
    )
)
CONTEXT = SchemeContext(LAYOUT, MODEL)


def observations(operator=None, *, error=0.3, n_obs=9, frames=(1, 2)):
    """Some cells of some frames."""
    generator = torch.Generator().manual_seed(2)
    cells = torch.randperm(N * N, generator=generator)[:n_obs]
    where = Locations(
        torch.stack([cells // N, cells % N], dim=1).to(torch.float64),
        torch.randint(0, 2, (n_obs,), generator=generator),
    )
    batches = [
        ObsBatch(
            stream="toy",
            operator=operator or PointsSpec().build(LAYOUT),
            where=where,
            values=torch.randn(n_obs, generator=generator, dtype=torch.float64),
            error=torch.full((n_obs,), error, dtype=torch.float64),
            times=np.repeat(START + frame * STEP, n_obs),
            ids=np.array([f"o{frame}.{i}" for i in range(n_obs)]),
            flags=torch.zeros(n_obs, dtype=torch.int32),
        )
        for frame in frames
    ]
    return Observations(tuple(batches), LAYOUT)


def prior(n_members=6):
    members = tuple(range(n_members))
    values = SCALING.to_physical(0.3 * Noise(3).normal("x", (1, 2, N, N), members=members, dtype=torch.float64))
    previous = Ensemble(values, np.array([START]), members, LAYOUT)
    background = Ensemble(values, np.array([START + (FRAMES - 1) * STEP]), members, LAYOUT)
    return Prior(background, previous)


def dense_prior(frames=FRAMES):
    known = SdaSpec(correlation=CORRELATION).build(CONTEXT).known
    gaussian = window_gaussian(known.lags, frames)
    n = frames * 2 * N * N
    units = torch.eye(n, dtype=torch.float64).view(n, frames, 2, N, N)
    return GaussianDenoiser(torch.zeros(n).double(), gaussian.left(units, 1e8).flatten(1), COSINE)


def continued(mean, covariance, frames=FRAMES):
    """Mean and covariance of all frames, when the first has these and the others follow it as the prior has them."""
    climate, n = dense_prior(frames).covariance, len(mean)
    onward = torch.linalg.solve(climate[:n, :n], climate[:n, n:]).mT
    flow = torch.cat([torch.eye(n, dtype=torch.float64), onward])
    whole = flow @ covariance @ flow.mT
    whole[n:, n:] += climate[n:, n:] - onward @ climate[:n, n:]
    return flow @ mean, whole


def dense_observations(seen, frames=FRAMES):
    """Values, matrix and variances of observations of the flattened scaled window."""
    n = frames * 2 * N * N
    zero = torch.zeros(1, frames, 2, N, N, dtype=torch.float64)
    units = torch.cat([zero, torch.eye(n, dtype=torch.float64).view(n, frames, 2, N, N)])
    times = START + STEP * np.arange(frames)
    columns = [some.hx(SCALING.to_physical(units[:, f])) for f, some in enumerate(split_by_frame(seen, times))]
    hx = torch.cat(columns, dim=1)
    values = torch.cat([some.values for some in split_by_frame(seen, times)])
    return values - hx[0], (hx[1:] - hx[:1]).mT, seen.error_variance
