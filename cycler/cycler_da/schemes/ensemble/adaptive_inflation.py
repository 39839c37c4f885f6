"""Adaptive inflation: a factor for every grid point, estimated from innovations and carried from cycle to cycle.

The factor f multiplies background anomalies, alpha = f^2 their variance. With rho_i the tapers of the observations
near a grid point, d_i their innovations, r_i error variances, s_i^2 the variance of H(x_b) before inflation,
q_i = s_i^2 / r_i, and (alpha_b, v_b) what is known so far, a cycle estimates and updates

    alpha_o = sum rho (d^2 / r - 1) / sum rho q                 since E d^2 = alpha s^2 + r
    v_o     = 2 sum rho^2 (alpha_b q + 1)^2 / (sum rho q)^2     the variance of alpha_o for Gaussian innovations
    alpha_a = (v_o alpha_b + v_b alpha_o) / (v_o + v_b),        v_a = v_o v_b / (v_o + v_b)

Sources: the estimate, Li, Kalnay and Miyoshi (2009), Q. J. R. Meteorol. Soc. 135, 523-533, eq. 4; local, with its
variance and the Gaussian update, Miyoshi (2011), Mon. Wea. Rev. 139, 1519-1535, eqs. 10-13. Departures: there v_b
is the same in every cycle; here it shrinks from `start_std` to `std`, as in Anderson (2009), Tellus 61A, so that a
wrong start is left quickly and the steady state stays as calm. There v_o takes all rho for one in its sum.

A cycle's analysis uses the factors that were carried to it; its own innovations set those of the next, so that no
observation has a say in its own weight. Where nothing is observed the factor stays.
Limits: all of the mismatch is blamed on the spread. Wrong R, biased observations or observation errors correlated in
space end in the factor too. Innovations are taken as independent; those of correlated background errors are not,
and a factor then follows single cycles more than v_o says. Look at `innovation_chi_square`: it tends to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Layout
from cycler_da.obs.base import Observations
from cycler_da.registry import Spec
from cycler_da.schemes.ensemble.localization import NeighbourSearch, grid_points, sort_into_cells

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

#: Names in `carry`.
FACTOR, STD = "inflation", "inflation_std"
#: Most pairs (grid point, observation) looked at at once; 8 arrays of them take 0.25 GB.
PAIRS_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True)
class AdaptiveInflationSpec(Spec):
    """Options; an empty block takes the defaults. Standard deviations are those of alpha, the factor on variances."""

    std: float = 0.04  # least uncertainty of the estimate
    start_std: float = 0.5  # uncertainty of the factor the first cycle starts from
    lower: float = 1.0  # bounds of the factor on anomalies
    upper: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.std <= self.start_std:
            raise ConfigError(
                f"adaptive_inflation: std is {self.std}, start_std {self.start_std}; expected 0 < std <= start_std"
            )
        if not 0 < self.lower <= self.upper:
            raise ConfigError(
                f"adaptive_inflation: lower is {self.lower}, upper {self.upper}; expected 0 < lower <= upper"
            )


@dataclass(frozen=True)
class InflationField:
    """What is known of the inflation; `field` is one for all variables, or one for each."""

    factor: Float[Tensor, "field *space"]  # on anomalies, float64
    std: Float[Tensor, "field *space"]  # of alpha, float64

    def carried(self) -> dict[str, Tensor]:
        """For the scheme's `carry`."""
        return {FACTOR: self.factor, STD: self.std}

    def diagnostics(self) -> dict[str, float]:
        """Mean, smallest and largest factor."""
        return {
            "inflation_mean": float(self.factor.mean()),
            "inflation_smallest": float(self.factor.min()),
            "inflation_largest": float(self.factor.max()),
        }


@dataclass(frozen=True)
class Innovations:
    """What a window says about the spread; all float64, one value for each observation."""

    innovation: Float[Tensor, "obs"]  # d = y - mean of H(x_b)
    spread_variance: Float[Tensor, "obs"]  # of H(x_b), not inflated
    error_variance: Float[Tensor, "obs"]
    positions: Float[Tensor, "obs axis"]  # axis units
    channels: Int[Tensor, "obs"]

    @staticmethod
    def of(
        hx: Float[Tensor, "member obs"], observations: Observations, error_variance: Float[Tensor, "obs"] | None = None
    ) -> Innovations:
        """From the members' equivalents of the observations, on the CPU.

        `error_variance` stands for R where the members have only a part of the background's variance.
        """
        hx = hx.to("cpu", torch.float64)
        return Innovations(
            innovation=observations.values.cpu() - hx.mean(dim=0),
            spread_variance=hx.var(dim=0),
            error_variance=(observations.error_variance if error_variance is None else error_variance).cpu(),
            positions=observations.positions.cpu(),
            channels=observations.channels.cpu(),
        )


