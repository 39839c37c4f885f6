"""Starts: what the first ensemble is made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.control import SameVariable
from cycler_da.ensemble import Ensemble
from cycler_da.errors import ConfigError, LayoutMismatch
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.noise import Noise
from cycler_da.start import ClimateSpec, LaggedNatureSpec, StartRequest
from cycler_da.systems.lorenz96 import Lorenz96Spec

STEP = np.timedelta64(600, "s")
LAYOUT = Layout("toy", (Variable("a", "1", "toy"),), Grid((Axis("x", 4),)), STEP)
TIME = np.datetime64("2020-01-01T01:00", "s")


class Counting:
    """Nature whose state at minute m is m everywhere, but for one cell that nobody sees."""

    layout = LAYOUT

    def states(self, times):
        minutes = (times - np.datetime64("2020-01-01T00:00", "s")) / np.timedelta64(60, "s")
        values = torch.from_numpy(minutes).float()[:, None, None].expand(-1, 1, 4).clone()
        values[..., 2] = torch.nan
        return values


class Adding:
    """Forecast that adds 10 and the member's own noise each step, and reads three frames."""

    layout, history, digest = LAYOUT, 3, "adding"

    def forecast(self, start, valid_times, *, noise):
        assert len(start.valid_times) == 3
        state, kept = start.latest, []
        for step in range(len(valid_times)):
            draws = noise.normal("x", LAYOUT.state_shape, members=start.members, step=step, dtype=torch.float32)
            state = state + 10.0 + 0.1 * draws
            kept.append(state)
        return Ensemble(torch.stack(kept, dim=1), valid_times, start.members, start.layout)


def request(**changes) -> StartRequest:
    settings = {"members": 5, "history": 3, "nature": Counting(), "model": Adding(), **changes}
    return StartRequest(time=TIME, control=SameVariable(LAYOUT), noise=Noise(1), **settings)


def test_a_lagged_start_is_a_forecast_from_the_frames_that_nature_had():
    start = LaggedNatureSpec(steps=1).ensemble(request())
    assert start.valid_times.tolist() == (TIME - STEP * np.arange(2, -1, -1)).tolist()
    assert start.members == (0, 1, 2, 3, 4)
    assert torch.equal(start.values[:, :2, 0, 0], torch.tensor([40.0, 50.0]).expand(5, 2))
    last = start.values[:, 2, 0, 0]
    torch.testing.assert_close(last, torch.full((5,), 60.0), rtol=0.0, atol=0.6)  # six standard deviations
    assert float(last.std()) > 0.01


def test_with_a_lag_of_the_whole_history_no_frame_is_a_true_one():
    start = LaggedNatureSpec(steps=3).ensemble(request())
    assert bool((start.values.std(dim=0) > 0).all())


def test_what_nature_does_not_know_counts_as_zero():
    start = LaggedNatureSpec(steps=1).ensemble(request())
    assert torch.equal(start.values[:, :2, 0, 2], torch.zeros(5, 2))
    assert bool(start.values.isfinite().all())


def test_the_start_of_a_member_does_not_depend_on_how_many_there_are():
    few, many = (LaggedNatureSpec(steps=2).ensemble(request(members=n)) for n in (2, 5))
    assert torch.equal(few.values, many.values[:2])


def test_a_lagged_start_without_nature_or_lag_is_refused():
    with pytest.raises(ConfigError, match="needs a nature run"):
        LaggedNatureSpec().ensemble(request(nature=None))
    with pytest.raises(ConfigError, match="expected 1 or more"):
        LaggedNatureSpec(steps=0)


def test_a_climate_start_is_the_spun_up_state_and_the_steps_after_it():
    system = Lorenz96Spec()
    wanted = StartRequest(time=TIME, members=3, history=2, control=SameVariable(system.layout()), noise=Noise(1))
    start = ClimateSpec(system={"kind": "lorenz96"}).ensemble(wanted)
    spun_up = system.spun_up(Noise(1), members=range(3))
    expected = torch.stack([spun_up, system.build().step(spun_up)], dim=1).float()
    assert torch.equal(start.values, expected)
    assert start.valid_times.tolist() == wanted.times.tolist()


def test_a_climate_start_of_another_system_is_refused():
    with pytest.raises(LayoutMismatch, match="start climate"):
        ClimateSpec(system={"kind": "lorenz96"}).ensemble(request())
    with pytest.raises(ConfigError, match=r"start\.system"):
        ClimateSpec(system={"kind": "sevir"})
