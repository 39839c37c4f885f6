"""Cells that the benchmark of births puts into clear air."""

from __future__ import annotations

import torch

from cycler_da.bench.radar.radar_birth import FOUND, HALF, cell_of, make_births


def test_a_cell_is_cut_around_the_strongest_echo_and_fades_towards_its_edge():
    field = torch.full((40, 40), 0.5)
    field[25, 12] = 0.9
    cell = cell_of(field)
    assert cell.shape == (2 * HALF + 1, 2 * HALF + 1)
    assert float(cell[HALF, HALF]) == float(field[25, 12])
    assert 0.4 < float(cell[HALF, HALF + 1]) <= 0.5 and float(cell[0, 0]) == 0.0


def test_a_born_cell_is_strong_enough_to_count_and_nothing_was_there_before(realdata, monkeypatch):
    monkeypatch.setenv("CYCLER_REALDATA", str(realdata))
    (birth,) = make_births(1)
    y, x = birth.place
    assert float(birth.truths[0, 0, y - 1 : y + 2, x - 1 : x + 2].mean()) > FOUND
    around = (slice(None), 0, slice(y - 15, y + 16), slice(max(0, x - 10), x + 11))
    assert float(birth.case.frames[around][-1].max()) == 0.0
    assert not birth.clear[y, x] and birth.clear.any()
