"""Reading the weights of two heads, with everything that must agree before they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cycler_da.errors import WeightsMismatch
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.two_head_denoiser import TwoHeadDenoiser, Unexplained
from cycler_da.generative.two_heads import pair_of_covariance
from cycler_da.generative.weights import load_parts
from cycler_da.layout import TRAIN_FOR_THIS, Layout

#: Kind of `transition` in the card of such weights.
TRANSITION = "two_heads"
MEAN, COVARIANCE, LEVEL, SHARE = "pair.mean", "pair.covariance", "unexplained.level", "unexplained.share"


@dataclass(frozen=True)
class TwoHeadWeights:
    """A trained pair of heads, and what its numbers mean."""

    model: TwoHeadDenoiser
    unexplained: Unexplained
    scaling: Scaling  # of states
    observed: tuple[Mapping[str, Any], ...]  # variable and operator of every observed field
    observed_scaling: Scaling  # of the channels of h; 0 and 1 where nothing is observed
    error: float  # of an observation, in its own units
    source: str


def load_heads(folder: Path, *, form: str, layout: Layout, sha256: str | None = None) -> TwoHeadWeights:
    """Read weights for a form and a layout.

    Raises WeightsMismatch for another kind or form, LayoutMismatch for other states (the step may differ: an analysis
    has no time).
    """
    card, network, measured = load_parts(folder, sha256=sha256)
    own = card.transition
    found = (own.get("kind"), own.get("form"))
    if found != (TRANSITION, form):
        raise WeightsMismatch(
            f"weights {folder} are of kind {found[0]!r}, form {found[1]!r}; this scheme needs kind {TRANSITION!r}, "
            f"form {form!r}, which `cycler train` makes from data.kind observed_states with form: {form}"
        )
    layout.require_same(replace(card.layout, step=layout.step), what=f"weights {folder}", advice=TRAIN_FOR_THIS)
    pair = pair_of_covariance(measured[MEAN], measured[COVARIANCE])
    return TwoHeadWeights(
        model=TwoHeadDenoiser(network, pair, layout.state_shape).eval(),
        unexplained=Unexplained(measured[LEVEL], measured[SHARE]),
        scaling=card.scaling,
        observed=tuple(own["observed"]),
        observed_scaling=Scaling(tuple(own["observed_mean"]), tuple(own["observed_std"])),
        error=float(own["error"]),
        source=str(folder),
    )
