"""SEVIR's 8-bit code of vertically integrated liquid (VIL), and the continuous scale made from it.

SEVIR stores VIL as one byte c; Veillette et al. (2020), NeurIPS, "SEVIR: a storm event imagery dataset",
and the tutorial that goes with it give

    VIL = 0                          c <= 5
    VIL = (c - 2) / 90.66            5 < c <= 18
    VIL = exp((c - 83.9) / 38.9)     18 < c <= 254          [kg m-2]
    missing                          c = 255

Above code 20 the code is the logarithm of VIL, so errors are nearly alike over four decades in code and
are not in kg m-2, where the excess kurtosis of forecast errors passes one hundred. Gaussian algebra is
therefore done on the *code scale* v = code / 255, with a continuous code that

    joins (0 kg m-2, 0) to code 6, follows the published laws from 6 to 18 and above 19, and joins 18 to 19
    (the two laws leave a gap there) by straight lines.

It is strictly increasing, equal to the published law at 0 and at every code from 6 to 254, and
differentiable but for four kinks. Limit: codes 1 to 5 are published as zero; on the continuous scale they
lie between 0 and 0.0441 kg m-2. This module needs numpy only; `code_scale` holds the same scale for tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

MISSING_CODE = 255
LARGEST_CODE = 254  # saturated: 79.3 kg m-2 or more
FIRST_ECHO_CODE = 6
LAST_LINEAR_CODE = 18
FIRST_LOG_CODE = 19
LINEAR_OFFSET, LINEAR_SLOPE = 2.0, 90.66  # code = offset + slope * VIL
LOG_OFFSET, LOG_SLOPE = 83.9, 38.9  # code = offset + slope * ln VIL
CODE_SPAN = 255.0  # v = code / 255

#: Codes at which SEVIR nowcasts are scored (CSI-M is the mean over the six); about 0.15 to 32 kg m-2.
SCORE_CODES = (16, 74, 133, 160, 181, 219)
#: Bounds of the colours that SEVIR maps are drawn in.
COLOUR_CODES = (0, 16, 31, 59, 74, 100, 133, 160, 181, 219, 255)


def _law(code: np.ndarray) -> np.ndarray:
    linear = (code - LINEAR_OFFSET) / LINEAR_SLOPE
    return np.where(code <= LAST_LINEAR_CODE, linear, np.exp((code - LOG_OFFSET) / LOG_SLOPE))


def _decode_table() -> np.ndarray:
    code = np.arange(256, dtype=np.float64)
    table = np.where(code < FIRST_ECHO_CODE, 0.0, _law(code))
    table[MISSING_CODE] = np.nan
    table.setflags(write=False)
    return table


#: VIL of each code in kg m-2, float64; the last entry (missing) is NaN.
DECODE_TABLE = _decode_table()
FIRST_ECHO_VIL = float(DECODE_TABLE[FIRST_ECHO_CODE])
LAST_LINEAR_VIL = float(DECODE_TABLE[LAST_LINEAR_CODE])
FIRST_LOG_VIL = float(DECODE_TABLE[FIRST_LOG_CODE])
LARGEST_VIL = float(DECODE_TABLE[LARGEST_CODE])


def decode(codes: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Turn codes into VIL, kg m-2, float32; missing (255) becomes NaN."""
    return DECODE_TABLE.astype(np.float32)[codes]


def encode(vil: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Turn VIL in kg m-2 into the nearest code; `encode(decode(c)) == c` for c = 0 and 6 to 255.

    Below half of code 6 the code is 0 (1 to 5 are never written); above 79.3 kg m-2 it saturates at 254;
    NaN becomes 255; what is negative counts as no echo.
    """
    vil = np.asarray(vil)
    code = np.rint(np.nan_to_num(continuous_code(vil), nan=0.0)).clip(0, LARGEST_CODE)
    in_gap = (code > 0) & (code < FIRST_ECHO_CODE)
    code[in_gap] = np.where(code[in_gap] < FIRST_ECHO_CODE / 2, 0, FIRST_ECHO_CODE)
    code[np.isnan(vil)] = MISSING_CODE
    return code.astype(np.uint8)


def continuous_code(vil: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Turn VIL in kg m-2 into the continuous code, float64; zero at and below zero, NaN stays NaN."""
    vil = np.maximum(np.asarray(vil, dtype=np.float64), 0.0)
    joined = np.interp(
        vil,
        [0.0, FIRST_ECHO_VIL, LAST_LINEAR_VIL, FIRST_LOG_VIL],
        [0.0, FIRST_ECHO_CODE, LAST_LINEAR_CODE, FIRST_LOG_CODE],
    )
    log_law = LOG_OFFSET + LOG_SLOPE * np.log(np.maximum(vil, FIRST_LOG_VIL))
    return np.where(vil < FIRST_LOG_VIL, joined, log_law)


def vil_of_code(code: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Turn a continuous code into VIL in kg m-2, float64; held to [0, 254], NaN stays NaN."""
    code = np.clip(np.asarray(code, dtype=np.float64), 0.0, LARGEST_CODE)
    joined = np.interp(
        code,
        [0.0, FIRST_ECHO_CODE, LAST_LINEAR_CODE, FIRST_LOG_CODE],
        [0.0, FIRST_ECHO_VIL, LAST_LINEAR_VIL, FIRST_LOG_VIL],
    )
    return np.where(code < FIRST_LOG_CODE, joined, np.exp((code - LOG_OFFSET) / LOG_SLOPE))
