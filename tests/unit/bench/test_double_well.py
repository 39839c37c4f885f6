"""The double-well benchmark: what a lasting switch is, and when members have followed it."""

from __future__ import annotations

import torch

from cycler_da.bench.small_systems.double_well import LASTING, find_switches


def path(*parts: tuple[float, int]) -> torch.Tensor:
    return torch.cat([torch.full((n,), value) for value, n in parts])[None]


def test_a_switch_is_a_passage_that_lasts():
    lasting = path((-1.0, 20), (0.1, 2), (1.0, 20))
    short = path((-1.0, 20), (1.0, LASTING - 1), (-1.0, 20))
    assert find_switches(lasting, lasting > 0).n == 1
    assert find_switches(short, short > 0).n == 0


def test_members_that_follow_late_have_a_delay_and_those_that_do_not_have_none():
    truth = path((-1.0, 20), (1.0, 20))
    late = path((-1.0, 25), (1.0, 15)) > 0
    found = find_switches(truth, late)
    assert (found.n, found.n_recovered, found.delay) == (1, 1, 5.0)
    never = find_switches(truth, torch.zeros_like(late))
    assert (never.n, never.n_recovered) == (1, 0)
