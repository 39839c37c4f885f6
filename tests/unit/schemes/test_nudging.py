"""Nudging: what is left of an innovation, and shared cells."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import ConfigError
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.nudging import NudgingSpec


def nudge(ensemble, observations, **options):
    scheme = NudgingSpec(**options).build(SchemeContext(ensemble.layout))
    return scheme.analyse(Prior(ensemble), observations, noise=Noise(1), carry={}).ensemble.latest


@pytest.mark.parametrize(("gain", "steps"), [(0.3, 1), (0.3, 4), (1.0, 1)])
def test_the_share_of_an_innovation_that_is_left_is_that_of_the_gain(
    gain, steps, make_layout, make_ensemble, make_observations
):
    layout = make_layout((6,))
    ensemble = make_ensemble(layout, 3)
    before, y = ensemble.latest[:, 0], torch.tensor([2.0, -1.0]).double()
    after = nudge(ensemble, make_observations(layout, [1, 4], y), gain=gain, steps=steps)[:, 0]
    left = (1 - gain) ** steps
    torch.testing.assert_close(y - after[:, [1, 4]], left * (y - before[:, [1, 4]]), rtol=0, atol=1e-14)
    assert torch.equal(after[:, [0, 2, 3, 5]], before[:, [0, 2, 3, 5]])


def test_observations_of_one_cell_share_it(make_layout, make_ensemble, make_observations):
    layout = make_layout((6,))
    ensemble = make_ensemble(layout, 3)
    after = nudge(ensemble, make_observations(layout, [2, 2, 2, 2], [0.0, 1.0, 2.0, 5.0]), gain=1.0)
    torch.testing.assert_close(after[:, 0, 2], torch.full((3,), 2.0).double(), rtol=0, atol=1e-14)


def test_one_member_is_enough(make_layout, make_ensemble, make_observations):
    layout = make_layout((6,))
    ensemble = make_ensemble(layout, 1)
    after = nudge(ensemble, make_observations(layout, [2], [3.0]), gain=1.0)
    assert float(after[0, 0, 2]) == pytest.approx(3.0, abs=1e-14)


@pytest.mark.parametrize("options", [{"gain": 0.0}, {"gain": 1.5}, {"steps": 0}])
def test_unstable_or_idle_settings_are_refused(options):
    with pytest.raises(ConfigError, match="nudging"):
        NudgingSpec(**options)
