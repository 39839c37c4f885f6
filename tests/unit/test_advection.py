"""Echo motion and advection: known translations, exact ramps, no wrap-around, masks that move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.advection import (
    FlowSettings,
    advect,
    advect_history,
    advect_history_masked,
    advect_masked,
    block_flow,
    has_source,
)
from cycler_da.errors import ConfigError


def blobs(shift_y: float, shift_x: float, *, size: int = 64, seed: int = 0) -> torch.Tensor:
    """Smooth echo, known everywhere on the plane, moved by a fraction of a pixel without interpolation."""
    draw, n = np.random.default_rng(seed), size**2 // 68
    centres, widths, heights = draw.uniform(-10, size + 10, (n, 2)), draw.uniform(2, 5, n), draw.uniform(0.2, 0.8, n)
    y, x = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    field = np.zeros((size, size))
    for (cy, cx), width, height in zip(centres, widths, heights, strict=True):
        field += height * np.exp(-((y - shift_y - cy) ** 2 + (x - shift_x - cx) ** 2) / (2 * width**2))
    return torch.from_numpy(field.clip(0, 1)).float()


def moving(dy: float, dx: float, *, n: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.stack([blobs(dy * k, dx * k, seed=seed) for k in range(n)])[None]


def constant_flow(dy: float, dx: float, size: int = 64) -> torch.Tensor:
    return torch.tensor([dy, dx]).reshape(1, 2, 1, 1).expand(1, 2, size, size)


@pytest.mark.parametrize("motion", [(0.0, 0.0), (2.0, -3.0), (1.4, 2.7), (-4.3, 0.5), (7.0, 6.0)])
@pytest.mark.parametrize("n", [2, 3])
def test_a_known_translation_is_found_to_a_tenth_of_a_pixel(motion, n):
    flow = block_flow(moving(*motion, n=n))
    error = (flow - constant_flow(*motion)).abs()
    assert float(error.max()) < 0.1


def test_each_entry_of_a_batch_has_its_own_motion():
    frames = torch.cat([moving(2.0, 1.0), moving(-1.0, 3.0, seed=5)])
    together = block_flow(frames)
    torch.testing.assert_close(together, torch.cat([block_flow(frames[:1]), block_flow(frames[1:])]))


def test_regions_that_move_apart_have_their_own_motion():
    size = 128
    frames = torch.zeros(1, 3, size, size)
    for k in range(3):
        frames[0, k, :, :64] = blobs(2.0 * k, 0.0, size=size)[:, :64]
        frames[0, k, :, 64:] = blobs(-2.0 * k, 0.0, size=size, seed=1)[:, 64:]
    flow = block_flow(frames)[0, 0]
    # The common motion is zero here and draws weak echo towards it a little.
    assert float((flow[16:-16, 16:40] - 2.0).abs().max()) < 0.2
    assert float((flow[16:-16, 88:-16] + 2.0).abs().max()) < 0.2


def test_where_there_is_no_echo_the_motion_is_the_common_one():
    frames = torch.zeros(1, 3, 64, 64)
    for k in range(3):  # echo in the west only, whole in every frame
        frames[0, k, 10 + 3 * k : 34 + 3 * k, 8 - 2 * k : 32 - 2 * k] = blobs(0.0, 0.0)[20:44, 20:44]
    flow = block_flow(frames)
    torch.testing.assert_close(flow[0, :, :, 56:].mean(dim=(1, 2)), torch.tensor([3.0, -2.0]), rtol=0.0, atol=0.1)


def test_no_echo_at_all_gives_no_motion():
    assert float(block_flow(torch.zeros(1, 3, 64, 64)).abs().max()) == 0.0


def test_missing_pixels_do_not_disturb_the_motion():
    frames, missing = moving(2.0, 1.0), torch.zeros(1, 3, 64, 64, dtype=torch.bool)
    missing[..., 20:34, 25:50] = True  # stands still while the echo moves
    frames = torch.where(missing, torch.full_like(frames, float("nan")), frames)
    assert float((block_flow(frames, missing=missing) - constant_flow(2.0, 1.0)).abs().mean()) < 0.1


def test_a_linear_ramp_is_carried_exactly():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    ramp = 0.3 * y - 0.2 * x + 1.0
    carried = advect(ramp[None, None], constant_flow(1.25, -2.5), steps=2)[0, 0]
    expected = ramp - 0.3 * 2.5 + 0.2 * (-5.0)
    # Away from the inflow edges; the rest is rounding of positions in float32.
    torch.testing.assert_close(carried[3:, :-5], expected[3:, :-5], rtol=0.0, atol=1e-4)


def test_a_rotation_carries_a_ramp_along_circles():
    size, omega = 65, 0.02  # rad per step
    y, x = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    flow = omega * torch.stack([x, -y])[None]
    carried = advect(x[None, None], flow, steps=5)[0, 0]
    expected = x * np.cos(5 * omega) + y * np.sin(5 * omega)  # x at the departure point
    inner = slice(12, size - 12)
    # The mid-point rule errs by (steps omega)^3 / 12 of the radius, 20 px at most here.
    assert float((carried - expected)[inner, inner].abs().max()) < 30 * (5 * omega) ** 3 / 12


def test_nothing_comes_back_on_the_other_side():
    field = torch.zeros(1, 1, 32, 32)
    field[..., 24:, :] = 1.0
    carried = advect(field, constant_flow(16.0, 0.0, 32))
    assert float(carried.abs().max()) == 0.0


def test_inflow_repeats_the_edge_and_is_marked():
    field = torch.arange(32.0).reshape(1, 1, 1, 32).expand(1, 1, 32, 32) + 5.0
    flow = constant_flow(0.0, 4.0, 32)
    assert torch.equal(advect(field, flow)[0, 0, :, :4], torch.full((32, 4), 5.0))
    assert torch.equal(has_source(flow)[0], (torch.arange(32) >= 4).expand(32, 32))


def test_the_mask_moves_with_the_echo_and_missing_is_never_mixed_in():
    field, missing = torch.full((1, 1, 32, 32), 0.7), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    missing[..., 10:14, 10:14] = True
    field[missing] = float("nan")
    values, moved = advect_masked(field, missing, constant_flow(3.0, 2.0, 32))
    assert torch.equal(moved[0, 0].nonzero(), missing[0, 0].nonzero() + torch.tensor([3, 2]))
    torch.testing.assert_close(values[~moved], torch.full_like(values[~moved], 0.7))


def test_advected_history_agrees_with_the_frame_that_comes():
    frames = moving(2.0, -1.0, n=4)
    history = advect_history(frames[:, :3], constant_flow(2.0, -1.0))
    inner = (slice(None), slice(None), slice(8, None), slice(None, -4))
    expected = frames[:, 3:].expand(-1, 3, -1, -1)
    torch.testing.assert_close(history[inner], expected[inner], rtol=0.0, atol=1e-5)


def test_history_with_masks_is_the_plain_history_where_nothing_is_missing():
    frames, flow = moving(1.5, -0.5), constant_flow(1.5, -0.5)
    values, missing = advect_history_masked(frames, torch.zeros_like(frames, dtype=torch.bool), flow, lead=2)
    assert not missing.any()
    torch.testing.assert_close(values, advect_history(frames, flow, lead=2))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError):
        FlowSettings(pool=4)
