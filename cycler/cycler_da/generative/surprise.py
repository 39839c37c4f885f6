"""Surprise: where an observation lies far outside what was expected, the spread was too small, and is made larger.

    d = y - H x_b (mean over members),   S = H P H^T + R          what was expected of d
    surprising: |d| > k sqrt(S);   wanted there: std_p = sqrt(d_p^2 - R_p), the spread with which d_p is one deviation
    std(x) <- max(std(x), max_p std_p exp(-|x - x_p| / reach))

A cell is born where every member is clear: the learned spread is near zero there, for births are rare, and an analysis
gives a tenth of what was seen. That is right for most surprises of one pixel and wrong for a storm. The maximum of the
likelihood of d_p over the spread is std_p (type II maximum likelihood); k keeps it from acting on usual innovations, of
which a Gaussian has 6e-5 beyond k = 4.
Source: the variance of innovations as an estimate of the background's, Desroziers et al. (2005), Q. J. R. Meteorol.
Soc. 131, 3385-3396, here for single observations, which makes it a rule for outliers and not an estimate of the mean.
Limit: a gross error looks like a birth; quality control comes first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cycler_da.generative.prediction import StateObservation

#: Lengths of the exponential after which it no longer widens anything.
_ENDS = 3.0


@dataclass(frozen=True)
class Surprise:
    """Rule with fixed numbers."""

    deviations: float  # k
    reach: float = 2.0  # cells

    def least_std(
        self,
        observations: StateObservation,
        hx: Float[Tensor, "member obs"],
        variance: Float[Tensor, "obs"],
        *,
        like: Float[Tensor, "batch channel y x"],
    ) -> Float[Tensor, "1 channel y x"] | None:
        """The spread that surprising observations want, on the grid; None where nothing surprises.

        `variance`: diagonal of the transition's own H L L^T H^T; the members' variance is added.
        """
        innovation = observations.values - hx.mean(dim=0)
        expected = variance + hx.var(dim=0) + observations.error_variance
        is_surprising = innovation.square() > self.deviations**2 * expected
        if not bool(is_surprising.any()):
            return None
        wanted = (innovation.square() - observations.error_variance).clamp(min=0.0).sqrt()
        wanted = torch.where(is_surprising, wanted, 0.0)
        # The transpose of H brings them to their cells; the share of a cell in H is taken out again.
        share = observations.adjoint(is_surprising.to(wanted.dtype)[None])
        field = observations.adjoint(wanted[None]) / share.clamp(min=1.0e-12)
        field = torch.where(share > 0, field, 0.0)
        return self._spread_out(field).to(like.dtype)

    def _spread_out(self, field: Float[Tensor, "1 channel y x"]) -> Float[Tensor, "1 channel y x"]:
        far = math.ceil(_ENDS * self.reach)
        n_y, n_x = field.shape[-2:]
        wide = torch.nn.functional.pad(field, (far, far, far, far))
        out = field
        for i in range(-far, far + 1):
            for j in range(-far, far + 1):
                factor = math.exp(-math.hypot(i, j) / self.reach)
                moved = wide[..., far + i : far + i + n_y, far + j : far + j + n_x]
                out = torch.maximum(out, factor * moved)
        return out
