"""Checks of the options that window schemes share: numbers that cannot be, and options that nothing would use.

An option may stay at its default where nothing uses it; any other value there is refused, for it would be believed.
"""

from __future__ import annotations

import math
from dataclasses import fields

from cycler_da.generative.window_weights import WindowPrior
from cycler_da.registry import Spec
from cycler_da.schemes.frame.settings import require, require_used

#: Smallest deviation of a background, in climatological standard deviations: the sampler's own last noise.
LEAST_STD = 1e-3
#: Likelihood scores that add one variance to R.
SCALAR = ("dps", "sda", "soad")
_POSITIVE = ("gamma", "prior_std", "clip", "tau")
_COUNTS = ("stride", "n_given")


def require_options(spec: Spec, *, likelihood: str, corrector_steps: int, scheme: str) -> None:
    """Raise ConfigError for an option of `spec` that is out of its range, or that nothing uses.

    `likelihood` and `corrector_steps` are what the scheme takes where its spec leaves them to a variant.
    """
    default = {field.name: field.default for field in fields(spec)}  # type: ignore[arg-type]
    got = {name: getattr(spec, name) for name in default}
    for name in _POSITIVE:
        value = got.get(name)
        require(value is None or 0 < value < math.inf, name, value, expected="a finite number above 0", scheme=scheme)
    for name in _COUNTS:
        count = got.get(name, 1)
        require(count >= 1, name, count, expected="a whole number from 1", scheme=scheme)
    error = got.get("background_error")
    expected = f"climatological deviations from {LEAST_STD:g}, or null for those of the ensemble"
    require(error is None or LEAST_STD <= error < math.inf, "background_error", error, expected=expected, scheme=scheme)
    has_weights, has_moves = got["weights"] is not None, corrector_steps > 0
    for name, is_used, where in (
        ("gamma", likelihood == "sda", "likelihood sda"),
        ("prior_std", likelihood == "soad", "likelihood soad"),
        ("clip", likelihood in SCALAR, f"likelihood {', '.join(SCALAR)}"),
        ("tau", has_moves, "corrector_steps from 1"),
        ("score", has_moves, "corrector_steps from 1"),
        ("sha256", has_weights, "weights"),
        ("correlation", not has_weights, "the Gaussian that stands in for weights"),
    ):
        if name in default:
            require_used(is_used, spec, name, where=where, scheme=scheme)


def require_stride(stride: int, known: WindowPrior, *, scheme: str) -> None:
    """Raise ConfigError for a stride where windows are not composed, or that leaves frames out."""
    expected = "1, for these windows are seen as a whole and not composed; leave it out"
    require(stride == 1 or known.is_rigid, "stride", stride, expected=expected, scheme=scheme)
    expected = f"at most the {known.frames} frames of the network's windows"
    require(stride <= known.frames or not known.is_rigid, "stride", stride, expected=expected, scheme=scheme)
