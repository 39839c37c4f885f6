"""Which transition a weight card describes, and how it is put together for the layout of an experiment.

spectral   transition.Transition: one homogeneous covariance on a periodic grid; the layout must be the card's.
           Measured: covariance.shells, climatology.shells (scaled units, shells of wave number)
waves      transition.Transition: waves keep their phase (wave_covariance); one variable; the layout must be the card's.
           Measured: covariance.waves, climatology.waves (scaled units, blocks of every wave); settings: early, the part
           of the noise that enters before the step (`kicks`)
advected   advected.AdvectedTransition: any patch of the same variable, spacing and step.
           Measured: correlation.parts, climatology.parts (weight, length in cells), climatology.moments
           (mean, standard deviation); settings: spread, limits, flow
dense      dense_transition.DenseTransition: few variables; the layout must be the card's.
           Measured: climatology.mean, climatology.covariance, physical units; settings: denoiser, kind and arguments of
           the network whose tensors stand under "denoiser."
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cycler_da.advection import FlowSettings
from cycler_da.errors import ConfigError, WeightsMismatch
from cycler_da.generative.advected import AdvectedTransition, MeanAndSpread, SpreadHead, StateRange
from cycler_da.generative.climatology import StateClimatology
from cycler_da.generative.conditioned_transition import ConditionedTransition
from cycler_da.generative.covariance import Covariance, FullCovariance, spectral_from_shells
from cycler_da.generative.denoiser import NetworkDenoiser
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.local_covariance import (
    REACH,
    LocalCovariance,
    StationaryCorrelation,
    exponential_correlation,
)
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.networks.base import ConditionedNetwork, MeanAndRoot
from cycler_da.generative.prediction import LearnedTransition
from cycler_da.generative.scaling import Scaling
from cycler_da.generative.transition import Transition
from cycler_da.generative.wave_covariance import wave_covariance
from cycler_da.layout import TRAIN_FOR_THIS, Layout

if TYPE_CHECKING:
    from torch import Tensor

#: Prefix of a denoiser's tensors.
DENOISER = "denoiser."
#: Climatological correlations are long, and known to a few per cent: exp(-8) = 3e-4 may wrap around.
_CLIMATOLOGICAL_REACH = 8.0
#: Covariances that are measured for a transition on a torus: of its residual and of its states.
_MEASURED = ("covariance", "climatology")


@dataclass(frozen=True)
class Parts:
    """What a transition is made of."""

    network: nn.Module
    scaling: Scaling
    history: int
    trained_on: Layout
    layout: Layout  # of the experiment
    measured: Mapping[str, Tensor]
    source: str  # for messages


def assemble(description: Mapping[str, Any], parts: Parts) -> LearnedTransition:
    """Build the transition of a card; raises WeightsMismatch or LayoutMismatch."""
    settings = dict(description)
    kind = settings.pop("kind", None)
    if kind not in _BUILDERS:
        raise WeightsMismatch(
            f"weights {parts.source}: unknown kind of transition {kind!r}; valid: {', '.join(sorted(_BUILDERS))}"
        )
    try:
        return _BUILDERS[kind](parts, **settings)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsMismatch(f"weights {parts.source}: card or weights of a {kind} transition lack {error}") from error


def _spectral(parts: Parts) -> Transition:
    size = parts.layout.grid.shape[-1]
    return _on_torus(parts, *(spectral_from_shells(parts.measured[f"{name}.shells"], size) for name in _MEASURED))


def _waves(parts: Parts, *, early: float = 0.0) -> Transition:
    noise, climatology = (wave_covariance(parts.measured[f"{name}.waves"]) for name in _MEASURED)
    if early == 0.0:
        return _on_torus(parts, noise, climatology)
    whole = _on_torus(parts, noise.scaled(1.0 - early), climatology)
    return replace(whole, early_covariance=noise.scaled(early))


def _on_torus(parts: Parts, covariance: Covariance, climatology: Covariance) -> Transition:
    parts.layout.require_same(parts.trained_on, what=f"weights {parts.source}", advice=TRAIN_FOR_THIS)
    return Transition(parts.network, parts.scaling, covariance, climatology=climatology, history=parts.history)


def _dense(
    parts: Parts, *, denoiser: Mapping[str, Any] | None = None, conditioning: Mapping[str, Any] | None = None
) -> DenseTransition | ConditionedTransition:
    parts.layout.require_same(parts.trained_on, what=f"weights {parts.source}", advice=TRAIN_FOR_THIS)
    channels = len(parts.layout.channels)
    mean = parts.measured["climatology.mean"].reshape(channels, -1).mean(dim=1)
    climatology = StateClimatology(mean, FullCovariance(parts.measured["climatology.covariance"]))
    if not isinstance(parts.network, MeanAndRoot):
        raise WeightsMismatch(
            f"weights {parts.source}: a dense transition has a network of kind mlp, quadratic_ring or "
            "conditioned_ring, got another"
        )
    _require_same_levels(parts, conditioning)
    if isinstance(parts.network, ConditionedNetwork):
        return ConditionedTransition(parts.network, parts.scaling, climatology, parts.history)
    learned = None if denoiser is None else _denoiser(parts, NetworkSpec(denoiser["kind"], denoiser["arguments"]))
    return DenseTransition(parts.network, parts.scaling, climatology, parts.history, learned)


def _require_same_levels(parts: Parts, conditioning: Mapping[str, Any] | None) -> None:
    """Raise WeightsMismatch unless the card names the levels that the network knows, or both none."""
    known = getattr(parts.network, "levels", None)
    told = None if conditioning is None else tuple(conditioning["levels"])
    if told != known:
        raise WeightsMismatch(
            f"weights {parts.source}: levels of conditioning are {told} on the card's transition and {known} in its "
            "network; one of the two was changed"
        )


def _denoiser(parts: Parts, spec: NetworkSpec) -> NetworkDenoiser:
    """The residual denoiser with its weights, on the device of the network."""
    state = {name.removeprefix(DENOISER): x for name, x in parts.measured.items() if name.startswith(DENOISER)}
    try:
        denoiser = NetworkDenoiser(build_network(spec))
        denoiser.load_state_dict(state, strict=True)
    except (ConfigError, RuntimeError) as error:
        raise WeightsMismatch(f"weights {parts.source} do not fit denoiser {spec.kind!r}: {error}") from error
    return denoiser.to(next(parts.network.parameters()).device).eval().requires_grad_(False)


def _advected(
    parts: Parts, *, spread: Mapping[str, float], limits: Mapping[str, float], flow: Mapping[str, Any]
) -> AdvectedTransition:
    parts.layout.require_same_kind(parts.trained_on, what=f"weights {parts.source}", advice=TRAIN_FOR_THIS)
    return AdvectedTransition(
        MeanAndSpread(parts.network, parts.scaling, SpreadHead(**spread)),
        _correlation(parts, "correlation.parts", reach=REACH),
        state_climatology=_climatology(parts),
        history=parts.history,
        flow=FlowSettings(**flow),
        limits=StateRange(**limits),
    )


def _climatology(parts: Parts) -> StateClimatology:
    mean, std = parts.measured["climatology.moments"].tolist()
    field = torch.full((1, *parts.layout.state_shape), std, dtype=torch.float64)
    covariance = LocalCovariance(field, _correlation(parts, "climatology.parts", reach=_CLIMATOLOGICAL_REACH))
    return StateClimatology(torch.tensor([mean], dtype=torch.float64), covariance)


def _correlation(parts: Parts, name: str, *, reach: float) -> StationaryCorrelation:
    rows, columns = parts.layout.grid.shape
    pairs = [(float(weight), float(length)) for weight, length in parts.measured[name].tolist()]
    return exponential_correlation((rows, columns), pairs, reach=reach)


_BUILDERS: Mapping[str, Callable[..., LearnedTransition]] = {
    "spectral": _spectral,
    "waves": _waves,
    "advected": _advected,
    "dense": _dense,
}
