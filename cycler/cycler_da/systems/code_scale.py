"""The code scale v = code / 255 of VIL for tensors: where radar forecasts and analyses do their algebra.

    v(VIL) = continuous_code(VIL) / 255,   VIL(v) its inverse

with the continuous code of `sevir_codec`. On this scale forecast errors are nearly Gaussian inside echo;
in kg m-2 they are not. Both directions are increasing, differentiable but for kinks at codes 0, 6, 18 and
19, and pass NaN (missing) on. Limit: v above 254/255 is saturated and comes back as 79.3 kg m-2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cycler_da.systems.sevir_codec import (
    CODE_SPAN,
    DECODE_TABLE,
    FIRST_ECHO_CODE,
    FIRST_ECHO_VIL,
    FIRST_LOG_CODE,
    FIRST_LOG_VIL,
    LARGEST_CODE,
    LAST_LINEAR_CODE,
    LAST_LINEAR_VIL,
    LINEAR_OFFSET,
    LINEAR_SLOPE,
    LOG_OFFSET,
    LOG_SLOPE,
)

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

_BRIDGE = (FIRST_LOG_CODE - LAST_LINEAR_CODE) / (FIRST_LOG_VIL - LAST_LINEAR_VIL)


def decode_codes(codes: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Turn 8-bit codes into VIL, kg m-2, float32; missing (255) becomes NaN."""
    table = torch.tensor(DECODE_TABLE, dtype=torch.float32, device=codes.device)
    return table[codes.long()]


def to_code_scale(vil: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Turn VIL in kg m-2 into v; 0 at and below zero, unbounded above, NaN stays NaN."""
    vil = vil.clamp(min=0.0)
    weak = vil * (FIRST_ECHO_CODE / FIRST_ECHO_VIL)
    linear = LINEAR_OFFSET + LINEAR_SLOPE * vil
    bridge = LAST_LINEAR_CODE + (vil - LAST_LINEAR_VIL) * _BRIDGE
    strong = LOG_OFFSET + LOG_SLOPE * torch.log(vil.clamp(min=FIRST_LOG_VIL))
    code = torch.where(vil < FIRST_ECHO_VIL, weak, linear)
    code = torch.where(vil > LAST_LINEAR_VIL, bridge, code)
    return torch.where(vil > FIRST_LOG_VIL, strong, code) / CODE_SPAN


def from_code_scale(v: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Turn v into VIL in kg m-2; below 0 is no echo, above 254/255 is saturated, NaN stays NaN."""
    code = (v * CODE_SPAN).clamp(0.0, float(LARGEST_CODE))
    weak = code * (FIRST_ECHO_VIL / FIRST_ECHO_CODE)
    linear = (code - LINEAR_OFFSET) / LINEAR_SLOPE
    bridge = LAST_LINEAR_VIL + (code - LAST_LINEAR_CODE) / _BRIDGE
    strong = torch.exp((code - LOG_OFFSET) / LOG_SLOPE)
    vil = torch.where(code < FIRST_ECHO_CODE, weak, linear)
    vil = torch.where(code > LAST_LINEAR_CODE, bridge, vil)
    return torch.where(code > FIRST_LOG_CODE, strong, vil)
