"""The benchmark `lorenz_masf`: its networks observe what they say, its parts of a twin are parts."""

from __future__ import annotations

import pytest
import torch

from cycler_da.bench.small_systems.lorenz_masf import QUICK, climatology_rows, part_of, run_of, score_rows, scored
from cycler_da.bench.small_systems.lorenz_masf_cases import CASES, Listed, Timed, methods, searched
from cycler_da.schemes.enkf import EnkfSpec


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_observations_are_the_named_values_of_the_truth_with_their_error(case):
    twin = case.twin(2, 3, seed=1)
    network, layout = case.network(), twin.layout
    truth = twin.truth[:, 1:].flatten(0, 1)
    wanted = truth[:, list(network.variables), list(network.cells)]
    if case.is_curved:
        wanted = torch.atan(wanted / {"lorenz63": 8.0, "lorenz96": 4.0}[case.system])
    torch.testing.assert_close(network.operator(truth, network.where(layout), layout), wanted)
    left = (twin.values.flatten(0, 1) - wanted) / network.error
    # 6 to 60 times 2 to 20 standard normal numbers.
    assert 0.4 < float(left.square().mean().sqrt()) < 1.6


def test_a_part_of_a_twin_begins_as_the_whole_does():
    twin = CASES[0].twin(3, 4, seed=2)
    part = part_of(twin, 2, 3)
    assert part.truth.shape[:2] == (2, 4) and part.values.shape[:2] == (2, 3) and part.n_trials == 2
    assert torch.equal(part.values, twin.values[:2, :3]) and torch.equal(part.truth, twin.truth[:2, :4])


def test_an_ensemble_kalman_filter_beats_the_climate_and_its_seconds_are_counted():
    case = CASES[0]
    twin, timed = case.twin(2, QUICK.cycles, seed=3), Timed(EnkfSpec())
    sums = [of_trial[0] for of_trial in scored(run_of(case, "EnKF", Listed(timed), twin), QUICK.cycles - 1)]
    rmse = next(row.value for row in score_rows(case.name, "EnKF", sums) if row.metric == "RMSE")
    climate = next(row.value for row in climatology_rows(case, twin, QUICK) if row.metric == "RMSE")
    assert rmse < 0.6 * climate
    assert timed.count == 2 * QUICK.cycles and timed.seconds > 0


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_method_of_a_case_has_a_scheme_of_its_own(case):
    chosen = {name: method.make(*method.start) for name, method in searched(case).items()}
    listed = methods(case, chosen)
    specs = [repr(method.spec) for method in listed.values()]
    assert len(set(specs)) == len(specs)
    assert ("MASF, fine-tuned, augmented" in listed) == case.is_curved
