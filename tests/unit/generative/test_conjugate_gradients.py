"""Batched conjugate gradients against dense solves."""

from __future__ import annotations

import pytest
import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.conjugate_gradients import solve
from cycler_da.noise import Noise


def systems(n_rows: int, n: int) -> torch.Tensor:
    root = Noise(1).shared_normal("root", (n_rows, n, n), dtype=torch.float64)
    return root @ root.mT + 0.1 * torch.eye(n, dtype=torch.float64)


def rights(n_rows: int, n: int) -> torch.Tensor:
    return Noise(2).shared_normal("right", (n_rows, n), dtype=torch.float64)


def test_every_row_solves_its_own_system():
    matrices, right = systems(4, 12), rights(4, 12)
    solved = solve(lambda v: (matrices @ v[:, :, None])[:, :, 0], right, diagonal=matrices.diagonal(dim1=1, dim2=2))
    expected = torch.linalg.solve(matrices, right)
    # Relative residual 1e-10 times the condition of these systems, about 1e3.
    torch.testing.assert_close(solved, expected, rtol=1e-6, atol=1e-7)
    left = (matrices @ solved[:, :, None])[:, :, 0] - right
    assert bool((left.norm(dim=1) <= 1.01e-10 * right.norm(dim=1)).all())


def test_a_row_does_not_depend_on_what_it_is_solved_with():
    easy, hard = torch.eye(12, dtype=torch.float64)[None], systems(1, 12)
    matrices, right = torch.cat([easy, hard]), rights(2, 12)
    ones = torch.ones_like(right)
    together = solve(lambda v: (matrices @ v[:, :, None])[:, :, 0], right, diagonal=ones)
    alone = solve(lambda v: (easy @ v[:, :, None])[:, :, 0], right[:1], diagonal=ones[:1])
    assert torch.equal(together[:1], alone)


def test_a_zero_right_side_has_the_zero_solution():
    zero = torch.zeros(2, 5, dtype=torch.float64)
    assert torch.equal(solve(lambda v: v, zero, diagonal=zero + 1.0), zero)


def test_an_iteration_that_does_not_converge_says_how_far_it_came():
    matrices, right = systems(1, 12), rights(1, 12)
    with pytest.raises(AnalysisFailed, match=r"relative residual of .* in 3 iterations"):
        solve(lambda v: (matrices @ v[:, :, None])[:, :, 0], right, diagonal=torch.ones_like(right), most_iterations=3)
