"""Sample experiments on disk, drawn once for all tests of figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import sample_experiment as sample

from cycler_da.plots.maps import plot_cycle


@pytest.fixture(scope="session")
def qg_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chains of two drawn cycles of QG, the first without background; the last of `letkf` is degraded."""
    return sample.write_experiment(tmp_path_factory.mktemp("qg"), sample.qg_layout(), n_cycles=2, draw=plot_cycle)


@pytest.fixture(scope="session")
def radar_cycle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One drawn cycle of radar VIL, a strip of it missing."""
    layout = sample.radar_layout()
    folder = sample.cycle_folder(tmp_path_factory.mktemp("radar"), "letkf", layout, 1)
    sample.write_cycle(folder, layout, sample.radar_fields(layout, 1))
    plot_cycle(folder, folder / "plots")
    return folder
