"""Training of a transition from starts that are known with errors: what changes beside `dense_training`.

    pairs     z0~ = z0 + l e,  z1 the successor of z0;  l one of the levels, e white, both drawn once for a pair
    mean      < |(z1 - z0~ - mu(z0~, l)) / s|^2 / (l^2 + l_1^2) >,   l_1 the smallest level above 0
    roots     chol of the mean residual covariance at every level
    P         the likelihood of `dense_training`, each residual whitened by the root of its level

Errors of the mean grow with l, and levels would not count alike without the weight. Source: the weights of losses by
noise level, Karras et al. (2022), NeurIPS, table 1; here the target is the next state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.dense_training import (
    Recipe,
    ScaledPairs,
    likelihood_loss,
    residual_root,
    residuals,
    times,
)
from cycler_da.generative.networks import NetworkSpec
from cycler_da.generative.networks.base import ConditionedNetwork, MeanAndRoot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float
    from torch import Tensor

#: Kinds of networks that take a level.
CONDITIONED_KINDS = ("conditioned_ring",)


def with_levels(spec: NetworkSpec, levels: Sequence[float]) -> NetworkSpec:
    """The recipe of a network that knows the levels; raises ConfigError for a kind that takes none."""
    if spec.kind not in CONDITIONED_KINDS:
        raise ConfigError(
            f"network.kind is {spec.kind!r}; data.conditioning is learned by: {', '.join(CONDITIONED_KINDS)}"
        )
    if "levels" in spec.arguments:
        raise ConfigError("network.levels are those of data.conditioning; leave them out")
    return NetworkSpec(spec.kind, {**spec.arguments, "levels": list(levels)})


def mean_loss(network: MeanAndRoot, pairs: ScaledPairs) -> Tensor:
    """Squared error of the increment in units of its standard deviation, by the level's weight."""
    errors, smallest = residuals(network, pairs).flatten(1) / network.increment_std, _known(network).levels[1]
    levels = _levels(pairs)
    return (errors.square().mean(dim=1) / (levels.square() + smallest**2)).mean()


@torch.no_grad()
def residual_roots(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "level n n"]:
    """Lower triangular roots of the mean covariance of what the mean leaves at every level."""
    return torch.stack([residual_root(network, at_level(pairs, level)) for level in _known(network).levels])


@torch.no_grad()
def whiten_by_level(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "sample n"]:
    """Every residual whitened by the root of its level."""
    left = residuals(network, pairs).flatten(1)
    roots = _known(network).roots_at(_levels(pairs)).to(left.dtype)
    white: Tensor = torch.linalg.solve_triangular(roots, left[:, :, None], upper=False)[..., 0]
    return white


def root_loss(network: MeanAndRoot, pairs: ScaledPairs) -> Tensor:
    """Negative log likelihood of the residual, without its constants; no gradient to the mean."""
    return likelihood_loss(network.whitener(pairs.inputs), whiten_by_level(network, pairs))


def whiten_conditioned(network: MeanAndRoot, pairs: ScaledPairs) -> Float[Tensor, "sample n"]:
    """Every residual whitened by its own root."""
    return times(network.whitener(pairs.inputs), whiten_by_level(network, pairs))


def at_level(pairs: ScaledPairs, level: float) -> ScaledPairs:
    """The pairs of one level."""
    return pairs[(_levels(pairs) - level).abs() < 1e-6]  # levels are kept in single precision


#: The losses of this module.
CONDITIONED = Recipe(mean_loss, residual_roots, root_loss)


def _levels(pairs: ScaledPairs) -> Tensor:
    assert pairs.levels is not None
    return pairs.levels


def _known(network: MeanAndRoot) -> ConditionedNetwork:
    if not isinstance(network, ConditionedNetwork):
        raise ConfigError(f"data.conditioning is learned by networks of kind {', '.join(CONDITIONED_KINDS)}")
    return network
