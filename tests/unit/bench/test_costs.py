"""Costs that cycles recorded: means over all cycles after the start, chain by chain."""

from __future__ import annotations

import json

import pytest

from cycler_da.bench.costs import disk_of_a_cycle, stage_seconds


@pytest.fixture
def runs(tmp_path):
    for chain, seconds in (("letkf", (9.0, 1.0, 3.0)), ("filter", (9.0, 4.0, 4.0))):
        for k, cost in enumerate(seconds):
            folder = tmp_path / chain / "cycles" / f"20200101T00{k}0Z" / "diag"
            folder.mkdir(parents=True)
            seconds = {"assimilate": cost, "plot": 2.0 * cost}
            worked = {"assimilate": 3.0 * cost}
            (folder / "summary.json").write_text(json.dumps({"seconds": seconds, "cpu_seconds": worked}))
    return tmp_path


def test_seconds_are_means_over_all_cycles_but_the_start(runs):
    assert list(stage_seconds(runs)) == [
        ("filter", "assimilate", 4.0),
        ("filter", "plot", 8.0),
        ("letkf", "assimilate", 2.0),
        ("letkf", "plot", 4.0),
    ]


def test_seconds_of_processors_are_read_where_they_are_asked_for(runs):
    assert list(stage_seconds(runs, of="cpu_seconds")) == [("filter", "assimilate", 12.0), ("letkf", "assimilate", 6.0)]


def test_disk_is_the_mean_of_all_published_cycles(runs):
    for cycle in runs.glob("*/cycles/*"):
        (cycle / "diag" / "summary.json").write_bytes(bytes(2**20))
    assert disk_of_a_cycle(runs) == (1.0, 6)
