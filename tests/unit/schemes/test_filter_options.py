"""Options of filters of a transition that are not used, or that must fail with the first observation, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cycler_da.config import load_config
from cycler_da.errors import ConfigError
from cycler_da.generative.advected import AdvectedTransition
from cycler_da.generative.dense_transition import DenseTransition
from cycler_da.generative.gaussian_transition import GaussianTransition
from cycler_da.generative.transition import Transition
from cycler_da.schemes.ensemble.adaptive_inflation import AdaptiveInflationSpec
from cycler_da.schemes.interpolant_filter import InterpolantFilterSpec
from cycler_da.setting import build_setting

CONFIGS = Path("config/experiments")
DENSE, FIELD = "lorenz96_half_observed", "qg_default"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"least_share": 0.5}, "least_share is 0.5 and not used with gamma 1; .* set gamma below 1"),
        ({"gamma": 0.0, "passes": 2}, "passes is 2 and not used with gamma 0; .* set gamma above 0"),
        ({"gamma": 0.0, "linearisation": "regression"}, "linearisation is regression and not used with gamma 0"),
        ({"coupling": "none", "gamma": 0.5}, "gamma is 0.5 and not used with coupling none; .* take another coupling"),
        ({"coupling": "none", "passes": 2}, "passes is 2 and not used with coupling none"),
        ({"coupling": "none", "inflation": 1.1}, "inflation is 1.1 and not used with coupling none"),
        ({"coupling": "none", "localization_radius_km": 5.0}, "localization_radius_km is 5.0 and not used"),
        ({"coupling": "none", "localization_radius_cells": 5.0}, "localization_radius_cells is 5.0 and not used"),
        ({"coupling": "none", "adaptive_inflation": AdaptiveInflationSpec()}, "adaptive_inflation is A.* not used"),
        ({"coupling": "local_weights", "gamma": 0.5}, "gamma is 0.5 and not used with coupling local_weights"),
        ({"coupling": "mixture", "gamma": 0.5}, "gamma is 0.5 and not used with coupling mixture"),
        ({"coupling": "mixture", "passes": 2}, "passes is 2 and not used with coupling mixture"),
        ({"conditioning_level": 0.3}, "conditioning_level is 0.3 and not used with coupling transform, which"),
        ({"conditioning_level": "wide", "coupling": "none"}, "conditioning_level is 'wide'; expected spread, or a n"),
        ({"conditioning_level": -0.1, "coupling": "none"}, "conditioning_level is -0.1; expected spread, or a number"),
        ({"guidance": {"kind": "red"}, "tau_points": 2}, "tau_points is 2 and not used with guidance red; .*conjugate"),
        ({"guidance": {"kind": "dps"}, "tau_points": 2}, "tau_points is 2 and not used with guidance dps"),
    ],
)
def test_an_option_that_no_analysis_looks_at_is_refused(options, message):
    with pytest.raises(ConfigError, match=f"scheme interpolant_filter: {message}"):
        InterpolantFilterSpec(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"coupling": "none", "inflation": 1.0},  # which is what is done
        {"coupling": "none", "guidance": {"kind": "red"}},
        {"coupling": "none", "conditioning_level": 0.0},
        {"coupling": "local_weights", "least_share": 0.5},
        {"gamma": 0.0, "least_share": 0.5, "passes": 2},  # gamma is raised in some cycles
        {"gamma": 0.5, "least_share": 0.5, "tau_points": 5, "tau_max": 20.0},
    ],
)
def test_options_that_are_used_at_times_or_say_what_is_done_are_taken(options):
    assert InterpolantFilterSpec(**options)


@pytest.mark.parametrize(
    "config, changes, message",
    [
        (
            DENSE,
            ["scheme.guidance={kind: moment_matching}"],
            "every member has one of its own; give .* covariance: derivative",
        ),
        (
            DENSE,
            ["scheme={kind: interpolant_filter, coupling: none, conditioning_level: spread}"],
            "conditioning_level is spread, and the weights of the forecast were trained without levels; leave it out",
        ),
        (DENSE, ["scheme.surprise=3"], "surprise with coupling transform needs a transition .* leave surprise out"),
        (DENSE, ["scheme.surprise=3", "scheme.coupling=square_root"], "surprise with coupling square_root needs"),
        (FIELD, ["scheme.path_weights=true"], "path_weights needs guidance .* at most 10 variables, .* Leave it out"),
        (
            FIELD,
            ["scheme.weight_stride=1", "scheme.localization_radius_cells=null", "scheme.coupling=mixture"],
            "coupling mixture is for at most 10 variables, .* take coupling transform",
        ),
        (FIELD, ["scheme.surprise=3"], "needs a transition whose spread differs from place"),
        (
            DENSE,
            ["scheme={kind: optimal_particle, tau_points: 3, resample_below: 0.5}"],
            "every member has one of its own; leave it out",
        ),
    ],
)
def test_weights_that_a_scheme_cannot_use_are_refused_when_the_experiment_is_read(config, changes, message):
    with pytest.raises(ConfigError, match=f"chains.interpolant_filter: scheme .*{message}"):
        _setting(config, changes)


@pytest.mark.parametrize(
    "config, changes",
    [
        (FIELD, ["scheme.guidance={kind: moment_matching}"]),
        (FIELD, ["scheme={kind: optimal_particle}"]),
        (DENSE, ["scheme={kind: optimal_particle, error_law: laplace}"]),
        (DENSE, ["scheme={kind: interpolant_filter, coupling: perturbed_observations, surprise: 3}"]),
    ],
)
def test_weights_that_a_scheme_can_use_are_taken(config, changes):
    assert _setting(config, changes).chain("interpolant_filter")


def test_a_guidance_of_linear_operators_names_the_guidances_that_take_others():
    with pytest.raises(ConfigError, match=r"guidance red takes linear .* through arctan; use guidance conjugate or g"):
        _setting(DENSE, ["scheme.guidance={kind: red}"], "observations.insitu.operator={kind: arctan}")


@pytest.mark.parametrize("transition", [AdvectedTransition, DenseTransition, GaussianTransition, Transition])
def test_every_transition_says_truly_what_it_predicts(transition):
    assert transition.predict.__annotations__["return"] == transition.predicts.fget(None).__name__


def _setting(config: str, changes: list[str], *others: str):
    of_chain = [f"chains.interpolant_filter.{change}" for change in changes]
    return build_setting(load_config(CONFIGS / f"{config}.yaml", [*of_chain, *others]))
