"""DAPPER's code and ours on the same ensemble, truth and observations; skipped where DAPPER is not installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cycler_da.bench.small_systems.dapper import TIME, draw_start, make_network
from cycler_da.bench.small_systems.dapper_cases import HALF_WIDTH, LORENZ96
from cycler_da.bench.small_systems.dapper_side_by_side import PAIRS, run_both
from cycler_da.ensemble import Ensemble
from cycler_da.noise import Noise
from cycler_da.schemes.base import Prior, SchemeContext
from cycler_da.schemes.etkf import EtkfSpec
from cycler_da.schemes.letkf import LetkfSpec

pytestmark = pytest.mark.slow

LAYOUT = LORENZ96.system.layout()


@pytest.fixture(scope="module")
def dapper():
    return pytest.importorskip("dapper", reason="DAPPER is not installed: pip install 'cycler-da[peers]'")


@pytest.fixture(scope="module")
def hmm(dapper):
    from dapper.mods.Lorenz96.sakov2008 import HMM

    return HMM.copy()


def our_analysis(spec, members, values):
    network = make_network(LORENZ96, LAYOUT)
    observations = type(network)((type(network.batches[0])(**{**vars(network.batches[0]), "values": values}),), LAYOUT)
    background = Ensemble(members[:, None], TIME, tuple(range(len(members))), LAYOUT)
    scheme = spec.build(SchemeContext(LAYOUT))
    return scheme.analyse(Prior(background), observations, noise=Noise(1), carry={}).ensemble.latest[:, 0]


@pytest.fixture
def members():
    return draw_start(LORENZ96, 3, "members", range(12), around=3 * torch.randn(1, 40, dtype=torch.float64))


@pytest.fixture
def values():
    return 3 * torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_etkf_is_dappers_to_rounding(dapper, hmm, members, values):
    from dapper.da_methods.ensemble import EnKF_analysis

    ensemble = members[:, 0].numpy().copy()
    theirs = EnKF_analysis(ensemble, ensemble.copy(), hmm.Obs(0).noise, values.numpy(), "Sqrt")
    ours = our_analysis(EtkfSpec(inflation=1.0), members, values)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-10)


def test_the_letkf_is_dappers_but_for_the_tapers_that_it_cuts_off(dapper, hmm, members, values):
    from dapper.da_methods.ensemble import local_analyses
    from dapper.tools.localization import nd_Id_localization

    ensemble = members[:, 0].numpy().copy()
    batches, taper = nd_Id_localization((40,), (1,))(4, "x2y", "GC")
    theirs, _ = local_analyses(ensemble, ensemble.copy(), hmm.Obs(0).noise.C, values.numpy(), batches, taper)
    ours = our_analysis(LetkfSpec(inflation=1.0, localization_radius_cells=4 * HALF_WIDTH), members, values)
    # Tapers below 0.001 are zero there: a change of a thousandth of an observation's weight, innovations of about 4.
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=4e-3)


@pytest.mark.parametrize("pair", PAIRS[:2], ids=lambda pair: pair.method)
def test_both_codes_make_the_same_errors_on_the_same_truth_and_observations(dapper, pair):
    ours, theirs = run_both(pair, 1)
    # The scatter of one run of this length is 5 to 10 % of its mean; two runs share most of it.
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.15)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.5
