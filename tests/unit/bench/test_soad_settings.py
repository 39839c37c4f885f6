"""The windows, sensors and scores of the benchmark of SOAD's settings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cycler_da.bench.turbulence import soad_observations, soad_published
from cycler_da.bench.turbulence.soad_grid import PRINTED, cells_of
from cycler_da.bench.turbulence.soad_settings import FULL, WEIGHTS, methods, trivial
from cycler_da.bench.turbulence.soad_settings_cases import (
    CASES,
    ERROR,
    FRAMES,
    LAYOUT,
    STD,
    Case,
    background,
    observe,
    physical_to_scaled,
    scaled_to_physical,
)
from cycler_da.bench.turbulence.soad_settings_filters import interpolant_spec, letkf_spec, tune
from cycler_da.bench.turbulence.soad_settings_scores import Tried, rows_of, score_window
from cycler_da.bench.turbulence.soad_settings_windows import WindowMethods
from cycler_da.noise import Noise


def truth():
    z = torch.randn(FRAMES, *LAYOUT.state_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return scaled_to_physical(z)


def test_a_sensor_sees_the_same_cells_in_every_second_frame_with_its_error():
    states = truth()
    seen = observe(Case("II", ("arctan",), 0.0625, 2), states, Noise(1))
    assert [len(some) for some in seen] == [512 if frame % 2 == 0 else 0 for frame in range(FRAMES)]
    first, last = seen[0].batches[0], seen[8].batches[0]
    assert torch.equal(first.where.position, last.where.position)
    clean = torch.cat([some.hx(states[f : f + 1])[0] for f, some in enumerate(seen) if len(some)])
    values = torch.cat([some.values for some in seen])
    assert float((values - clean).std()) == pytest.approx(ERROR, rel=4 / math.sqrt(2 * len(values)))
    z = states[0, 0].flatten() / STD[0]
    assert float(clean[:256].abs().max()) <= math.atan(3.0001 * float(z.abs().max()))  # the scale is rounded


def test_even_cells_are_every_fourth_one():
    case = soad_observations.cases_of("II")[4]
    positions = observe(case, truth(), Noise(1))[0].batches[0].where.position
    rows = np.unique(positions[:, 0].numpy())
    assert len(positions) == 256 and len(rows) == 16
    np.testing.assert_allclose(np.diff(rows), 4 * LAYOUT.grid.axes[0].spacing)


def test_errors_of_other_laws_have_the_same_variance_and_are_others():
    cases = soad_observations.cases_of("II")
    usual, others, states = cases[0], cases[5:], truth()
    clean = torch.cat([some.hx(states[f : f + 1])[0] for f, some in enumerate(observe(usual, states, Noise(1)))])
    kurtosis = {}
    for case in others:
        every = [some for f in range(40) for some in observe(case, states, Noise(1, f))]
        error = (torch.cat([some.values for some in every]).view(40, -1) - clean).flatten() / ERROR
        assert float(error.var()) == pytest.approx(1.0, rel=0.05)
        kurtosis[case.law.name] = float((error**4).mean()) - 3.0
    assert kurtosis["laplace"] > 2.0 and kurtosis["uniform"] < -1.0 and kurtosis["lognormal"] > 3.0


def test_cases_of_observations_differ_from_the_usual_one_in_one_thing_each():
    labels = [case.label for case in soad_observations.cases_of("I")]
    assert len(set(labels)) == len(labels) == 8
    assert labels[-1] == "I: arctan, 6.25 % of cells, every 2 days, lognormal 0.5 errors"
    with pytest.raises(ValueError, match="no stride"):
        Case("I", ("arctan",), 0.3, 2, is_even=True).cells("arctan", Noise(1))


def test_all_windows_are_seen_at_the_same_places():
    one, other = (observe(Case("II", ("arctan",), 0.0625, 2), truth(), Noise(1, cycle)) for cycle in (0, 1))
    assert torch.equal(one[0].batches[0].where.position, other[0].batches[0].where.position)
    assert not torch.equal(one[0].values, other[0].values)


def test_a_background_has_a_tenth_of_the_climatology_as_its_error():
    states = truth()
    error = physical_to_scaled(background(states, Noise(1)) - states[0])
    assert float(error.std()) == pytest.approx(ERROR, rel=0.05)


def test_rmse_is_the_mean_over_frames_and_crps_is_fair():
    zero = torch.zeros(FRAMES, *LAYOUT.state_shape, dtype=torch.float64)
    members = torch.stack([zero + 1.0, zero - 1.0])
    members[:, 0] *= 3.0
    found = score_window(members, zero)
    assert found["RMSE of a member"] == pytest.approx((3.0 + FRAMES - 1) / FRAMES)
    assert found["RMSE of the mean"] == pytest.approx(0.0, abs=1e-12)
    # |x - y| is the mean distance d, members are 2 d apart: d - 2 d / 2.
    assert found["fair CRPS"] == pytest.approx(0.0, abs=1e-12)


def test_trivial_answers_of_a_setting_with_background_need_no_observation():
    states = truth()
    answers = {name: answer(states, Noise(2)) for name, answer in trivial(True).items()}
    constant = answers["background held constant"]
    assert torch.equal(constant[0, 0], constant[0, -1])
    np.testing.assert_allclose(answers["true first frame held constant"][0, 3], physical_to_scaled(states[0]))


def test_cases_have_labels_of_their_own():
    assert len({case.label for case in CASES}) == len(CASES)


def test_crps_of_several_members_is_that_of_all_their_pairs():
    members = torch.randn(5, FRAMES, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    states = torch.zeros(FRAMES, 2, 4, 4, dtype=torch.float64)
    pairs = [(members[i] - members[j]).abs().mean() for i in range(5) for j in range(5) if i != j]
    expected = float(members.abs().mean() - torch.stack(pairs).mean() / 2)
    assert score_window(members, states)["fair CRPS"] == pytest.approx(expected, rel=1e-12)


def test_scores_that_need_two_members_are_of_the_windows_that_have_them():
    truths = torch.zeros(3, FRAMES, *LAYOUT.state_shape, dtype=torch.float64)
    frames = [torch.ones(n, FRAMES, *LAYOUT.state_shape, dtype=torch.float64) for n in (2, 2, 1)]
    sizes = {row.metric: row.n for row in rows_of("case", "method", Tried(frames), truths)}
    assert sizes == {"RMSE of a member": 3, "RMSE of the mean": 2, "fair CRPS": 2, "spread": 2}


def test_options_become_the_schemes_of_the_search():
    letkf, interpolant = letkf_spec((1.5, 1.1, "regression")), interpolant_spec((6.0, 1.0, "members", 4))
    assert (letkf.localization_radius_cells, letkf.inflation, letkf.linearisation) == (1.5, 1.1, "regression")
    assert (interpolant.passes, interpolant.linearisation) == (4, "members")
    # Weights between points are interpolated only where a radius spans several of them.
    assert letkf.weight_stride == 1 and interpolant.weight_stride == 4


def test_what_was_not_searched_is_said_to_be_so():
    words = tune(CASES[0], years=0.0, is_searched=False).words()
    assert words.startswith("LETKF: radius 4.0, inflation 1.02, linearisation members (not searched); interpolant")


def test_velocities_of_both_layers_are_seen_through_one_operator_for_each_component():
    states = truth()
    some = observe(CASES[-1], states, Noise(1))[0]
    velocities = [batch for batch in some.batches if batch.stream.startswith("velocity")]
    assert [len(batch) for batch in velocities] == [512, 512]
    assert all(batch.where.channel.unique().tolist() == [0, 1] for batch in velocities)
    assert torch.equal(velocities[0].where.position[:256], velocities[0].where.position[256:])


def test_every_case_has_its_methods():
    noise = Noise(1)
    for case in CASES:
        each = [(truth(), observe(case, truth(), noise), noise)]
        names = set(methods(case, FULL, WindowMethods(WEIGHTS, 2, 2), each, tune(case, years=0.0, is_searched=False)))
        assert {"SOAD, corrected", "PDEDiff", "LETKF, learned model", "interpolant filter, learned model"} <= names
        assert ("SDA, from the background" in names) == case.has_background
        assert ("zero" in names) != case.has_background


def test_cells_of_the_grid_are_all_parts_and_intervals_with_what_is_printed_of_them():
    cells = [cell for kind in PRINTED for cell in cells_of(*kind)]
    assert len({case.label for case, _ in cells}) == len(cells) == 2 * (2 * 3 + 2) * 2
    by_label = {case.label: printed for case, printed in cells}
    assert by_label["II: sine, 25 % of cells, every 8 days"] == 1.137
    assert by_label["I: velocity, 6.25 % of cells, every day"] == 0.1414
    for case, printed in cells:  # more cells, or more days, are never worse in print
        more = [p for other, p in cells if other == Case(case.setting, case.sensors, 4 * case.part, case.interval)]
        assert all(p < printed for p in more)


def test_the_published_form_is_run_in_every_case_without_a_background():
    assert [case.setting for case in soad_published.FULL.cases] == ["II", "II", *["III"] * 4]
    result = soad_published.soad_published(True, lambda done, total, what: None)
    rows = {(row.method, row.metric): row.value for row in result.rows}
    assert rows["SOAD, printed, 256 x 256", "RMSE of a member"] == 0.470
    names = ("zero", "SOAD, Algorithm 1 in 2 steps", "SOAD, corrected")
    assert all(rows[name, "RMSE of a member"] > 0.0 for name in names)
    assert rows["SOAD, corrected", "passes"] > 0.0
