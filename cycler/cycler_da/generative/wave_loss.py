"""A loss that knows which waves are noise: the Gaussian likelihood of the error, wave by wave.

    loss = e^T (C + floor I)^-1 e / (2 n),     C = F^T B F

with e the error of the mean at n points and C its covariance by waves as `wave_covariance` measures it, from training
pairs every `MEASURED_EVERY` steps. Where a system is driven by noise in a few waves, the squared error is that noise
nearly alone, and what can be learned, the motion of all other waves, is lost in it; here a wave counts in units of what
cannot be known of it. It is the maximum-likelihood fit of mean and covariance in turns (feasible generalised least
squares; Aitken 1936).

Errors are in units of the increment's deviation; the floor says which waves count as noise. Each channel has waves of
its own. C is a function of the network at steps that are multiples of `MEASURED_EVERY`, so a resumed training finds
the same when its checkpoints lie there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cycler_da.errors import ConfigError
from cycler_da.generative.half_plane import times_counted
from cycler_da.generative.wave_covariance import wave_blocks

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Steps between measurements of C.
MEASURED_EVERY = 100
#: Training pairs from which it is measured.
N_MEASURED = 256
#: Waves with less variance than white noise as large as the increments count by their squared error. With a floor of
#: 1e-4 the many waves that hold nothing are fitted at the cost of those that do (driven turbulence: twice the error).
FLOOR = 1.0


@dataclass(frozen=True)
class WaveLoss:
    """The loss for fixed covariances."""

    inverse: Float[Tensor, "channel 3 y k"]  # entries (11, 22, 12) of (B + floor I)^-1, times how often a wave counts

    def __call__(self, error: Float[Tensor, "batch channel y x"]) -> Float[Tensor, ""]:
        """Half the mean square of the whitened error, (C + floor I)^-1/2 e: 1/2 when C is its covariance."""
        modes = torch.fft.rfft2(error, norm="ortho")
        first, second, cross = self.inverse.unbind(1)
        square = first * modes.real**2 + second * modes.imag**2 + 2.0 * cross * modes.real * modes.imag
        return 0.5 * square.sum() / error.numel()


def wave_loss(errors: Float[Tensor, "sample channel y x"], *, floor: float = FLOOR) -> WaveLoss:
    """The loss with the covariances of these errors; raises ConfigError unless fields are square and even."""
    n = errors.shape[-1]
    if errors.ndim != 4 or n != errors.shape[-2] or n % 2:
        raise ConfigError(f"the whitened loss is for square fields of even size; got {tuple(errors.shape[2:])}")
    channels = [wave_blocks(errors[:, c : c + 1]) for c in range(errors.shape[1])]
    first, second, cross = torch.stack(channels, dim=1)
    first, second = first + floor, second + floor
    inverse = torch.stack([second, first, -cross], dim=1) / (first * second - cross**2)[:, None]
    return WaveLoss((inverse * times_counted(n, n)).to(errors))
