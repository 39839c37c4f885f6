"""Ensemble weights of a batch of points, kept in factors: the transform is applied and never formed.

With S (rows are members) the scaled anomalies of the observations near a point, b their scaled innovations:
    T - I = U diag(g) U^T,   w = U h,   g = -1 / (root (1 + root)) [times t],   root = (1 + t)^1/2
    S S^T = V diag(t) V^T  (member space):        U = V,     g times t,   h = V^T S b / (1 + t)
    S^T S = V diag(t) V^T  (observation space):   U = S V,                h = V^T b / (1 + t)
Both are the same transform; the smaller matrix is decomposed. T - I is computed as such, so that it keeps its relative
precision where the observations say little. It acts on few columns, so that the cost lies in the decomposition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float


class Weights(Protocol):
    """Weights of a batch of points."""

    def change(self, anomalies: Float[Tensor, "point member column"]) -> Float[Tensor, "point member column"]:
        """The change of members with these anomalies."""
        ...


#: From S^T `(point, obs, member)` and b `(point, obs)` to weights.
LocalUpdate = Callable[[Tensor, Tensor], Weights]
#: From S `(point, member, obs)` and b to the deviation `(point, member, member)` of a transform from the identity.
DenseUpdate = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LocalWeights:
    """Factors of the weights of a batch of points."""

    s: Float[Tensor, "point obs member"] | None  # S^T in observation space, None in member space
    v: Float[Tensor, "point row value"]  # eigenvectors
    g: Float[Tensor, "point value"]
    h: Float[Tensor, "point value"]
    n_members: int

    def change(self, anomalies: Float[Tensor, "point member column"]) -> Float[Tensor, "point member column"]:
        """Columns of (T - I) A + 1 w^T A / sqrt(N - 1), the change of members by the analysis."""
        z = self.v.mT @ (anomalies if self.s is None else self.s @ anomalies)
        narrowed = self.v @ (self.g[:, :, None] * z)
        shift = (self.h[:, :, None] * z).sum(dim=1, keepdim=True) / (self.n_members - 1) ** 0.5
        return (narrowed if self.s is None else self.s.mT @ narrowed) + shift


def kalman_weights(s: Float[Tensor, "point obs member"], b: Float[Tensor, "point obs"]) -> LocalWeights:
    """Decompose in the smaller of the two spaces; `s` is S^T."""
    return weights_in_observation_space(s, b) if s.shape[1] < s.shape[2] else weights_in_member_space(s, b)


def weights_in_member_space(s: Float[Tensor, "point obs member"], b: Float[Tensor, "point obs"]) -> LocalWeights:
    """Weights from the eigenvectors of S S^T."""
    t, v = torch.linalg.eigh(s.mT @ s)
    t = t.clamp_min(0)
    root = (1 + t).sqrt()
    h = (v.mT @ (s.mT @ b[:, :, None]))[:, :, 0] / (1 + t)
    return LocalWeights(None, v, -t / (root * (1 + root)), h, s.shape[2])


def weights_in_observation_space(s: Float[Tensor, "point obs member"], b: Float[Tensor, "point obs"]) -> LocalWeights:
    """Weights from the eigenvectors of S^T S."""
    t, v = torch.linalg.eigh(s @ s.mT)
    t = t.clamp_min(0)
    root = (1 + t).sqrt()
    h = (v.mT @ b[:, :, None])[:, :, 0] / (1 + t)
    return LocalWeights(s, v, -1 / (root * (1 + root)), h, s.shape[2])


@dataclass(frozen=True)
class DenseWeights:
    """Weights as the matrix T - I + 1 w^T / sqrt(N - 1)."""

    deviation: Float[Tensor, "point member member"]

    def change(self, anomalies: Float[Tensor, "point member column"]) -> Float[Tensor, "point member column"]:
        """The change of members with these anomalies."""
        return self.deviation @ anomalies


def dense_weights(update: DenseUpdate, s: Float[Tensor, "point obs member"], b: Float[Tensor, "point obs"]) -> Weights:
    """Weights of an update that gives the matrix."""
    return DenseWeights(update(s.mT, b))
