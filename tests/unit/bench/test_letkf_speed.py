"""The speed benchmark: both programs make the same analysis, and what it measures is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cycler_da.bench import letkf_peer, letkf_speed
from cycler_da.bench.letkf_speed import BASE, Took, grown, peak_memory
from cycler_da.bench.registry import no_progress
from cycler_da.tables import report

SMALL = replace(BASE, n=12, members=6, observations=30, half_width=2.0)


@pytest.mark.skipif(not letkf_peer.is_installed(), reason="DAPPER is not installed (extra `peers`)")
def test_our_analysis_is_dapper_s():
    states = SMALL.states().to(torch.float64)
    ours = SMALL.transform(states).apply(states)
    theirs = SMALL.peer(states).prepare()(map)
    # Rounding of two eigendecompositions.
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-11)


def test_growth_multiplies_one_thing_and_keeps_the_density_of_observations_on_larger_grids():
    members, observations, grid = grown(BASE, factors=(4,))[1:]
    assert (members.members, members.observations, members.n) == (160, 400, 64)
    assert (observations.members, observations.observations, observations.n) == (40, 1600, 64)
    assert (grid.n, grid.observations / grid.n**2) == (256, 400 / 64**2)


def test_peak_memory_is_that_of_a_process_with_torch():
    assert 0.05 < peak_memory(None) < 64


def test_peak_memory_of_a_fresh_process_is_its_own():
    held = torch.ones(50_000_000, dtype=torch.float64)  # 0.4 GB, in this process
    assert letkf_speed._apart(peak_memory, None) < peak_memory(None) - 0.9 * held.nbytes / 1e9 + 0.35
    del held


@pytest.mark.parametrize("quick", [True, False])
def test_every_number_of_the_table_has_a_name_of_its_own(quick, monkeypatch, tmp_path):
    class NoWorkers:
        def __enter__(self):
            return self

        def __exit__(self, *details):
            pass

        def map(self, function, jobs):
            return (1.0 for _ in jobs)

    monkeypatch.setattr(letkf_speed, "LocalExecutorSpec", lambda **options: type("Spec", (), {"build": NoWorkers})())
    monkeypatch.setattr(letkf_speed, "_apart", lambda function, case: (1.0, 0.5) if case else 0.3)
    monkeypatch.setattr(letkf_speed, "_time", lambda work: Took(1.0, 1.0))
    monkeypatch.setattr(letkf_speed, "_analyse", lambda case, states, mapper: torch.zeros(1))
    monkeypatch.setattr(letkf_speed.Case, "states", lambda case: torch.zeros(1))
    monkeypatch.setattr(letkf_speed.letkf_peer, "is_installed", lambda: False)
    json, _ = report.write(letkf_speed.letkf_speed(quick, no_progress), tmp_path)
    rows = report.read(json).rows
    assert len({(row.case, row.method, row.metric) for row in rows}) == len(rows) > 10
