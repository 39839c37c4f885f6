"""Whether what an operator sees at all cells is mirrored with the state, under M: x(y) -> -x(-y) of scaled states.

A law that does not change under M (a beta plane) gives every training window twice, if its observed fields follow:

    h(M x) = M h(x) + c

with one constant c, for the mean of a field is taken off. Odd curves of single cells do (arctan, sine), and so does the
velocity along y; even ones do not, nor the velocity along x, which M leaves as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.obs.fields import ObservedField

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Largest difference that is taken for rounding, in deviations of the field.
ROUNDING = 1e-6
_PROBES = 4


def require_mirrored(fields: Sequence[ObservedField], to_physical: Callable[[Tensor], Tensor]) -> None:
    """Raise ConfigError, naming operator and variable, for a field that M does not take along.

    Found by a probe: white noise of scaled states; `to_physical` gives them their units.
    """
    for i, field in enumerate(fields):
        shape = field.layout.state_shape
        states = Noise(0).normal("mirror", shape, members=range(_PROBES), dtype=torch.float64)
        seen, turned = (field.of(to_physical(x)) for x in (states, mirrored(states)))
        left = turned - mirrored(seen)
        missed, size = float((left - left.mean()).abs().max()), float(seen.std())
        if missed > ROUNDING * size:
            raise ConfigError(
                f"data.mirror is true, and data.observed.{i} ({field.kind} of {field.layout.channels[field.channel]}) "
                f"is not mirrored with the state: under x(y) -> -x(-y) it is off by {missed / size:.2g} of its "
                "deviation; expected fields that are odd, as arctan and sine of a variable of mean 0. Set mirror to "
                "false, or leave that field out"
            )


def mirrored(x: Float[Tensor, "*any y x"]) -> Float[Tensor, "*any y x"]:
    """M x."""
    return -x.flip(-2)
