"""A network that goes from cycle to cycle in `carry`: the schemes of MASF tune that of the cycle before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

CARRIED = "masf."


def network_in(carry: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the network of the cycle before; empty in the first one."""
    return {name.removeprefix(CARRIED): value for name, value in carry.items() if name.startswith(CARRIED)}


def network_to_carry(model: nn.Module) -> dict[str, Tensor]:
    """The state of a network for the cycle after this one."""
    return {f"{CARRIED}{name}": value.detach().clone() for name, value in model.state_dict().items()}
