"""The benchmark of window schemes that cycle: its experiments can be read, its differences are truth by truth."""

from __future__ import annotations

import pytest

from cycler_da.bench.pattern_search import Found
from cycler_da.bench.turbulence.window_cycled import (
    BEGIN,
    FULL,
    LETKF,
    SCHEMES,
    SDA,
    SOAD,
    WINDOW,
    closing_config,
    differences,
    local_scheme,
    words,
)
from cycler_da.setting import build_setting


@pytest.mark.parametrize(("days", "count"), [(4, 8), (1, 32)])
def test_windows_and_days_cover_the_same_month(repository, monkeypatch, tmp_path, days, count):
    monkeypatch.chdir(repository)
    coupled = {name: local_scheme(kind, BEGIN) for name, kind in ((SDA, "sda"), (SOAD, "soad"), ("coupled", "pdediff"))}
    chains = {**SCHEMES, **coupled} if days == 4 else {LETKF: local_scheme("letkf", BEGIN)}
    setting = build_setting(closing_config(chains, FULL, str(tmp_path), seed=5, days=days))
    assert len(setting.valid_times) == count + 1 and len(setting.chains) == len(chains)
    assert setting.config.nature["steps"] == 32 and setting.config.verification.spin_up == count // 4
    assert setting.valid_times[-1] - setting.valid_times[0] == 32 * setting.layout.step


def test_what_was_known_before_is_an_option_of_the_same_schemes():
    assert SCHEMES["SDA, cells"] == {**SCHEMES["SDA, waves"], "background": "cells"}
    assert {**SCHEMES["SDA, waves, from noise"], "start": "background"} == SCHEMES["SDA, waves"]


def test_coupled_windows_have_the_options_of_a_filter_in_a_block():
    options = {"localization_radius_cells": 3.0, "weight_stride": 2, "inflation": 1.1}
    assert local_scheme("letkf", (3.0, 1.1)) == {"kind": "letkf", **options}
    assert local_scheme("sda", (3.0, 1.1)) == {"kind": "sda", "coupling": options, **WINDOW}


def test_differences_are_of_the_same_truth():
    values = {
        ("analysis", LETKF, "fair_crps"): [1.0, 2.0],
        ("analysis", "SDA, waves", "fair_crps"): [0.5, 1.8],
        ("background", "SDA, waves", "fair_crps"): [9.0, 9.0],
        ("analysis", "SDA, waves", "rmse"): [9.0, 9.0],
    }
    assert differences(values) == {("analysis", "SDA, waves", "fair_crps minus LETKF"): pytest.approx([-0.5, -0.2])}


def test_options_are_told_with_what_a_search_could_not_see():
    assert words(Found((4.0, 1.1), 0.1, 7, ("inflation",))).startswith("radius 4 cells, inflation 1.1 (best of 7; last")
    assert words(Found(BEGIN, float("nan"), 0, ())).endswith("(not searched)")
