"""Statistical linearisation of curved observations: what of h is linear in the observed value counts as signal.

With s_i = P x_i what an operator sees of member i before its curve, and h_i = c(s_i), for each observation

    b = cov(h, s) / var(s),   h_i <- mean h + b (s_i - mean s),   R <- R + var(h - b s)          (N - 2 degrees)

An ensemble transform takes all of the anomalies of h for signal. Where the curve turns or saturates within the spread
most of them is none (1.5 sin(3 x) has a correlation of 0.03 with x ~ N(0, 1), arctan(3 x) 0.88), and with R far below
var(h) few members explain each observation by chance: the spread collapses around a wrong state. Here such an
observation weighs what it can tell, and more as the spread shrinks; linear ones stay as they are, to rounding.
Source: Gelb (1974), Applied Optimal Estimation, section 6.2; Sarkka (2013), Bayesian Filtering and Smoothing, section
5.4, with moments of the members. Limits: one value for each observation, sampling error of b included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: `members`: anomalies of h itself. `regression`: their part that is linear in the observed value.
LINEARISATIONS = ("members", "regression")


def require_linearisation(name: str, *, scheme: str) -> None:
    """Raise ConfigError for an unknown linearisation."""
    if name not in LINEARISATIONS:
        raise ConfigError(f"scheme {scheme}: linearisation is {name!r}; valid: {', '.join(LINEARISATIONS)}")


def linear_part(
    hx: Float[Tensor, "member obs"], inner: Float[Tensor, "member obs"]
) -> tuple[Float[Tensor, "member obs"], Float[Tensor, "obs"]]:
    """h as linear in s, and the variance of what is not; needs three members.

    Where the members have one value of s, h is their mean, and nothing is left.
    """
    mean, s = hx.mean(dim=0), inner - inner.mean(dim=0)
    anomalies, power = hx - mean, s.square().sum(dim=0)
    slope = torch.where(power > 0, (anomalies * s).sum(dim=0) / torch.where(power > 0, power, 1.0), 0.0)
    fit = slope * s
    return mean + fit, (anomalies - fit).square().sum(dim=0) / (len(hx) - 2)
