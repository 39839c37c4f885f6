"""Kolmogorov flow: two-dimensional turbulence on a torus, forced by a steady shear and held back by linear drag.

    du/dt = P[ u x w + f ] + nu lap u - alpha u,     div u = 0,   w = dv/dx - du/dy,   on [0, 2 pi)^2
    f = (F sin(m y), 0),   nu = 1 / Re;              P removes the gradient part, u x w = (v w, -u w)

The state is the velocity (u along x, v along y), as it is observed; a gradient part of it is taken away at the start
of a step. Pseudo-spectral in rotational form with 2/3 de-aliasing, which keeps energy and enstrophy exactly; drag and
viscosity are exact, the rest is fourth-order Runge-Kutta (systems/integrating_factor.py). The mean flow obeys drag
alone, for the forcing and the advection have no mean.

Budgets, with E = <|u|^2> / 2, Z = <w^2> / 2, G = <|grad w|^2> / 2:
    dE/dt = <u . f> - 2 alpha E - 2 nu Z,            dZ/dt = <w curl f> - 2 alpha Z - 2 nu G
The laminar flow u = F / (alpha + m^2 nu) sin(m y) is steady, and far from stable at the defaults.
Source: the setting (F = 1, m = 4, alpha = 0.1, Re 1000 to 2000, outputs every 0.2) is that of Kochkov et al. (2021),
Proc. Natl. Acad. Sci. 118, e2101784118, and of MASF, arXiv:2604.02889, which use second-order finite volumes with a
slope limiter on 64^2 to 512^2 points. Limits: at Re 1000 and 64 points the smallest eddies are not resolved (the
spectrum ends at wave number 21, viscosity takes the enstrophy near 33), so that climates of different sizes differ in
enstrophy. Nothing has a unit; `unit` says which duration one time unit stands for (a convention of this project).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cycler_da.errors import ConfigError
from cycler_da.layout import Layout, Variable
from cycler_da.noise import Noise
from cycler_da.registry import Spec, register
from cycler_da.systems.integrating_factor import integrating_factor_step
from cycler_da.systems.physics import options_without
from cycler_da.systems.runge_kutta import count_time_steps
from cycler_da.systems.torus import refuse_years, torus_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Complex, Float
    from torch import Tensor

#: Time from random eddies to the climate, time units: five times the memory of the energy, 1 / (2 alpha).
SPIN_UP = 25.0
#: Start of the spin-up: wave numbers up to this one, root mean square velocity.
START_WAVES, START_SPEED = 8, 1.0
VARIABLES = (
    Variable("u", "1", "velocity along x"),
    Variable("v", "1", "velocity along y"),
)


@register("system", "kolmogorov")
@dataclass(frozen=True, kw_only=True)
class KolmogorovSpec(Spec):
    """Settings of the system; one model step is 0.2 time units by default."""

    size: int = 64
    reynolds: float = 1000.0  # 1 / nu
    drag: float = 0.1  # alpha
    forcing: float = 1.0  # F
    forced_wave: int = 4  # m
    time_step: float | None = None  # time units; None: 0.02 at 64 points, less in proportion for more
    unit: str = "1h"  # what one time unit stands for
    step: str = "12min"  # one model step of the layout

    def __post_init__(self) -> None:
        if self.size < 8 or self.size % 2:
            raise ConfigError(f"system kolmogorov: size is {self.size}; expected an even number of 8 or more")
        if not 1 <= self.forced_wave < self.size / 3:
            raise ConfigError(
                f"system kolmogorov: forced_wave is {self.forced_wave}; expected 1 or more, and below a third of the "
                f"size ({self.size})"
            )
        if not self.reynolds > 0 or self.drag < 0 or self.forcing < 0:
            raise ConfigError(
                f"system kolmogorov: reynolds {self.reynolds}, drag {self.drag}, forcing {self.forcing}; expected "
                "reynolds above 0 (inf: no viscosity), the others 0 or more"
            )
        self.count()

    @property
    def seconds_per_step(self) -> float:
        """Time step of the solver, time units."""
        return 0.02 * min(1.0, 64 / self.size) if self.time_step is None else self.time_step

    def count(self) -> tuple[int, float]:
        """Time steps in one model step, and its length in time units; raises ConfigError unless whole."""
        return count_time_steps(self.step, unit=self.unit, time_step=self.seconds_per_step, system="kolmogorov")

    def physics(self) -> dict[str, Any]:
        """Options that decide climate and steps; the time step of the solver is none."""
        return options_without(self, "time_step")

    def layout(self) -> Layout:
        """Layout of the state: velocity `(2, y, x)`."""
        return torus_layout("kolmogorov", VARIABLES, size=self.size, step=self.step)

    def build(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Kolmogorov:
        """Build the solver."""
        return Kolmogorov(self, dtype=dtype, device=device)

    def spun_up(
        self, noise: Noise, *, members: Sequence[int], years: float | None = None
    ) -> Float[Tensor, "member 2 y x"]:
        """States of the climate, float32: 25 time units from random large eddies.

        Raises ConfigError when years are given: the system has none.
        """
        refuse_years(years, system="kolmogorov")
        solver = self.build()
        state = solver.random_eddies(noise, members=members)
        return solver.run(state, math.ceil(SPIN_UP / self.seconds_per_step))


class Kolmogorov:
    """Batched solver; states are velocity `(batch, 2, y, x)`."""

    def __init__(self, spec: KolmogorovSpec, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.spec, self.dtype, self.device = spec, dtype, device
        self.layout = spec.layout()
        self.n_time_steps, _ = spec.count()
        n = spec.size
        k = torch.arange(n // 2 + 1, dtype=torch.float64).expand(n, -1)
        l = torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)[:, None].expand(-1, n // 2 + 1)
        square = k**2 + l**2
        kept = (k < n / 3) & (l.abs() < n / 3)
        wave = torch.stack([k, l])
        gradient = wave[:, None] * wave[None] / square.clamp(min=1.0)
        projection = (torch.eye(2, dtype=torch.float64)[:, :, None, None] - gradient) * kept
        decay = torch.exp(-0.5 * spec.seconds_per_step * (square / spec.reynolds + spec.drag))
        cplx = torch.complex64 if dtype == torch.float32 else torch.complex128
        self._wave = (1j * wave).to(device, cplx)
        self._projection = projection.to(dtype).to(device)
        self._half = decay.to(dtype).to(device)  # over half a time step
        self._square = square.to(dtype).to(device)
        self._forcing = torch.fft.rfft2(self.forcing())

    def forcing(self) -> Float[Tensor, "2 y x"]:
        """The force, (F sin(m y), 0)."""
        n, spec = self.spec.size, self.spec
        y = 2.0 * math.pi / n * torch.arange(n, dtype=torch.float64)
        along = (spec.forcing * torch.sin(spec.forced_wave * y))[:, None].expand(n, n)
        return torch.stack([along, torch.zeros_like(along)]).to(self.dtype).to(self.device)

    def step(self, x: Float[Tensor, "batch 2 y x"]) -> Float[Tensor, "batch 2 y x"]:
        """Advance by one `layout.step`."""
        return self.run(x, self.n_time_steps)

    def run(self, x: Float[Tensor, "batch 2 y x"], n_time_steps: int) -> Float[Tensor, "batch 2 y x"]:
        """Advance by a number of time steps of the solver."""
        state = self._project(torch.fft.rfft2(x.to(self.device, self.dtype)))
        for _ in range(n_time_steps):
            state = integrating_factor_step(self._tendency, state, half=self._half, h=self.spec.seconds_per_step)
        return torch.fft.irfft2(state, s=x.shape[-2:]).to(x.dtype)

    def vorticity(self, x: Float[Tensor, "batch 2 y x"]) -> Float[Tensor, "batch y x"]:
        """w = dv/dx - du/dy."""
        return torch.fft.irfft2(self._curl(torch.fft.rfft2(x.to(self.device, self.dtype))), s=x.shape[-2:])

    def random_eddies(self, noise: Noise, *, members: Sequence[int]) -> Float[Tensor, "member 2 y x"]:
        """Random velocity without divergence or mean, white up to wave number 8, of root mean square 1."""
        z = noise.normal("kolmogorov.start", self.layout.state_shape, members=members, dtype=torch.float64)
        waves = self._project(torch.fft.rfft2(z.to(self.device, self.dtype)))
        large = (self._square > 0) & (self._square <= START_WAVES**2)
        x = torch.fft.irfft2(waves * large, s=z.shape[-2:])
        speed = x.square().sum(dim=1, keepdim=True).mean(dim=(-2, -1), keepdim=True).sqrt()
        return START_SPEED * x / speed

    def _tendency(self, state: Complex[Tensor, "batch 2 y k"]) -> Complex[Tensor, "batch 2 y k"]:
        size = (self.spec.size, self.spec.size)
        fields = torch.fft.irfft2(torch.cat([state, self._curl(state)[:, None]], dim=1), s=size)
        u, v, w = fields.unbind(dim=1)
        return self._project(torch.fft.rfft2(torch.stack([v * w, -u * w], dim=1)) + self._forcing)

    def _curl(self, state: Complex[Tensor, "batch 2 y k"]) -> Complex[Tensor, "batch y k"]:
        return self._wave[0] * state[:, 1] - self._wave[1] * state[:, 0]

    def _project(self, waves: Complex[Tensor, "batch 2 y k"]) -> Complex[Tensor, "batch 2 y k"]:
        first = self._projection[:, 0] * waves[:, :1]
        return first + self._projection[:, 1] * waves[:, 1:]
