"""Two-layer quasi-geostrophic turbulence on a doubly periodic square, anomalies about a mean shear.

    q1 = lap psi1 + F1 (psi2 - psi1),   q2 = lap psi2 + F2 (psi1 - psi2),   u = -psi_y,  v = psi_x
    dq_j/dt = -J(psi_j, q_j) - beta_j dpsi_j/dx - U_j dq_j/dx - [j = 2] r_ek lap psi_2 + ssd

with F1 = rd^-2 / (1 + delta), F2 = delta F1, beta1 = beta + F1 (U1 - U2), beta2 = beta - F2 (U1 - U2).
The small-scale dissipation `ssd` is an exponential cut-off filter applied after every step, so the climate
depends on the time step: keep it fixed. Products are formed on the grid in flux form, without 2/3
de-aliasing; time stepping is third-order Adams-Bashforth, started with Euler and second order.

Equations and numerics follow pyqg and its port pyqg-jax (Abernathey et al. 2022; Otness et al. 2023), with
which this solver agrees step by step (tests/exact/test_qg_equals_pyqg.py). Known limit: every call of
`step` starts Adams-Bashforth anew, which costs 0.0006 standard deviations after ten days at 64 x 64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register
from cycler_da.systems.physics import options_without
from cycler_da.times import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Complex, Float
    from torch import Tensor

#: Time step that keeps the CFL number near 0.1, for each grid size (s).
STABLE_TIME_STEP = {32: 14400.0, 64: 7200.0, 128: 3600.0, 256: 1800.0, 512: 900.0}


@register("system", "two_layer_qg")
@dataclass(frozen=True, kw_only=True)
class TwoLayerQGSpec(Spec):
    """Settings of the system; the defaults are pyqg's eddy configuration."""

    size: int = 64
    domain_length: float = 1.0e6  # m
    time_step: float | None = None  # s; None: STABLE_TIME_STEP of the size
    step: str = "24h"  # one model step of the layout
    beta: float = 1.5e-11  # m-1 s-1
    deformation_radius: float = 15.0e3  # m
    depth_ratio: float = 0.25  # H1 / H2
    mean_wind: tuple[float, float] = (0.025, 0.0)  # m s-1, upper and lower layer
    bottom_drag: float = 5.787e-7  # s-1
    filter_factor: float = 23.6

    def __post_init__(self) -> None:
        if self.size < 4 or self.size % 2:
            raise ConfigError(f"two_layer_qg size must be an even number of at least 4, got {self.size}")
        seconds = parse_duration(self.step) / np.timedelta64(1, "s")
        if abs(seconds / self.seconds_per_step - round(seconds / self.seconds_per_step)) > 1e-9:
            raise ConfigError(
                f"two_layer_qg step {self.step} is not a whole number of time steps of {self.seconds_per_step} s"
            )

    @property
    def seconds_per_step(self) -> float:
        """Time step of the solver (s)."""
        if self.time_step is not None:
            return self.time_step
        return STABLE_TIME_STEP.get(self.size, 7200.0 * 64 / self.size)

    def physics(self) -> dict[str, Any]:
        """Options that decide climate and steps; the time step is one, for the cut-off filter acts once in each."""
        return {**options_without(self), "time_step": self.seconds_per_step}

    def layout(self) -> Layout:
        """Layout of the state: potential vorticity anomalies q1, q2 in s-1."""
        spacing = self.domain_length / self.size
        axes = tuple(Axis(name, self.size, spacing, 0.5 * spacing, "m", periodic=True) for name in ("y", "x"))
        variables = tuple(
            Variable(f"q{k}", "s-1", f"quasi-geostrophic potential vorticity anomaly, layer {k}") for k in (1, 2)
        )
        return Layout("two_layer_qg", variables, Grid(axes), parse_duration(self.step))

    def build(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> TwoLayerQG:
        """Build the solver."""
        return TwoLayerQG(self, dtype=dtype, device=device)

    def spun_up(
        self, noise: Noise, *, members: Sequence[int], years: float | None = None
    ) -> Float[Tensor, "member 2 y x"]:
        """States of the climate, float32, after two years of 365 days unless told otherwise."""
        return spin_up(self.build(), noise, members=members, years=2.0 if years is None else years)


class TwoLayerQG:
    """Batched pseudo-spectral solver; states are `(batch, 2, y, x)` in s-1."""

    def __init__(self, spec: TwoLayerQGSpec, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.spec = spec
        self.layout = spec.layout()
        n = spec.size
        wave = 2.0 * math.pi / spec.domain_length
        k = (wave * torch.arange(n // 2 + 1, dtype=torch.float64))[None, :]
        l = (wave * torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64))[:, None]
        kappa2 = k**2 + l**2
        inversion, beta = _inversion(spec, kappa2), _mean_gradients(spec)
        kappa_dx = torch.sqrt(kappa2) * spec.domain_length / n
        cutoff = 0.65 * math.pi
        damping = torch.exp(-spec.filter_factor * (kappa_dx - cutoff).clamp(min=0.0) ** 4)
        real, cplx = dtype, torch.complex64 if dtype == torch.float32 else torch.complex128

        def put(value: Tensor, kind: torch.dtype) -> Tensor:
            return value.to(kind).to(device)

        self._inversion = put(inversion, real)  # (2, 2, y, k)
        self._ik = put(1j * k.expand(n, -1), cplx)
        self._il = put(1j * l.expand(-1, n // 2 + 1), cplx)
        self._ik_beta = put(1j * k[None] * beta[:, None, None].expand(-1, n, 1), cplx)
        drag = torch.zeros(2, n, n // 2 + 1, dtype=torch.float64)
        drag[1] = spec.bottom_drag * kappa2
        self._drag = put(drag, real)
        self._filter = put(damping, real)
        self._wind = put(torch.tensor(spec.mean_wind, dtype=torch.float64)[:, None, None], real)

    def streamfunction(self, q: Float[Tensor, "batch 2 y x"]) -> Float[Tensor, "batch 2 y x"]:
        """Invert potential vorticity to the streamfunction (m2 s-1, zero mean)."""
        return torch.fft.irfft2(self._invert(torch.fft.rfft2(q)), s=q.shape[-2:])

    def velocity(self, q: Float[Tensor, "batch 2 y x"]) -> tuple[Tensor, Tensor]:
        """Eddy velocity (u, v) in m s-1, each `(batch, 2, y, x)`."""
        psi = self._invert(torch.fft.rfft2(q))
        u = torch.fft.irfft2(-self._il * psi, s=q.shape[-2:])
        return u, torch.fft.irfft2(self._ik * psi, s=q.shape[-2:])

    def step(self, x: Float[Tensor, "batch 2 y x"]) -> Float[Tensor, "batch 2 y x"]:
        """Advance by one `layout.step`."""
        n_steps = round(self.layout.step / np.timedelta64(1, "s") / self.spec.seconds_per_step)
        return self.run(x, n_steps)

    def run(self, x: Float[Tensor, "batch 2 y x"], n_steps: int) -> Float[Tensor, "batch 2 y x"]:
        """Advance by `n_steps` solver steps, Adams-Bashforth started anew."""
        qh = torch.fft.rfft2(x)
        qh, _ = self.run_spectral(qh, n_steps, ())
        return torch.fft.irfft2(qh, s=x.shape[-2:])

    def run_spectral(
        self, qh: Complex[Tensor, "batch 2 y k"], n_steps: int, memory: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Advance Fourier coefficients; `memory` holds up to two earlier tendencies, newest first."""
        dt = self.spec.seconds_per_step
        past = tuple(memory)
        for _ in range(n_steps):
            now = self._tendency(qh)
            if len(past) == 0:
                change = now
            elif len(past) == 1:
                change = 1.5 * now - 0.5 * past[0]
            else:
                change = (23.0 * now - 16.0 * past[0] + 5.0 * past[1]) / 12.0
            qh = self._filter * (qh + dt * change)
            past = (now, *past[:1])
        return qh, past

    def _invert(self, qh: Tensor) -> Tensor:
        return torch.stack(
            [
                self._inversion[0, 0] * qh[..., 0, :, :] + self._inversion[0, 1] * qh[..., 1, :, :],
                self._inversion[1, 0] * qh[..., 0, :, :] + self._inversion[1, 1] * qh[..., 1, :, :],
            ],
            dim=-3,
        )

    def _tendency(self, qh: Tensor) -> Tensor:
        size = (self.spec.size, self.spec.size)
        psi = self._invert(qh)
        q, u, v = torch.fft.irfft2(torch.stack([qh, -self._il * psi, self._ik * psi]), s=size)
        fluxes = torch.fft.rfft2(torch.stack([(u + self._wind) * q, v * q]))
        advection = self._ik * fluxes[0] + self._il * fluxes[1]
        return self._drag * psi - advection - self._ik_beta * psi


def random_start(spec: TwoLayerQGSpec, noise: Noise, *, members: Sequence[int], scale: float = 1.0) -> Tensor:
    """Draw small random states, `(member, 2, y, x)` float64 in s-1, from which turbulence grows.

    As in pyqg: q1 = 1e-7 U(0,1) at each point + 1e-6 U(0,1) for each column, q2 = 0; times `scale`
    (100 saves about two model years of exponential growth).
    """
    n = spec.size
    states = np.zeros((len(members), 2, n, n))
    for position, member in enumerate(members):
        generator = noise.generator("qg.start", member=member)
        states[position, 0] = 1e-7 * generator.random((n, n)) + 1e-6 * generator.random((1, n))
    states -= states.mean(axis=(-2, -1), keepdims=True)
    return scale * torch.from_numpy(states)


def spin_up(
    solver: TwoLayerQG, noise: Noise, *, members: Sequence[int], years: float = 4.0, scale: float = 100.0
) -> Float[Tensor, "member 2 y x"]:
    """Run from random starts to statistical equilibrium (years of 365 days; see STABLE_TIME_STEP).

    With `scale` 100 the flow saturates after about one year and drifts no more after two.
    """
    start = random_start(solver.spec, noise, members=members, scale=scale).to(solver._filter.dtype)
    n_steps = round(years * 365 * 86400 / solver.spec.seconds_per_step)
    qh, _ = solver.run_spectral(torch.fft.rfft2(start.to(solver._filter.device)), n_steps, ())
    return torch.fft.irfft2(qh, s=(solver.spec.size, solver.spec.size))


def _inversion(spec: TwoLayerQGSpec, kappa2: Tensor) -> Tensor:
    f1 = spec.deformation_radius**-2 / (1.0 + spec.depth_ratio)
    f2 = spec.depth_ratio * f1
    det = kappa2 * (kappa2 + f1 + f2)
    safe = torch.where(det == 0, torch.ones_like(det), det)
    full = torch.stack(
        [
            torch.stack([-(kappa2 + f2), torch.full_like(kappa2, -f1)]),
            torch.stack([torch.full_like(kappa2, -f2), -(kappa2 + f1)]),
        ]
    )
    return torch.where(det == 0, torch.zeros_like(full), full / safe)


def _mean_gradients(spec: TwoLayerQGSpec) -> Tensor:
    f1 = spec.deformation_radius**-2 / (1.0 + spec.depth_ratio)
    shear = spec.mean_wind[0] - spec.mean_wind[1]
    return torch.tensor([spec.beta + f1 * shear, spec.beta - spec.depth_ratio * f1 * shear], dtype=torch.float64)
