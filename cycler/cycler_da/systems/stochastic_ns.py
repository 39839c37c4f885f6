"""Two-dimensional vorticity on a torus, driven at four waves by white noise in time.

    dw + v . grad w dt = nu lap w dt - alpha w dt + eps dxi,     v = (-psi_y, psi_x),  lap psi = w  on [0, 2 pi)^2
    xi = W1 sin(6 x) + W2 cos(7 x) + W3 sin(5 (x + y)) + W4 cos(8 (x + y))            W1 ... W4 independent

Pseudo-spectral in flux form with 2/3 de-aliasing. Friction and viscosity are exact (integrating factor), advection is
fourth-order Runge-Kutta, the noise enters in kicks between its steps with half a kick at either end of a model step
(Strang), which is second order in law and exact in the limit of no advection up to the trapezoidal rule.

Budget. The noise feeds <w^2> at rate 2 eps^2 and friction takes 2 alpha <w^2>, so the stationary root mean square is
below eps / sqrt(alpha) = 3.16; viscosity lowers it further (`stationary_bound`).
Source: Chen et al. (2024), arXiv:2403.13724, and Chen et al. (2025), FlowDAS, arXiv:2501.16642, with nu = 1e-3,
alpha = .1, eps = 1, 128 x 128 points, first-order steps of 1e-4. Here 64 x 64 by default, larger steps of higher order.
Nothing has a unit; `unit` says which duration one time unit stands for (a convention of this project).
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

#: Time from rest to the climate, time units.
SPIN_UP = 50.0
#: The driven waves: wave numbers along x and y, and whether the pattern is a sine.
FORCED_WAVES = ((6, 0, True), (7, 0, False), (5, 5, True), (8, 8, False))


@register("system", "stochastic_ns")
@dataclass(frozen=True, kw_only=True)
class StochasticNSSpec(Spec):
    """Settings of the system; one model step is 0.1 time units by default."""

    size: int = 64
    viscosity: float = 1e-3
    friction: float = 0.1  # alpha
    forcing: float = 1.0  # eps
    time_step: float = 0.02  # time units; half of it for twice the size
    unit: str = "1h"  # what one time unit stands for
    step: str = "6min"  # one model step of the layout

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 2:
            raise ConfigError(
                f"system stochastic_ns: size is {self.size}; expected an even number of 32 or more, for the waves "
                "(8, 8) must lie within two thirds of the largest wave number"
            )
        if self.viscosity < 0 or self.friction < 0 or self.forcing < 0:
            raise ConfigError(
                f"system stochastic_ns: viscosity {self.viscosity}, friction {self.friction}, forcing {self.forcing}; "
                "all are 0 or more"
            )
        self.count()

    def count(self) -> tuple[int, float]:
        """Time steps in one model step, and its length in time units; raises ConfigError unless whole."""
        return count_time_steps(self.step, unit=self.unit, time_step=self.time_step, system="stochastic_ns")

    def physics(self) -> dict[str, Any]:
        """Options that decide climate and steps; the time step of the solver is none."""
        return options_without(self, "time_step")

    def layout(self) -> Layout:
        """Layout of the state: vorticity `(1, y, x)`."""
        variables = (Variable("vorticity", "1", "relative vorticity"),)
        return torus_layout("stochastic_ns", variables, size=self.size, step=self.step)

    def build(self, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> StochasticNS:
        """Build the solver."""
        return StochasticNS(self, dtype=dtype, device=device)

    def spun_up(
        self, noise: Noise, *, members: Sequence[int], years: float | None = None
    ) -> Float[Tensor, "member 1 y x"]:
        """States of the climate, float32: 50 time units from rest, ten times the memory 1 / (2 alpha).

        Raises ConfigError when years are given: the system has none.
        """
        refuse_years(years, system="stochastic_ns")
        solver = self.build()
        n_steps = math.ceil(SPIN_UP / self.count()[1])
        state = torch.zeros((len(members), *solver.layout.state_shape), dtype=solver.dtype)
        for i_step in range(n_steps):
            z = noise.normal("ns.spin_up", solver.noise_shape, members=members, step=i_step, dtype=solver.dtype)
            state = solver.driven_step(state, z)
        return state

    def stationary_bound(self) -> float:
        """An upper bound of the root mean square of w in the stationary state.

        With E = <v^2> / 2 and Z = <w^2> / 2 the budgets are  2 alpha E + 2 nu Z = e,  2 alpha Z + nu <|grad w|^2> = z,
        e and z the input by noise, and <|grad w|^2> >= 2 Z^2 / E (Cauchy-Schwarz). E from the first in the second gives
        a quadratic inequality for Z.
        """
        square = [float(k**2 + l**2) for k, l, _ in FORCED_WAVES]
        energy_in = 0.25 * self.forcing**2 * sum(1.0 / kappa2 for kappa2 in square)
        enstrophy_in = 0.25 * self.forcing**2 * len(square)
        alpha, nu = self.friction, self.viscosity
        # (2 alpha Z - z)(e - 2 nu Z) + 4 alpha nu Z^2 <= 0, whose quadratic terms cancel.
        return math.sqrt(2.0 * enstrophy_in * energy_in / (2.0 * alpha * energy_in + 2.0 * nu * enstrophy_in))


class StochasticNS:
    """Batched solver; states are vorticity `(batch, 1, y, x)`."""

    def __init__(self, spec: StochasticNSSpec, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.spec, self.dtype, self.device = spec, dtype, device
        self.layout = spec.layout()
        self.n_time_steps, _ = spec.count()
        n = spec.size
        k = torch.arange(n // 2 + 1, dtype=torch.float64).expand(n, -1)
        l = torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)[:, None].expand(-1, n // 2 + 1)
        square = k**2 + l**2
        kept = (k < n / 3) & (l.abs() < n / 3)
        inverse = torch.where(square > 0, -1.0 / square.clamp(min=1.0), 0.0)
        decay = torch.exp(-0.5 * spec.time_step * (spec.viscosity * square + spec.friction))
        cplx = torch.complex64 if dtype == torch.float32 else torch.complex128
        self._slopes = torch.stack([1j * k * kept, 1j * l * kept]).to(device, cplx)  # of the flux, de-aliased
        self._velocity = torch.stack([-1j * l * inverse * kept, 1j * k * inverse * kept]).to(device, cplx)
        self._kept = kept.to(dtype).to(device)
        self._half = decay.to(dtype).to(device)  # over half a time step
        self._waves = self._patterns(spec).to(dtype).to(device)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Kicks in one model step and driven waves."""
        return self.n_time_steps + 1, len(FORCED_WAVES)

    def step(self, x: Float[Tensor, "batch 1 y x"]) -> Float[Tensor, "batch 1 y x"]:
        """Advance by one `layout.step` without noise."""
        return self.driven_step(x, x.new_zeros((len(x), *self.noise_shape)))

    def driven_step(
        self, x: Float[Tensor, "batch 1 y x"], z: Float[Tensor, "batch kick wave"]
    ) -> Float[Tensor, "batch 1 y x"]:
        """Advance by one `layout.step` under the noise that standard normal z stands for."""
        kicks = self.kicks(z.to(x.device))
        state = torch.fft.rfft2(x.to(self.dtype)[:, 0] + kicks[:, 0])
        for i_step in range(self.n_time_steps):
            state = self._advance(state) + torch.fft.rfft2(kicks[:, i_step + 1])
        return torch.fft.irfft2(state, s=x.shape[-2:])[:, None].to(x.dtype)

    def kicks(self, z: Float[Tensor, "batch kick wave"]) -> Float[Tensor, "batch kick y x"]:
        """Increments of vorticity: the first and the last have half the variance of the others."""
        size = torch.full((z.shape[1],), self.spec.forcing * self.spec.time_step**0.5, dtype=self.dtype)
        size[0] = size[-1] = size[0] / 2**0.5
        return torch.einsum("bqw,q,wyx->bqyx", z.to(self.dtype), size.to(z.device), self._waves)

    def velocity(self, x: Float[Tensor, "batch 1 y x"]) -> Float[Tensor, "batch 2 y x"]:
        """Velocity along x and y, without mean."""
        return torch.fft.irfft2(self._velocity * torch.fft.rfft2(x.to(self.dtype)), s=x.shape[-2:])

    def _advance(self, state: Complex[Tensor, "batch y k"]) -> Complex[Tensor, "batch y k"]:
        """One time step."""
        return integrating_factor_step(self._advection, state, half=self._half, h=self.spec.time_step)

    def _advection(self, state: Complex[Tensor, "batch y k"]) -> Complex[Tensor, "batch y k"]:
        size = (self.spec.size, self.spec.size)
        fields = torch.cat([self._velocity * state[:, None], (self._kept * state)[:, None]], dim=1)
        u, v, w = torch.fft.irfft2(fields, s=size).unbind(dim=1)
        flux = torch.fft.rfft2(torch.stack([u * w, v * w], dim=1))
        return -(self._slopes * flux).sum(dim=1)

    def _patterns(self, spec: StochasticNSSpec) -> Tensor:
        along = 2.0 * math.pi / spec.size * torch.arange(spec.size, dtype=torch.float64)
        y, x = torch.meshgrid(along, along, indexing="ij")
        return torch.stack(
            [torch.sin(k * x + l * y) if sine else torch.cos(k * x + l * y) for k, l, sine in FORCED_WAVES]
        )
