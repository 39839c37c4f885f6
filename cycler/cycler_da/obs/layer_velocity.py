"""Velocity of a layer of two-layer quasi-geostrophic flow, from the potential vorticities of both.

    q1 = lap psi1 + F1 (psi2 - psi1),   q2 = lap psi2 + F2 (psi1 - psi2),   u = -psi_y,   v = psi_x
    F1 = rd^-2 / (1 + delta),   F2 = delta F1

is a 2 x 2 system for each wave; an observation is the component in the layer of its variable (q1: upper), interpolated
linearly to its position. Linear, with the exact transpose.

    qg_velocity             H(x) in m s-1
    qg_velocity_published   the operator "vorticity to velocity" of SOAD, arXiv:2407.21314, as its code has it: the same
                            inversion applied to potential vorticities that were divided by their deviations layer by
                            layer, and divided by constants. Its correlation with the velocity is about -0.1, for the
                            lower layer counts eight times too much: a linear operator that is not local, no velocity.

Limits: periodic in both axes; layers as deep and as far apart as the options say (defaults of pyqg, as the system
two_layer_qg); waves at the Nyquist number, whose derivative has no sign, carry no velocity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Layout
from cycler_da.obs.base import Locations
from cycler_da.obs.points import PointOperator, linear_stencil
from cycler_da.registry import Spec, register

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex, Float
    from torch import Tensor

COMPONENTS = ("x", "y")
#: Constants by which the published operator divides (u1, u2), (v1, v2).
PUBLISHED = {"x": (1.2e4, 1.6e4), "y": (1.1e4, 1.6e4)}


@register("operator", "qg_velocity")
@dataclass(frozen=True, kw_only=True)
class LayerVelocitySpec(Spec):
    """Component of the velocity and the layers."""

    component: str = "x"
    deformation_radius: float = 15.0e3  # m
    depth_ratio: float = 0.25  # H1 / H2

    def __post_init__(self) -> None:
        _require_component("qg_velocity", self.component)

    def build(self, layout: Layout) -> LayerVelocity:
        """Make the operator; raises LayoutMismatch for anything but two layers on a torus."""
        matrix = _inversion(layout, self.component, self.deformation_radius, self.depth_ratio)
        return LayerVelocity("qg_velocity", matrix, PointOperator("points", linear_stencil))


@register("operator", "qg_velocity_published")
@dataclass(frozen=True, kw_only=True)
class PublishedVelocitySpec(Spec):
    """Component and the deviations by which the layers are divided."""

    component: str = "x"
    std: tuple[float, float] = (8.2e-6, 1.06e-6)  # s-1, of q1 and q2

    def __post_init__(self) -> None:
        _require_component("qg_velocity_published", self.component)
        if len(self.std) != 2 or not all(value > 0 for value in self.std):
            raise ConfigError(f"operator qg_velocity_published: std is {self.std}; expected two positive numbers")

    def build(self, layout: Layout) -> LayerVelocity:
        """Make the operator; raises LayoutMismatch for anything but two layers on a torus."""
        matrix = _inversion(layout, self.component, 15.0e3, 0.25)
        rows, columns = (torch.tensor(x, dtype=torch.float64) for x in (PUBLISHED[self.component], self.std))
        scaled = matrix / rows[:, None, None, None] / columns[None, :, None, None]
        return LayerVelocity("qg_velocity_published", scaled, PointOperator("points", linear_stencil))


@dataclass(frozen=True)
class LayerVelocity:
    """H and its transpose; `matrix` takes waves of both vorticities to those of the velocity of each layer."""

    name: str
    matrix: Complex[Tensor, "layer layer y k"]
    points: PointOperator
    is_linear: bool = True

    def __call__(self, x: Float[Tensor, "batch 2 y x"], where: Locations, layout: Layout) -> Float[Tensor, "batch obs"]:
        """The component at the positions; dtype and device follow x."""
        return self.points(self._apply(x, self.matrix), where, layout)

    def adjoint(self, v: Float[Tensor, "batch obs"], where: Locations, layout: Layout) -> Float[Tensor, "batch 2 y x"]:
        """Transpose H^T v."""
        return self._apply(self.points.adjoint(v, where, layout), self.matrix.conj().transpose(0, 1))

    def covers(self, where: Locations, layout: Layout) -> Bool[Tensor, "obs"]:
        """True everywhere on a torus."""
        return self.points.covers(where, layout)

    def _apply(self, x: Tensor, matrix: Tensor) -> Tensor:
        waves = torch.fft.rfft2(x)
        turned = (matrix.to(waves.device, waves.dtype) * waves[:, None]).sum(dim=2)  # einsum takes ten times as long
        return torch.fft.irfft2(turned, s=x.shape[-2:])


def _require_component(kind: str, component: str) -> None:
    if component not in COMPONENTS:
        raise ConfigError(f"operator {kind}: component is {component!r}; valid: {', '.join(COMPONENTS)}")


def _inversion(layout: Layout, component: str, radius: float, depth_ratio: float) -> Complex[Tensor, "layer layer y k"]:
    axes = layout.grid.axes
    is_layered = len(axes) == 2 and all(axis.periodic for axis in axes) and layout.channels == ("q1", "q2")
    if not is_layered or layout.system != "two_layer_qg":
        raise LayoutMismatch(
            f"operator qg_velocity: {layout.system} has the variables {', '.join(layout.channels)} on "
            f"{', '.join(layout.grid.names)}; expected q1 and q2 of two_layer_qg on two periodic axes"
        )
    y, x = axes
    l = 2.0 * math.pi * torch.fft.fftfreq(y.size, y.spacing, dtype=torch.float64)[:, None]
    k = 2.0 * math.pi * torch.fft.rfftfreq(x.size, x.spacing, dtype=torch.float64)[None, :]
    square = k**2 + l**2
    f1 = radius**-2 / (1.0 + depth_ratio)
    f2 = depth_ratio * f1
    det = square * (square + f1 + f2)
    factor = torch.where(det > 0, -1.0 / torch.where(det > 0, det, 1.0), 0.0)
    rows = [[square + f2, torch.full_like(square, f1)], [torch.full_like(square, f2), square + f1]]
    inversion = factor * torch.stack([torch.stack(row) for row in rows])
    slope = (-l if component == "x" else k).expand_as(square).clone()
    if component == "x" and y.size % 2 == 0:
        slope[y.size // 2] = 0.0
    if component == "y" and x.size % 2 == 0:
        slope[:, x.size // 2] = 0.0
    return 1j * slope * inversion
