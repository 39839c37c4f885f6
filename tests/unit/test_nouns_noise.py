"""Keyed noise: the same key gives the same bytes, any other key other bytes, any split the same ensemble."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cycler_da.noise import SHARED, Noise

NOISE = Noise(seed=7, cycle=1_577_836_800)


def philox_4x64_10(counter: int, key: int) -> list[int]:
    """Four words of Philox4x64 with ten rounds, from the text of Salmon et al. (2011), section 3.3 and table 2."""
    word = (1 << 64) - 1
    c = [(counter >> (64 * i)) & word for i in range(4)]
    k = [key & word, key >> 64]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ k[0], second & word, (first >> 64) ^ c[3] ^ k[1], first & word]
        k = [(k[0] + 0x9E3779B97F4A7C15) & word, (k[1] + 0xBB67AE8584CAA73B) & word]
    return c


def test_raw_words_equal_philox_with_the_documented_key():
    digest = hashlib.blake2b(b"7|1577836800|background|3|2", digest_size=16).digest()
    key = int.from_bytes(digest, "little")
    expected = philox_4x64_10(1, key) + philox_4x64_10(2, key)  # numpy counts from one
    raw = NOISE.generator("background", member=3, step=2).bit_generator.random_raw(8)
    assert [int(word) for word in raw] == expected


def test_known_words_of_one_key():
    # Regression values: with them a chain made years ago can be made again. They may never change.
    raw = NOISE.generator("background", member=3, step=2).bit_generator.random_raw(2)
    assert [f"{int(word):016x}" for word in raw] == ["0c1e448eb87ac12c", "03b4de4b21aa9a7d"]


def test_known_normal_draws_of_one_key():
    # numpy may change how normals are made from words; then this fails and the changelog has to say so.
    draws = NOISE.normal("background", (2,), members=[3], step=2, dtype=torch.float64)
    assert [value.hex() for value in draws[0].tolist()] == ["-0x1.6b21bf378b96ap-2", "0x1.67652dd50e21dp-3"]


keys = st.tuples(
    st.integers(0, 2**63),
    st.integers(-(2**40), 2**40),
    st.text(max_size=8),
    st.integers(-1, 10**6),
    st.integers(0, 10**6),
)


def words(key: tuple) -> list[int]:
    seed, cycle, stream, member, step = key
    return Noise(seed, cycle).generator(stream, member=member, step=step).bit_generator.random_raw(4).tolist()


@given(keys, keys)
def test_streams_are_equal_exactly_when_every_part_of_the_key_is(one, other):
    assert (words(one) == words(other)) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        (8, 0, "a", 0, 0),
        (7, 1, "a", 0, 0),
        (7, 0, "b", 0, 0),
        (7, 0, "a", 1, 0),
        (7, 0, "a", 0, 1),
        (7, 0, "a", SHARED, 0),
        (70, 0, "a", 0, 0),  # digits may not wander from one part to the next
        (7, 0, "a|0", 0, 0),
    ],
)
def test_each_part_of_the_key_matters(other):
    assert words((7, 0, "a", 0, 0)) != words(other)


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=12, unique=True), st.data())
def test_any_split_of_the_members_gives_the_same_bytes(members, data):
    cut = data.draw(st.integers(0, len(members)))
    whole = NOISE.normal("s", (2, 3), members=members, dtype=torch.float32)
    parts = [NOISE.normal("s", (2, 3), members=part, dtype=torch.float32) for part in (members[:cut], members[cut:])]
    assert torch.equal(torch.cat(parts), whole)


def test_the_order_of_members_only_orders_the_rows():
    forward = NOISE.normal("s", (4,), members=[0, 1, 2], dtype=torch.float64)
    backward = NOISE.normal("s", (4,), members=[2, 1, 0], dtype=torch.float64)
    assert torch.equal(forward, backward.flip(0))


def test_noise_of_a_cycle_is_keyed_by_its_valid_time():
    assert Noise.of_cycle(7, np.datetime64("2020-01-01T00:00:00")) == NOISE


def test_single_precision_is_the_rounded_double_draw():
    double = NOISE.normal("s", (64,), members=range(4), dtype=torch.float64)
    single = NOISE.normal("s", (64,), members=range(4), dtype=torch.float32)
    assert torch.equal(single, double.to(torch.float32))


def test_shared_draws_are_those_of_no_member():
    shared = NOISE.shared_normal("s", (5,), dtype=torch.float64)
    assert torch.equal(shared, NOISE.normal("s", (5,), members=[SHARED], dtype=torch.float64)[0])


def test_draws_are_standard_normal_and_uncorrelated_over_members_and_steps():
    n_members, n_draws = 8, 20_000
    draws = torch.cat(
        [NOISE.normal("s", (n_draws,), members=range(n_members), step=step, dtype=torch.float64) for step in range(2)]
    ).numpy()
    # Five standard errors: 1/sqrt(n) of a mean or correlation, sqrt(2/n) of a variance, sqrt(96/n) of a 4th moment.
    error = 5 / np.sqrt(n_draws)
    assert np.abs(draws.mean(axis=1)).max() < error
    assert np.abs(draws.var(axis=1) - 1).max() < np.sqrt(2) * error
    assert np.abs((draws**4).mean(axis=1) - 3).max() < np.sqrt(96) * error
    correlation = np.corrcoef(draws) - np.eye(2 * n_members)
    assert np.abs(correlation).max() < error


@pytest.mark.parametrize("shape", [(1,), (3, 1), (7,), (64, 5)])
def test_draws_of_many_members_are_those_of_a_generator_opened_for_each(shape):
    members = (9, 3, 3, 2**40)
    together = NOISE.normal("background", shape, members=members, step=1, dtype=torch.float64)
    alone = [NOISE.generator("background", member=m, step=1).standard_normal(shape) for m in members]
    assert torch.equal(together, torch.from_numpy(np.stack(alone)))