def read_inflation(
    carry: Mapping[str, Tensor], settings: AdaptiveInflationSpec, *, start: float, layout: Layout, n_fields: int = 1
) -> InflationField:
    """Take the inflation out of `carry`, or start it everywhere from the factor `start`, within the bounds.

    `n_fields` is 1 for one factor for all variables, or the number of variables. Raises LayoutMismatch when what is
    carried has another shape.
    """
    shape = (n_fields, *layout.grid.shape)
    if FACTOR not in carry or STD not in carry:
        factor = torch.full(shape, start, dtype=torch.float64).clamp(settings.lower, settings.upper)
        return InflationField(factor, torch.full_like(factor, settings.start_std))
    for name in (FACTOR, STD):
        if tuple(carry[name].shape) != shape:
            raise LayoutMismatch(
                f"adaptive inflation: the carried field {name} has shape {tuple(carry[name].shape)}, expected {shape}; "
                "it was left by a scheme with other settings or another grid"
            )
    return InflationField(carry[FACTOR].to(torch.float64), carry[STD].to(torch.float64))


def update_inflation(
    inflation: InflationField,
    innovations: Innovations,
    settings: AdaptiveInflationSpec,
    *,
    layout: Layout,
    radius: float | None,
    cross_channel: float = 1.0,
) -> InflationField:
    """Update every grid point by the innovations near it; points that no observation reaches keep their bits.

    `radius` is the Gaspari-Cohn half-width in axis units, None for one estimate from all observations.
    `cross_channel` is the taper between an observation and the factor of another variable, where each has its own.
    """
    factor, std = inflation.factor.flatten(1), inflation.std.flatten(1)
    excess, weight, size = _local_sums(
        innovations, factor**2, layout=layout, radius=radius, cross_channel=cross_channel
    )
    # With alpha_o = alpha_b + excess / weight and v_o = 2 size / weight^2, but free of a division by weight.
    known = std**2
    total = known * weight**2 + 2 * size
    is_seen = size > 0
    safe = torch.where(is_seen, total, 1.0)
    alpha = (factor**2 + known * weight * excess / safe).clamp(settings.lower**2, settings.upper**2)
    narrowed = (known * 2 * size / safe).sqrt().clamp_min(settings.std)
    return InflationField(
        torch.where(is_seen, alpha.sqrt(), factor).view_as(inflation.factor),
        torch.where(is_seen, narrowed, std).view_as(inflation.std),
    )


def _local_sums(
    innovations: Innovations, alpha: Tensor, *, layout: Layout, radius: float | None, cross_channel: float
) -> tuple[Tensor, Tensor, Tensor]:
    """For each field and point: sum rho (d^2 / r - alpha q - 1), sum rho q, and sum rho^2 (alpha q + 1)^2."""
    q = innovations.spread_variance / innovations.error_variance
    surplus = innovations.innovation**2 / innovations.error_variance - 1
    share = _shares(innovations, len(alpha), cross_channel)
    linear = torch.stack([share * surplus, share * q], dim=2).permute(1, 0, 2).flatten(1)
    square = torch.stack([share**2, share**2 * q, share**2 * q**2], dim=2).permute(1, 0, 2).flatten(1)
    if radius is None:
        first, second = linear.sum(dim=0, keepdim=True), square.sum(dim=0, keepdim=True)
    else:
        search = sort_into_cells(innovations.positions, axes=layout.grid.axes, half_width=radius)
        first, second = _taper_sums(search, grid_points(layout.grid.axes), linear, square)
    a, weight = first.view(-1, len(alpha), 2).permute(2, 1, 0)
    c0, c1, c2 = second.view(-1, len(alpha), 3).permute(2, 1, 0)
    return a - alpha * weight, weight.expand_as(alpha), c0 + 2 * alpha * c1 + alpha**2 * c2


def _shares(innovations: Innovations, n_fields: int, cross_channel: float) -> Tensor:
    """Part of the taper that does not depend on distance, `(field, obs)`."""
    if n_fields == 1:
        return torch.ones_like(innovations.innovation)[None]
    is_own = innovations.channels == torch.arange(n_fields, device=innovations.channels.device)[:, None]
    return torch.where(is_own, 1.0, cross_channel).to(torch.float64)


def _taper_sums(search: NeighbourSearch, points: Tensor, linear: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the observations near each point, of `linear` with weight rho and of `square` with rho^2."""
    first, second = [], []
    for some in points.split(max(1, PAIRS_AT_ONCE // max(1, search.most_candidates))):
        near = search.near(some)
        first.append((near.taper[:, None, :] @ linear[near.index])[:, 0])
        second.append(((near.taper**2)[:, None, :] @ square[near.index])[:, 0])
    return torch.cat(first), torch.cat(second)
