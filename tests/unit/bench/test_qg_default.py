"""Benchmarks of the default QG experiment: what is added to it, and differences truth by truth."""

from __future__ import annotations

from cycler_da.bench.turbulence.qg_default import REFERENCE, Plan, differences, with_controls
from cycler_da.config import load_config


def test_the_controls_are_the_true_model_and_members_guided_alone(repository):
    changes = Plan((5,), 4, 2, 16, days=5).changes("/tmp/none", 5)
    config = with_controls(load_config(repository / "config/experiments/qg_default.yaml", changes))
    chains = {chain.name: chain for chain in config.chains}
    assert chains[REFERENCE].scheme == chains["letkf"].scheme
    assert chains[REFERENCE].forecast["kind"] == "numerical"
    assert chains["guided_alone"].scheme["coupling"] == "none"
    assert config.cycles.every == "120h"
    assert config.nature["steps"] == 20  # a step is a day


def test_differences_are_of_the_same_truth_and_not_of_the_reference_itself():
    values = {
        ("analysis", REFERENCE, "rmse"): [1.0, 2.0],
        ("analysis", "letkf", "rmse"): [1.5, 1.5],
        ("analysis", "letkf", "fair_crps"): [0.1, 0.1],
        ("background", "letkf", "rmse"): [9.0, 9.0],
    }
    assert differences(values) == {("analysis", "letkf", f"rmse minus {REFERENCE}"): [0.5, -0.5]}
