"""The QG solver against pyqg-jax, step by step, and against its own identities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cycler_da.noise import Noise
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec, random_start

DATA = Path(__file__).parent / "data" / "pyqg_trajectory.npz"


@pytest.fixture(scope="module")
def trajectory():
    with np.load(DATA) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("position", range(4))
def test_solver_equals_pyqg_jax_step_by_step(trajectory, position):
    spec = TwoLayerQGSpec(size=32, time_step=float(trajectory["time_step"]))
    solver = spec.build(dtype=torch.float64)
    steps = int(trajectory["steps"][position])
    ours = solver.run(torch.from_numpy(trajectory["start"])[None], steps)[0].numpy()
    theirs = trajectory["states"][position]
    # 1000 steps of rounding in another order of operations; 1.7e-13 was measured.
    assert np.abs(ours - theirs).max() / theirs.std() < 1e-10


@pytest.mark.parametrize("size", [16, 30, 64])
def test_batch_equals_single_members(size):
    spec = TwoLayerQGSpec(size=size, step="24h", time_step=7200.0)
    solver = spec.build(dtype=torch.float64)
    start = random_start(spec, Noise(1), members=range(3), scale=50.0)
    together = solver.run(start, 20)
    alone = torch.cat([solver.run(start[i : i + 1], 20) for i in range(3)])
    assert torch.allclose(together, alone, rtol=0, atol=1e-12 * float(together.std()))


def test_inversion_returns_the_vorticity_of_its_streamfunction():
    spec = TwoLayerQGSpec(size=32)
    solver = spec.build(dtype=torch.float64)
    q = random_start(spec, Noise(2), members=[0], scale=10.0)
    q[:, 1] = q[:, 0].flip(-1)
    # The Nyquist columns of a real field have no sign of wave number; leave them out.
    qh = torch.fft.rfft2(q)
    qh[..., 16] = 0
    qh[..., 16, :] = 0
    q = torch.fft.irfft2(qh, s=(32, 32))
    psi = torch.fft.rfft2(solver.streamfunction(q))
    wave = 2 * np.pi / spec.domain_length
    kappa2 = (wave * torch.arange(17.0, dtype=torch.float64))[None] ** 2
    kappa2 = kappa2 + (wave * torch.fft.fftfreq(32, 1 / 32, dtype=torch.float64))[:, None] ** 2
    f1 = spec.deformation_radius**-2 / 1.25
    back1 = -kappa2 * psi[:, 0] + f1 * (psi[:, 1] - psi[:, 0])
    back2 = -kappa2 * psi[:, 1] + 0.25 * f1 * (psi[:, 0] - psi[:, 1])
    back = torch.fft.irfft2(torch.stack([back1, back2], dim=1), s=(32, 32))
    assert torch.allclose(back, q, rtol=0, atol=1e-12 * float(q.std()))


def test_single_wave_travels_at_the_rossby_phase_speed():
    """Without shear and drag one barotropic wave is an exact solution: c = -beta / kappa^2."""
    spec = TwoLayerQGSpec(size=32, time_step=3600.0, mean_wind=(0.0, 0.0), bottom_drag=0.0)
    solver = spec.build(dtype=torch.float64)
    wave = 2 * np.pi / spec.domain_length
    x = torch.arange(32, dtype=torch.float64) * spec.domain_length / 32
    mode = 4
    q = (1e-9 * torch.cos(mode * wave * x)).expand(1, 2, 32, 32).clone()
    n_steps = 400
    moved = solver.run(q, n_steps)
    speed = -spec.beta / (mode * wave) ** 2
    expected = 1e-9 * torch.cos(mode * wave * (x - speed * n_steps * 3600.0))
    # The Euler start costs (omega dt)^2 / 2 = 2.3e-6 of the amplitude once, with omega = beta / kappa.
    assert float((moved[0, 0, 0] - expected).abs().max()) < 5e-6 * 1e-9


def test_symmetry_of_reflection_in_y_holds():
    """q -> -q(-y) maps solutions to solutions."""
    spec = TwoLayerQGSpec(size=32, time_step=7200.0)
    solver = spec.build(dtype=torch.float64)
    q = solver.run(random_start(spec, Noise(3), members=[0], scale=100.0), 1)  # the filter empties the Nyquist modes
    mirrored = -q.flip(-2)
    first, second = solver.run(q, 50), solver.run(mirrored, 50)
    assert torch.allclose(-first.flip(-2), second, rtol=0, atol=1e-11 * float(first.std()))
