"""In which numbers a network is trained: float32, or bfloat16 for its matrix products and convolutions.

With bfloat16 weights, losses and moving averages stay float32 and what the network returns is float32 again: its errors
are of some 1e-3 of the increment and average out over steps. Fourier transforms know no bfloat16, so spectral networks
are refused. Compiling pays on a GPU, after a minute of its own; the numbers change in their last digits.
Source: Micikevicius et al. (2018), Mixed precision training, ICLR (with float16, which needs a scaled loss; bfloat16
has the range of float32 and needs none).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cycler_da.errors import ConfigError
from cycler_da.generative.networks import FourierNeuralOperator, QuadraticSpectralNet

if TYPE_CHECKING:
    from cycler_da.generative.training import TrainSettings

PRECISIONS = ("float32", "bfloat16")
_NO_BFLOAT16 = (FourierNeuralOperator, QuadraticSpectralNet)


def prepare(network: nn.Module, settings: TrainSettings) -> nn.Module:
    """Make a network ready to be trained, in place; raises ConfigError for a precision it cannot have."""
    if settings.precision == "bfloat16":
        if isinstance(network, _NO_BFLOAT16):
            raise ConfigError(
                f"fit.precision is bfloat16, which network {settings.network.kind} cannot have (its Fourier transforms "
                "need float32); leave fit.precision out"
            )
        network.register_forward_hook(_to_float32)
    if settings.compiled:
        network.compile()
    return network


def arithmetic(settings: TrainSettings) -> AbstractContextManager[Any]:
    """Where the network runs while it is trained."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(settings.device).type, dtype=torch.bfloat16)


def _to_float32(module: nn.Module, given: Any, returned: torch.Tensor) -> torch.Tensor:
    return returned.to(torch.float32)
