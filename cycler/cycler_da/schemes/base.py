"""What an analysis scheme receives, returns and may ask for.

A scheme never owns the cycle loop. What it must remember from cycle to cycle (adaptive inflation, say)
goes through `carry`, which is saved with the cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cycler_da.ensemble import Ensemble
from cycler_da.forecast import ForecastModel
from cycler_da.generative.climatology import StateCovariance
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import ObservationOperator, Observations
from cycler_da.obs.seen_stream import SeenStream
from cycler_da.schemes.ensemble.mapper import Mapper, one_by_one

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Needs:
    """What a scheme cannot do without; checked when the config is built."""

    couples_members: bool = True  # False: members may be analysed in separate batches
    previous: bool = False  # reads the previous analysis and the forecast model
    linear_operators: bool = False
    gradient: bool = False  # differentiates the observation operators
    n_members: int = 2
    own_times: bool = False  # uses observations at their own times where the background has frames (not a need)
    resamples: bool = False  # members may end as copies of one, told apart by the noise of the next forecast (no need)
    window: int = 1  # frames from the previous analysis to the cycle time, both counted; 1: a filter
    longest_window: int | None = None  # most frames that it can take


@dataclass(frozen=True)
class Prior:
    """Everything known before the observations of the window are used."""

    background: Ensemble  # forecast valid at the cycle time, its last; frames inside the window may come before it
    previous: Ensemble | None = None  # analysis (with history) the background started from
    model: ForecastModel | None = None
    mapper: Mapper = one_by_one  # who computes tiles of the analysis; the bytes do not depend on it


@dataclass(frozen=True)
class Analysis:
    """The analysis ensemble, valid at the cycle time, with what the scheme says about it."""

    ensemble: Ensemble
    carry: Mapping[str, Tensor] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SchemeContext:
    """What a scheme may use when it is built."""

    layout: Layout
    model: ForecastModel | None = None
    #: Reads a B file for a layout, `(path, layout, sha256 or None) -> (B, digest)`; None where there are no files.
    read_covariance: Callable[[str, Layout, str | None], tuple[StateCovariance, str]] | None = None
    #: Of every stream of the experiment; empty where streams are not known.
    operators: tuple[ObservationOperator, ...] = ()
    #: The same streams with what is known of their sites and errors; empty where streams are not known.
    streams: tuple[SeenStream, ...] = ()


@runtime_checkable
class AnalysisScheme(Protocol):
    """One analysis method. `observations` holds only what may be used, possibly nothing."""

    needs: Needs

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Correct the background. Without observations the analysis is the background, bit for bit."""
        ...
