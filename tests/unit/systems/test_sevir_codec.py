"""The code of SEVIR: published values, the exact round trip, and the continuous scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.systems import sevir_codec as codec
from cycler_da.systems.code_scale import decode_codes, from_code_scale, to_code_scale

CODES = np.arange(256, dtype=np.uint8)
KEPT = np.r_[0, 6:256].astype(np.uint8)  # 1 to 5 decode to zero like 0


@pytest.mark.parametrize(
    ("code", "vil"),
    [(0, 0.0), (5, 0.0), (6, 4 / 90.66), (18, 16 / 90.66), (19, math.exp((19 - 83.9) / 38.9)), (254, 79.3)],
)
def test_decoding_gives_the_published_values(code, vil):
    assert codec.DECODE_TABLE[code] == pytest.approx(vil, rel=1e-3 if code == 254 else 1e-12)


def test_score_levels_are_the_six_levels_of_aviation_weather():
    levels = codec.decode(np.array(codec.SCORE_CODES, dtype=np.uint8))
    np.testing.assert_allclose(levels, [0.154, 0.775, 3.53, 7.07, 12.14, 32.23], rtol=5e-3)


def test_encoding_undoes_decoding_on_every_code_that_is_kept():
    np.testing.assert_array_equal(codec.encode(codec.decode(KEPT)), KEPT)


def test_weak_echo_codes_are_never_written():
    assert not np.isin(codec.encode(np.linspace(0.0, 0.1, 1001)), [1, 2, 3, 4, 5]).any()


def test_encoding_saturates_and_keeps_missing_apart_from_zero():
    np.testing.assert_array_equal(codec.encode(np.array([np.nan, -1.0, 0.0, 1e4])), [255, 0, 0, 254])


def test_missing_decodes_to_nan_in_numpy_and_torch():
    assert np.isnan(codec.decode(CODES)[255]) and not np.isnan(codec.decode(CODES)[:255]).any()
    np.testing.assert_array_equal(decode_codes(torch.from_numpy(CODES)).numpy(), codec.decode(CODES))


def test_code_scale_is_the_code_over_255_at_every_code_that_is_kept():
    codes = KEPT[:-1]
    v = to_code_scale(torch.from_numpy(codec.DECODE_TABLE[codes].copy()))
    np.testing.assert_allclose(v.numpy() * 255.0, codes, atol=1e-9)


def test_code_scale_is_strictly_increasing_and_inverts_exactly():
    v = torch.linspace(0.0, 254.0 / 255.0, 20001, dtype=torch.float64)
    vil = from_code_scale(v)
    assert (vil.diff() > 0).all()
    torch.testing.assert_close(to_code_scale(vil), v, rtol=0.0, atol=1e-12)


def test_numpy_and_torch_hold_the_same_scale():
    vil = np.r_[np.linspace(0.0, 0.3, 4001), np.geomspace(0.3, 79.0, 4001)]
    np.testing.assert_allclose(
        to_code_scale(torch.from_numpy(vil)).numpy() * 255.0, codec.continuous_code(vil), atol=1e-9
    )
    code = np.linspace(0.0, 254.0, 5001)
    np.testing.assert_allclose(
        from_code_scale(torch.from_numpy(code / 255.0)).numpy(), codec.vil_of_code(code), rtol=1e-9
    )


@pytest.mark.parametrize("code", [3.0, 12.0, 18.5, 100.0, 250.0])
def test_gradient_of_the_inverse_is_one_over_the_gradient(code):
    v = torch.tensor(code / 255.0, dtype=torch.float64, requires_grad=True)
    vil = from_code_scale(v)
    (forward,) = torch.autograd.grad(vil, v)
    back = vil.detach().requires_grad_()
    (backward,) = torch.autograd.grad(to_code_scale(back), back)
    assert float(forward * backward) == pytest.approx(1.0, abs=1e-10)


def test_gradients_are_finite_where_there_is_no_echo():
    vil = torch.zeros(3, dtype=torch.float32, requires_grad=True)
    (gradient,) = torch.autograd.grad(to_code_scale(vil).sum(), vil)
    torch.testing.assert_close(gradient, torch.full((3,), 6 / (4 / 90.66) / 255))


def test_values_beyond_the_scale_are_held_and_missing_passes_through():
    out = from_code_scale(torch.tensor([-0.3, 1.2, math.nan], dtype=torch.float64))
    assert out[0] == 0.0 and float(out[1]) == pytest.approx(codec.LARGEST_VIL) and torch.isnan(out[2])
