"""Velocity seen by particle images: one component, averaged over an interrogation window, from vorticity on a torus.

    u = -psi_y,  v = psi_x,  lap psi = w;     in Fourier space  (u, v)_k = (-i l, i k) / -(k^2 + l^2) w_k
    window mean  W_k = prod over axes of sin(n kappa d / 2) / (n sin(kappa d / 2))         n cells of width d
    H(w)_p = the window mean of the component, interpolated linearly to the position

Linear in w, differentiable, with the exact transpose (the conjugate factor). The mean velocity is not in w and counts
as zero. A stream observes one component: give two streams for both.
Source: the velocity observations of Chen et al. (2025), FlowDAS, arXiv:2501.16642, whose windows are those of particle
image velocimetry (Adrian 1991, Annu. Rev. Fluid Mech. 23); no correlation of images is simulated here.
Limits: the observed variable must be relative vorticity of two-dimensional flow (not a potential vorticity); waves at
the Nyquist number, whose derivative has no sign, carry no velocity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Axis, Layout
from cycler_da.obs.base import Locations
from cycler_da.obs.points import PointOperator, linear_stencil
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex, Float
    from torch import Tensor

COMPONENTS = ("x", "y")


@register("operator", "velocity")
@dataclass(frozen=True, kw_only=True)
class VelocitySpec(Spec):
    """Component of the velocity and the window's width in cells along each axis."""

    component: str = "x"
    window: int = 3

    def __post_init__(self) -> None:
        if self.component not in COMPONENTS:
            raise ConfigError(f"operator velocity: component is {self.component!r}; valid: {', '.join(COMPONENTS)}")
        if self.window < 1:
            raise ConfigError(f"operator velocity: window is {self.window} cells; expected 1 or more")

    def build(self, layout: Layout) -> Velocity:
        """Make the operator; raises LayoutMismatch unless the grid is a torus, ConfigError for layered flow."""
        axes = layout.grid.axes
        if len(axes) != 2 or not all(axis.periodic for axis in axes):
            raise LayoutMismatch(
                f"operator velocity: the grid of {layout.system} has axes {', '.join(layout.grid.names)}; expected two "
                "periodic ones, for the velocity is found in Fourier space"
            )
        if layout.system == "two_layer_qg":
            raise ConfigError(
                "operator velocity: the variables of two_layer_qg are potential vorticities of coupled layers, whose "
                "velocities need both; this operator takes relative vorticity"
            )
        points = PointOperator("points", linear_stencil)
        return Velocity(_factor(axes[0], axes[1], self.component, self.window), points)


@dataclass(frozen=True)
class Velocity:
    """H and its transpose."""

    factor: Complex[Tensor, "y k"]  # of the half plane of rfft2
    points: PointOperator
    name: str = "velocity"
    is_linear: bool = True

    def __call__(
        self, x: Float[Tensor, "batch channel y x"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch obs"]:
        """Window means at the positions; dtype and device follow x."""
        return self.points(self._filter(x, self.factor), where, layout)

    def adjoint(
        self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout
    ) -> Float[Tensor, "batch channel y x"]:
        """Transpose H^T v."""
        return self._filter(self.points.adjoint(v, where, layout), self.factor.conj())

    def covers(self, where: Locations, layout: Layout) -> Bool[Tensor, "obs"]:
        """True everywhere on a torus."""
        return self.points.covers(where, layout)

    def _filter(self, x: Tensor, factor: Tensor) -> Tensor:
        modes = torch.fft.rfft2(x)
        return torch.fft.irfft2(factor.to(modes.device, modes.dtype) * modes, s=x.shape[-2:])


def _factor(y: Axis, x: Axis, component: str, window: int) -> Complex[Tensor, "y k"]:
    l = 2.0 * math.pi * torch.fft.fftfreq(y.size, y.spacing, dtype=torch.float64)[:, None]
    k = 2.0 * math.pi * torch.fft.rfftfreq(x.size, x.spacing, dtype=torch.float64)[None, :]
    square = k**2 + l**2
    inverse = torch.where(square > 0, -1.0 / torch.where(square > 0, square, 1.0), 0.0)
    slope = (-l if component == "x" else k).expand_as(square).clone()
    # The derivative along an axis of even size has no sign at its Nyquist number.
    if component == "x" and y.size % 2 == 0:
        slope[y.size // 2] = 0.0
    if component == "y" and x.size % 2 == 0:
        slope[:, x.size // 2] = 0.0
    return 1j * slope * inverse * _mean(l * y.spacing, window) * _mean(k * x.spacing, window)


def _mean(phase: Float[Tensor, "*waves"], window: int) -> Float[Tensor, "*waves"]:
    """Factor of the mean over n cells: sin(n phase / 2) / (n sin(phase / 2)), 1 at phase 0."""
    sine = torch.sin(0.5 * phase)
    safe = torch.where(sine.abs() > 0, sine, 1.0)
    return torch.where(sine.abs() > 0, torch.sin(0.5 * window * phase) / (window * safe), 1.0)
