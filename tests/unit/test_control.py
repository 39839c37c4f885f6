"""The control variable of radar: errors on the code scale and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.control import CodeScale, control_of, verified_variables
from cycler_da.layout import Axis, Grid, Layout, Variable
from cycler_da.obs.base import QC, Locations, ObsBatch, Observations
from cycler_da.obs.points import CellSpec
from cycler_da.systems.code_scale import to_code_scale

TIME = np.datetime64("2020-01-01T00:00", "s")
LAYOUT = Layout(
    "sevir",
    (Variable("vil", "kg m-2", "VIL", valid_min=0.0),),
    Grid((Axis("y", 8, 3000.0), Axis("x", 8, 3000.0))),
    np.timedelta64(600, "s"),
)


def observed(values: torch.Tensor, errors: torch.Tensor) -> Observations:
    n = len(values)
    batch = ObsBatch(
        stream="pixels",
        operator=CellSpec().build(LAYOUT),
        where=Locations(torch.zeros((n, 2), dtype=torch.float64), torch.zeros(n, dtype=torch.int64)),
        values=values,
        error=errors,
        times=np.full(n, TIME),
        ids=np.array([f"o{i}" for i in range(n)]),
        flags=torch.full((n,), int(QC.USED), dtype=torch.int32),
    )
    return Observations((batch,), LAYOUT)


def test_an_error_drawn_on_the_code_scale_is_read_back_from_kg_per_square_metre():
    control = CodeScale(LAYOUT)
    vil = torch.tensor([0.0, 0.02, 0.1, 0.3, 1.0, 5.0, 30.0], dtype=torch.float64)
    z = torch.tensor([1.0, -0.5, 0.3, -1.0, 0.0, 2.0, -2.0], dtype=torch.float64)
    seen, errors = control.perturb(vil, torch.full_like(vil, 0.0157), z)
    read = control.observations(observed(seen, errors))
    torch.testing.assert_close(read.error_variance.sqrt(), torch.full_like(vil, 0.0157))
    torch.testing.assert_close(read.values, (to_code_scale(vil) + 0.0157 * z).clamp(min=0.0))


def test_what_an_error_would_bring_below_no_echo_is_no_echo():
    seen, errors = CodeScale(LAYOUT).perturb(
        torch.zeros(1, dtype=torch.float64), torch.full((1,), 0.0157, dtype=torch.float64), torch.tensor([-2.0])
    )
    assert float(seen) == 0.0
    assert 0.02 < float(errors) < 0.05  # kg m-2


def test_in_strong_echo_four_codes_are_a_tenth_of_vil():
    seen, errors = CodeScale(LAYOUT).perturb(
        torch.tensor([20.0], dtype=torch.float64),
        torch.full((1,), 0.0157, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
    )
    assert float(errors / seen) == pytest.approx(0.0157 * 255 / 38.9, rel=1e-3)


def test_radar_is_scored_in_both_variables_and_other_systems_in_one():
    assert verified_variables(control_of("sevir", LAYOUT)) == ("vil", "vil_code")
    assert verified_variables(control_of("two_layer_qg", LAYOUT)) == ("vil",)
