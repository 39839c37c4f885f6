"""Noise in units: what a sampler that is affine in its noise draws has moments that are computed, not estimated.

State 0 of a batch has no noise; every other has a 1 in one place of one draw and no other. With x_0 and x_k drawn so,

    mean = x_0,      covariance = sum_k (x_k - x_0)(x_k - x_0)^T
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class UnitDraws:
    """Draws (`sampler.Draws`) by name and step; `slots` gives how many numbers each of them has."""

    dtype = torch.float64

    def __init__(self, slots: Mapping[tuple[str, int], int]) -> None:
        self._first, n = dict[tuple[str, int], int](), 1
        for slot, size in slots.items():
            self._first[slot] = n
            n += size
        self.n_states = n

    def normal(self, name: str, shape: Sequence[int], *, step: int) -> Float[Tensor, "state *shape"]:
        """One draw of all states; raises KeyError for one that was not announced."""
        size, first = prod(shape), self._first[name, step]
        draws = torch.zeros(self.n_states, size, dtype=self.dtype)
        draws[first : first + size] = torch.eye(size, dtype=self.dtype)
        return draws.view(-1, *shape)


def every_step(sizes: Mapping[str, int], n_steps: int) -> dict[tuple[str, int], int]:
    """Slots of draws that are made in every step."""
    return {(name, step): size for step in range(n_steps) for name, size in sizes.items()}


def moments(drawn: Float[Tensor, "state *shape"]) -> tuple[Float[Tensor, "n"], Float[Tensor, "n n"]]:
    """Mean and covariance of what was drawn with a batch of `UnitDraws`."""
    flat = drawn.flatten(1)
    response = flat[1:] - flat[0]
    return flat[0], response.mT @ response
