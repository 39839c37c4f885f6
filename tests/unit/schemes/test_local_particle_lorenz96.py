"""The local particle filter follows Lorenz-96, where a particle filter with global weights loses it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cycler_da.bench.small_systems import dapper
from cycler_da.bench.small_systems.dapper import cycle_case
from cycler_da.bench.small_systems.dapper_cases import LORENZ96, Method
from cycler_da.schemes.local_particle import LocalParticleSpec
from cycler_da.schemes.particle import ParticleSpec


@pytest.mark.slow
@pytest.mark.parametrize("effective_share", [0.0, 0.5])
def test_forty_members_follow_forty_variables_with_local_weights_and_not_with_global_ones(effective_share, monkeypatch):
    monkeypatch.setattr(dapper, "CLIMATE_RUNS", (200, 10))
    spec = LocalParticleSpec(localization_radius_cells=5, analysis_inflation=1.04, effective_share=effective_share)
    methods = (Method("local", 0.0, spec, 40), Method("global", 0.0, ParticleSpec(), 40))
    found = cycle_case(replace(LORENZ96, burn_in=60, cycles=100, methods=methods), (1,))
    # 0.23 over 200 cycles of another truth; the observation error is 1, the climatological deviation 3.6.
    assert found["local"][0] < 0.4
    assert found["global"][0] > 2.0
