"""A checked analysis: what no scheme can use is refused before it, and what it returns is looked at after it.

Every analysis of the system goes through here, whatever the scheme looks after by itself. Refused are too few
members, members that are not finite, observations or errors that are not numbers, errors that make R singular (zero,
negative, or so small that their square is zero), and more model equivalents H(x) than `MOST_EQUIVALENTS`. Matrices that
cannot be decomposed, memory that runs out, and members that have all become the same are the same kind of error.
Gradients are off, but a scheme may switch them on for itself (inference mode would forbid it). Quality control flags
bad observations before they come here; this is the second line. NaN is never replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.noise import Noise
from cycler_da.obs.base import ObsBatch, Observations
from cycler_da.schemes.base import Analysis, AnalysisScheme, Prior
from cycler_da.schemes.frame.checks import require_finite

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

#: Most numbers of H(x), members x observations: 8.6 GB in float64, of which a scheme holds several copies.
MOST_EQUIVALENTS = 2**30


def checked_analysis(
    scheme: AnalysisScheme,
    prior: Prior,
    observations: Observations,
    *,
    kind: str,
    noise: Noise,
    carry: Mapping[str, Tensor],
) -> Analysis:
    """Let a scheme analyse; `kind` is its name in errors. Raises AnalysisFailed, and whatever the scheme raises."""
    _require_members(prior, scheme.needs.n_members, kind)
    for batch in observations.batches:
        _require_sound(batch, kind)
    n_equivalents = prior.background.n_members * len(observations)
    if n_equivalents > MOST_EQUIVALENTS:
        raise AnalysisFailed(
            f"{kind}: {len(observations)} observations of {prior.background.n_members} members are {n_equivalents} "
            f"model equivalents; expected at most {MOST_EQUIVALENTS}. Thin the observations (qc.thinning)"
        )
    with _failures_explained(kind, len(observations)), torch.no_grad():
        analysis = scheme.analyse(prior, observations, noise=noise, carry=carry)
    require_finite(analysis.ensemble.latest, layout=analysis.ensemble.layout, scheme=kind)
    if not scheme.needs.resamples:
        _require_spread(prior.background, analysis.ensemble, kind)
    return analysis


def _require_spread(background: Ensemble, analysis: Ensemble, kind: str) -> None:
    """Refuse members that have become one and the same: such a filter believes no observation any more."""
    lost = [
        name
        for i, name in enumerate(analysis.layout.channels)
        if _is_one(analysis.latest[:, i]) and not _is_one(background.latest[:, i])
    ]
    if analysis.n_members > 1 and lost:
        raise AnalysisFailed(
            f"{kind}: all {analysis.n_members} members of the analysis of {', '.join(lost)} are the same, those of the "
            "background are not; expected some spread. Look at observation errors, localization and inflation"
        )


def _is_one(members: Float[Tensor, "member *space"]) -> bool:
    return bool((members == members[:1]).all())


def _require_members(prior: Prior, n_needed: int, kind: str) -> None:
    background = prior.background
    if background.n_members < n_needed:
        raise AnalysisFailed(f"{kind}: the background has {background.n_members} members; expected {n_needed} or more")
    _require_finite_members(background, "background", kind)
    if prior.previous is not None:
        _require_finite_members(prior.previous, "previous analysis", kind)


def _require_finite_members(ensemble: Ensemble, what: str, kind: str) -> None:
    is_bad = ~ensemble.values.isfinite().flatten(3 if ensemble.values.ndim > 3 else 2).all(dim=-1)
    if not bool(is_bad.any()):
        return
    by_member, by_channel = is_bad.any(dim=2).any(dim=1), is_bad.any(dim=1).any(dim=0)
    members = [str(m) for m, bad in zip(ensemble.members, by_member.tolist(), strict=True) if bad]
    names = [name for name, bad in zip(ensemble.layout.channels, by_channel.tolist(), strict=True) if bad]
    raise AnalysisFailed(
        f"{kind}: {', '.join(names)} of the {what} is not finite in member {', '.join(members[:10])}"
        f"{' and others' if len(members) > 10 else ''}; expected finite numbers. Look at the forecast that made it"
    )


def _require_sound(batch: ObsBatch, kind: str) -> None:
    variance = batch.error**2
    is_error = batch.error.isfinite() & (batch.error > 0) & (variance > 0) & variance.isfinite()
    _refuse(batch, ~batch.values.isfinite(), f"{kind}: the value of", "a finite number; flag it MISSING", batch.values)
    expected = "a positive number whose square is one too, or R is singular; correct the stream's errors"
    _refuse(batch, ~is_error, f"{kind}: the error of", expected, batch.error)


def _refuse(batch: ObsBatch, is_bad: Bool[Tensor, "obs"], what: str, expected: str, shown: Tensor) -> None:
    n_bad = int(is_bad.sum())
    if n_bad:
        first = int(is_bad.nonzero()[0])
        raise AnalysisFailed(
            f"{what} {n_bad} of {len(batch)} observations of stream {batch.stream} cannot be used, the first is "
            f"{batch.ids[first]}: got {float(shown[first])}, expected {expected}"
        )


@contextmanager
def _failures_explained(kind: str, n_obs: int) -> Iterator[None]:
    """Matrices that cannot be decomposed and memory that runs out, in words."""
    try:
        yield
    except torch.linalg.LinAlgError as error:
        raise AnalysisFailed(
            f"{kind}: a matrix of the analysis of {n_obs} observations cannot be decomposed ({error}); look at "
            "observation errors next to the spread of the background, and at duplicates"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise AnalysisFailed(
            f"{kind}: the analysis of {n_obs} observations does not fit into memory; thin the observations, or use a "
            "local scheme (letkf)"
        ) from error
