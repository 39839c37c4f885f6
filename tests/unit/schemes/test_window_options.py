"""Options of window schemes that cannot be, or that nothing would use, are refused when the config is read."""

from __future__ import annotations

from math import inf, nan
from types import SimpleNamespace

import pytest

from cycler_da.config import read_spec
from cycler_da.errors import ConfigError
from cycler_da.schemes import catalogue as _schemes  # noqa: F401  (registers the schemes)
from cycler_da.schemes.pdediff import PdediffSpec
from cycler_da.schemes.sda import SdaSpec
from cycler_da.schemes.soad import SoadSpec
from cycler_da.schemes.window.options import require_stride

PUBLISHED = {"variant": "published"}
BOUND, COUNT, BACKGROUND = "a finite number above 0", "a whole number from 1", "climatological deviations from 0.001"
IMPOSSIBLE = [
    *((SoadSpec, {**PUBLISHED, name: value}, BOUND) for name in ("clip", "prior_std") for value in (-1.0, 0.0)),
    *((SoadSpec, {**PUBLISHED, "tau": value}, BOUND) for value in (-1.0, 0.0, nan, inf)),
    *((SoadSpec, {"likelihood": "sda", "gamma": value}, BOUND) for value in (-1.0, 0.0, nan, inf)),
    *((SdaSpec, {"likelihood": "sda", "gamma": value}, BOUND) for value in (-1.0, 0.0, nan, inf)),
    *((PdediffSpec, {"likelihood": "sda", "gamma": value}, BOUND) for value in (-1.0, 0.0, nan, inf)),
    (SdaSpec, {"sampler": "exponential", "corrector_steps": 1, "tau": -1.0}, BOUND),
    *((spec, {"stride": value}, COUNT) for spec in (SdaSpec, SoadSpec) for value in (0, -1)),
    (PdediffSpec, {"n_given": 0}, COUNT),
    *(
        (spec, {"background_error": value}, BACKGROUND)
        for spec in (SdaSpec, SoadSpec)
        for value in (-0.1, 0.0, 1e-9, nan, inf)
    ),
]
UNUSED = [
    *((spec, {"gamma": 0.5}, "likelihood sda") for spec in (SdaSpec, SoadSpec, PdediffSpec)),
    (SoadSpec, {"prior_std": 0.5}, "likelihood soad"),
    (SoadSpec, {"likelihood": "sda", "prior_std": 0.5}, "likelihood soad"),
    (SoadSpec, {"clip": 1.0}, "likelihood dps, sda, soad"),
    (SoadSpec, {"likelihood": "moment_matching", "clip": 1.0}, "likelihood dps, sda, soad"),
    (SoadSpec, {"score": "stale"}, "corrector_steps from 1"),
    *((spec, {"tau": 0.1}, "corrector_steps from 1") for spec in (SdaSpec, SoadSpec)),
    *((spec, {"sha256": "12345678"}, "weights") for spec in (SdaSpec, SoadSpec, PdediffSpec)),
    *(
        (spec, {"weights": "folder", "correlation": 0.5}, "the Gaussian that stands in for weights")
        for spec in (SdaSpec, SoadSpec, PdediffSpec)
    ),
]


@pytest.mark.parametrize(("spec", "options", "expected"), IMPOSSIBLE)
def test_a_number_that_no_window_could_be_drawn_with_is_refused(spec, options, expected):
    name = list(options)[-1]
    with pytest.raises(ConfigError, match=f"{name} is {options[name]}; expected {expected}"):
        spec(**options)


@pytest.mark.parametrize(("spec", "options", "where"), UNUSED)
def test_an_option_that_nothing_would_use_is_refused(spec, options, where):
    name = list(options)[-1]
    with pytest.raises(ConfigError, match=f"{name} is .*; expected nothing, for it is used with {where} alone"):
        spec(**options)


def test_the_bound_of_the_published_variant_is_refused_with_a_likelihood_that_takes_none():
    with pytest.raises(ConfigError, match=r"variant published bounds .* takes no bound; expected likelihood dps"):
        SoadSpec(variant="published", likelihood="known_covariance")


def test_options_are_taken_where_they_are_used():
    SoadSpec(variant="published", clip=0.5, prior_std=2.0, tau=0.1, score="fresh", background_error=0.01)
    SoadSpec(variant="published", corrector_steps=0)  # the score is the variant's, and nobody asked for it
    SdaSpec(likelihood="sda", gamma=0.5, sampler="exponential", corrector_steps=1, tau=0.1)


@pytest.mark.parametrize("kind", ["sda", "soad", "pdediff"])
def test_such_options_are_refused_when_the_config_is_read(kind):
    with pytest.raises(ConfigError, match=rf"(?s)chains.it.scheme.*scheme {kind}: gamma is -1.0; expected"):
        read_spec("scheme", {"kind": kind, "likelihood": "sda", "gamma": -1.0}, where="chains.it.scheme")


def test_a_stride_is_for_windows_that_are_composed():
    composed, whole = (SimpleNamespace(is_rigid=is_rigid, frames=3) for is_rigid in (True, False))
    for stride in (1, 2, 3):
        require_stride(stride, composed, scheme="sda")
    require_stride(1, whole, scheme="sda")
    with pytest.raises(ConfigError, match="stride is 2; expected 1, for these windows are seen as a whole"):
        require_stride(2, whole, scheme="sda")
    with pytest.raises(ConfigError, match="stride is 4; expected at most the 3 frames of the network's windows"):
        require_stride(4, composed, scheme="sda")
