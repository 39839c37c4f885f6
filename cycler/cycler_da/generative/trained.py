"""What a training leaves, whatever its data: network, tensors that were measured, and how good all is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from cycler_da.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainedTransition:
    """Everything that a weight card and its weights are made of."""

    network: nn.Module
    layout: Layout
    transition: Mapping[str, Any]
    measured: Mapping[str, Tensor]
    scores: Mapping[str, Any]
    facts: Mapping[str, Any]
    seconds: float
    denoiser: nn.Module | None = None  # of a residual that is not Gaussian
    singles: Mapping[str, Tensor] = field(default_factory=dict)  # measured, for which float32 is enough
