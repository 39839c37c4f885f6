"""Checks of what goes into and comes out of an analysis: numbers that are not finite stop it.

NaN is never replaced: an analysis that is not finite fails, and nothing of it is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.layout import Layout
from cycler_da.obs.base import Observations
from cycler_da.schemes.window.hx import window_hx

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def finite_hx(
    states: Float[Tensor, "member channel *space"], observations: Observations, *, scheme: str
) -> Float[Tensor, "member obs"]:
    """Model equivalents of the members in float64; raises AnalysisFailed when one is not finite."""
    return _finite(observations.hx(states.to(torch.float64)), scheme)


def finite_window_hx(background: Ensemble, observations: Observations, *, scheme: str) -> Float[Tensor, "member obs"]:
    """The same at the observations' own times, where the background has frames inside the window."""
    return _finite(window_hx(background, observations), scheme)


def _finite(hx: Tensor, scheme: str) -> Tensor:
    n_bad = int((~hx.isfinite()).sum())
    if n_bad:
        raise AnalysisFailed(
            f"{scheme}: {n_bad} of {hx.numel()} model equivalents H(x) are not finite; expected finite numbers. "
            "Look at the background members, and flag observations whose operator fails as H_FAILED."
        )
    return hx


def require_finite(analysed: Float[Tensor, "member channel *space"], *, layout: Layout, scheme: str) -> None:
    """Raise AnalysisFailed, naming the variables, when an analysis is not finite."""
    if bool(analysed.isfinite().all()):
        return
    bad = [name for i, name in enumerate(layout.channels) if not bool(analysed[:, i].isfinite().all())]
    raise AnalysisFailed(
        f"{scheme}: the analysis of {', '.join(bad)} is not finite; expected finite numbers. "
        "Look at the background members and at the observation errors of this cycle."
    )
