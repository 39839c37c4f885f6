"""The background that stands in for a forecast of radar: the analysis, moved on as its echo has moved."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cycler_da.cycle.advecting import advected, is_carried
from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.systems.two_layer_qg import TwoLayerQGSpec

MINUTE = np.timedelta64(60, "s")
TIMES = np.datetime64("2019-06-01T00:00", "s") + 10 * MINUTE * np.arange(4)
SIZE, MOTION = 48, (2, 3)  # px per frame, y and x
LAYOUT = Layout(
    "radar",
    (Variable("vil_code", "1", "scaled echo"),),
    Grid(tuple(Axis(name, SIZE, spacing=3000.0) for name in "yx")),
    10 * MINUTE,
)


def echo(number: int) -> torch.Tensor:
    """A smooth storm after a number of frames; members differ by a factor."""
    y, x = (torch.arange(SIZE, dtype=torch.float64)[shape] for shape in ((slice(None), None), (None, slice(None))))
    square = (y - 14 - MOTION[0] * number) ** 2 + (x - 12 - MOTION[1] * number) ** 2
    return torch.exp(-square / 60.0) * torch.tensor([0.8, 1.0, 1.2], dtype=torch.float64)[:, None, None]


def frames(*numbers: int) -> Ensemble:
    values = torch.stack([echo(number) for number in numbers], dim=1)[:, :, None]
    return Ensemble(values, TIMES[list(numbers)], (0, 1, 2), LAYOUT)


def work(*, until: int, before: Ensemble | None = None) -> Any:
    earlier = None if before is None else before.valid_time
    return SimpleNamespace(times=lambda: TIMES[[until]], before=lambda time: earlier, frames_until=lambda time: before)


def test_the_analysis_is_where_its_echo_will_be():
    made = advected(work(until=2), frames(0, 1))
    assert made.valid_time == TIMES[2] and made.members == (0, 1, 2)
    # Motion is found to a tenth of a pixel, which moves this storm by 0.01 at most, and bilinear weights smooth it.
    torch.testing.assert_close(made.latest[:, 0], echo(2), atol=0.03, rtol=0.0)
    assert (made.latest - frames(1).latest).abs().max() > 0.3  # persistence would be far off


def test_a_window_further_away_is_reached_by_the_same_motion():
    made = advected(work(until=3), frames(0, 1))
    torch.testing.assert_close(made.latest[:, 0], echo(3), atol=0.06, rtol=0.0)


def test_a_model_that_reads_one_frame_takes_the_motion_from_the_analysis_before():
    made = advected(work(until=2, before=frames(0)), frames(1))
    torch.testing.assert_close(made.latest, advected(work(until=2), frames(0, 1)).latest, atol=0.0, rtol=0.0)


def test_one_analysis_alone_has_no_motion():
    with pytest.raises(AnalysisFailed, match="has none before it"):
        advected(work(until=1), frames(0))


def test_frames_that_are_not_equally_spaced_have_no_motion():
    with pytest.raises(AnalysisFailed, match="no motion from analyses at"):
        advected(work(until=3), replace(frames(0, 1, 2), valid_times=TIMES[[0, 1, 3]]))


def test_a_plane_with_edges_is_carried_and_a_periodic_one_is_not():
    assert is_carried(LAYOUT) and not is_carried(TwoLayerQGSpec(size=16).layout())
