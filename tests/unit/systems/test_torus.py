"""Systems on the torus of length 2 pi: one layout, and no years."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cycler_da.errors import ConfigError
from cycler_da.generative.weights import read_card
from cycler_da.noise import Noise
from cycler_da.systems.kolmogorov import KolmogorovSpec
from cycler_da.systems.stochastic_ns import StochasticNSSpec

SPECS = {"kolmogorov": KolmogorovSpec(), "stochastic_ns": StochasticNSSpec()}


@pytest.mark.parametrize("name", SPECS)
def test_the_layout_is_that_of_the_released_weights(name, repository: Path):
    folder = next((repository / "data" / "weights" / name).iterdir())
    SPECS[name].layout().require_same(read_card(folder).layout, what=name)
    axis = SPECS[name].layout().grid.axes[0]
    assert axis.size * axis.spacing == pytest.approx(2.0 * math.pi)
    assert SPECS[name].layout().step < np.timedelta64(1, "h")


@pytest.mark.parametrize("name", SPECS)
def test_a_spin_up_in_years_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} has no years: got spin_up_years 1.5"):
        SPECS[name].spun_up(Noise(0), members=range(1), years=1.5)
