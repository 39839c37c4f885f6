"""Checks that compare observations with each other: copies, thinning and the withheld part.

They see only what passed every check of a single observation, and choose by what observations are (id,
error, value) or by noise keyed by their ids, never by their order.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from cycler_da.noise import Noise
from cycler_da.obs.duplicates import Tolerance, first_of_each, groups_of_copies, numbered, thinning_boxes
from cycler_da.obs.qc_checks import Case, Verdict, nothing
from cycler_da.obs.withholding import regions, systematic_part
from cycler_da.times import parse_duration

if TYPE_CHECKING:
    from jaxtyping import Float


def is_copy(case: Case) -> Verdict:
    """Copies of an observation that stays: the one with the smallest error, then id and value."""
    table, settings = case.table, case.settings
    some = np.flatnonzero(case.alive)
    seconds = parse_duration(settings.duplicate_time) / np.timedelta64(1, "s")
    group = groups_of_copies(
        table.kind[some],
        ids=table.id[some],
        sources=[table.stream[some], table.station[some]],
        index=table.index[some],
        seconds=table.seconds[some],
        grid=table.grid,
        tolerance=Tolerance(settings.duplicate_distance, float(seconds)),
    )
    # What settles the choice belongs to the observations; only exact copies are left to their order.
    rank = [column[some] for column in (table.error, table.id, table.value, table.stream)]
    stays, keeper = first_of_each(group, rank=rank)
    fails, kept = _spread_out(case, some, ~stays, some[keeper])
    return Verdict(fails, lambda i: f"duplicate of {table.id[kept[i]]}, which stays")


def is_thinned(case: Case) -> Verdict:
    """All but one of each stream and variable in every box."""
    table, edge = case.table, case.settings.thinning_box
    if edge is None:
        return nothing(case)
    some = np.flatnonzero(case.alive)
    box = thinning_boxes(table.index[some], edge=edge, grid=table.grid)
    group = numbered([table.batch_kind[some], box])
    draw = keyed_draws(table.id[some], noise=case.noise, stream="qc.thinning")
    stays, keeper = first_of_each(group, rank=[draw, table.id[some]])
    fails, kept = _spread_out(case, some, ~stays, some[keeper])
    return Verdict(fails, lambda i: f"thinned: {table.id[kept[i]]} stays in this box of edge {edge:g}")


def is_withheld(case: Case) -> Verdict:
    """A fixed part of every stream and variable, spread over the regions, kept back to verify with."""
    table, fraction = case.table, case.settings.withheld_fraction
    if not fraction:
        return nothing(case)
    some = np.flatnonzero(case.alive)
    draw = keyed_draws(table.id[some], noise=case.noise, stream="qc.withheld")
    region = regions(table.index[some], table.grid)
    chosen = np.zeros(len(some), dtype=bool)
    for number in np.unique(table.batch_kind[some]):
        own = np.flatnonzero(table.batch_kind[some] == number)
        first = some[own[0]]
        uniform = case.noise.generator(f"qc.withheld.{table.stream[first]}.{table.variable[first]}").random(2)
        chosen[own] = systematic_part(
            region[own], draw=draw[own], fraction=fraction, rounding=uniform[0], start=uniform[1]
        )
    fails, _ = _spread_out(case, some, chosen, some)
    return Verdict(fails, lambda i: f"withheld for verification ({fraction:.3g} of {table.variable[i]})")


def keyed_draws(ids: np.ndarray, *, noise: Noise, stream: str) -> Float[np.ndarray, "obs"]:
    """Uniform draws in [0, 1), each a function of the noise, the stream and one observation's id alone."""
    key = noise.generator(stream).bytes(32)
    digests = [hashlib.blake2b(str(one).encode(), key=key, digest_size=8).digest() for one in ids]
    return np.asarray([int.from_bytes(digest, "little") for digest in digests], dtype=np.float64) / 2.0**64


def _spread_out(case: Case, some: np.ndarray, fails: np.ndarray, keeper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Results for the observations `some`, placed among all of them."""
    all_fails, all_keepers = np.zeros(len(case.table), dtype=bool), np.zeros(len(case.table), dtype=np.int64)
    all_fails[some], all_keepers[some] = fails, keeper
    return all_fails, all_keepers
