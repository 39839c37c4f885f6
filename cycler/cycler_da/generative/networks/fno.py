"""Fourier neural operator on a torus: a map of fields that does not know on which grid it is evaluated.

    z_0 = P x,    z_{l+1} = z_l + gelu( W_l z_l + K_l z_l ),    out = Q z_L
    K_l z = sum over |k|, |l| < modes of  R_l(k, l) z_k e^{i k . x}        R_l complex, width x width for each wave

P, W, Q act at each point; Fourier coefficients are means over the grid (norm "forward"), so that weights trained on one
grid mean the same on a finer one. There are no coordinates among the inputs: a shifted field gives the shifted answer.
Q starts at zero, so that an untrained network predicts no change.

`level` appends log(1 + level) as one more constant field, for networks that are told how noisy an input is
(residual denoisers, states with errors of a known size).
Source: Li et al. (2021), ICLR, arXiv:2010.08895; residual connections as in Tran et al. (2023), arXiv:2111.13802.
Limits: periodic grids of two axes with at least 2 modes points each; gelu makes waves above `modes` that a coarse grid
folds back, so different grids agree exactly in one layer and closely in more (tests/unit/generative/test_fno.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.generative.networks.base import network

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SpectralConvolution(nn.Module):
    """K z on the lowest waves; weights are stored as real pairs."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        # Rows: wave numbers 0 ... modes-1, then -modes ... -1, along y; columns 0 ... modes-1 along x.
        self.weight = nn.Parameter(torch.randn(2 * modes, modes, width, width, 2) / width)

    def forward(self, z: Float[Tensor, "batch width y x"]) -> Float[Tensor, "batch width y x"]:
        """Apply the filter bank."""
        size, m = z.shape[-2:], self.modes
        waves = torch.fft.rfft2(z, norm="forward")
        low = torch.cat([waves[..., :m, :m], waves[..., -m:, :m]], dim=-2)
        mixed = torch.einsum("bi...,...io->bo...", low, torch.view_as_complex(self.weight))
        out = waves.new_zeros((*waves.shape[:-2], size[0], size[1] // 2 + 1))
        out[..., :m, :m], out[..., -m:, :m] = mixed[..., :m, :], mixed[..., m:, :]
        return torch.fft.irfft2(out, s=size, norm="forward")


@network("fno")
class FourierNeuralOperator(nn.Module):
    """The network: scaled frames `(batch, history * fields [+ extra], y, x)` to `(batch, n_outputs * fields, y, x)`.

    Raises LayoutMismatch on a grid with fewer than 2 modes points along an axis.
    """

    def __init__(
        self,
        *,
        history: int = 1,
        fields: int = 1,
        extra: int = 0,
        n_outputs: int = 1,
        width: int = 16,
        modes: int = 12,
        layers: int = 4,
        has_level: bool = False,
    ) -> None:
        super().__init__()
        if min(history, fields, n_outputs, width, modes, layers) < 1 or extra < 0:
            raise ConfigError(
                "network fno: history, fields, n_outputs, width, modes and layers are 1 or more, extra 0 or more"
            )
        self.history, self.fields, self.modes, self.has_level = history, fields, modes, has_level
        inputs = history * fields + extra + int(has_level)
        self.enter = nn.Conv2d(inputs, width, 1)
        self.spectral = nn.ModuleList(SpectralConvolution(width, modes) for _ in range(layers))
        self.local = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.leave = nn.Conv2d(width, n_outputs * fields, 1)

    def initialise(self) -> None:
        """Make the output zero."""
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(
        self, frames: Float[Tensor, "batch inputs y x"], level: Float[Tensor, "batch"] | float = 0.0
    ) -> Float[Tensor, "batch out y x"]:
        """Predict the scaled increment; `level` >= 0 is read only by a network that has one."""
        rows, columns = frames.shape[-2:]
        if min(rows, columns) < 2 * self.modes:
            raise LayoutMismatch(
                f"network fno: the grid is {(rows, columns)}, {self.modes} modes need {2 * self.modes} points along "
                "each axis"
            )
        z = self.enter(self._with_level(frames, level))
        for spectral, local in zip(self.spectral, self.local, strict=True):
            z = z + F.gelu(local(z) + spectral(z))
        return self.leave(z)

    def _with_level(self, frames: Tensor, level: Tensor | float) -> Tensor:
        if not self.has_level:
            return frames
        if isinstance(level, float):
            constant = frames.new_full((len(frames), 1, 1, 1), math.log1p(level))
        else:
            constant = torch.log1p(level.to(frames.dtype)).reshape(-1, 1, 1, 1)
        return torch.cat([frames, constant.expand(-1, -1, *frames.shape[-2:])], dim=1)
