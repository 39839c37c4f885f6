"""MASF: a diffusion that ends in the observation, for observations of single cells.

The state is carried to its own observation by a forward process that depends on the mask (`generative/mask_bridge.py`),
and its reverse gives the analysis. Two samplers:

    bridge    starts at the observation and runs the unguided reverse: Bayes for the denoiser's prior, small steps
    guided    as published: starts at the members carried forward and adds a likelihood score, which counts the
              observation twice; its published multipliers of both scores may be left out (`multipliers: none`)

and two priors, each E[x_0 | x_a]:

    no weights   the Gaussian of the forecast members, in closed form: the analysis of a global ETKF, perturbed
    weights      a network trained on the climate (`cycler train`, data.kind masked_climate). As it is it knows nothing
                 of the forecast (amortised). With `fine_tune` it goes on, in every cycle after the first, from the
                 network of the cycle before, on the members of this one; it is carried from cycle to cycle. With
                 `fine_tune: {begin: scratch}` an untrained network of the same architecture is trained on the members
                 alone in every cycle: of the weights only scaling and error are used, and the covariance that it
                 stands on is that of the members' own wave numbers

Source: arXiv:2604.02889 and its published code (steps, multipliers, fine-tuning, scratch). One network serves all
masks, here (docs/decisions/0025). Limits: observations of single cells (operator `cell`, or `points` at centres); with
weights, of the one error of their training. Nonlinear operators and those of another shape than the state are refused:
they have a scheme of their own, `masf_two_heads`. Without weights there is no localization: a few members see false
correlations everywhere. Fine-tuning on ten members learns those by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from cycler_da.errors import AnalysisFailed
from cycler_da.generative.bridge_denoiser import bound_denoiser, ensemble_denoiser
from cycler_da.generative.bridge_training import fine_tuned, untrained, with_state
from cycler_da.generative.bridge_weights import BridgeWeights, load_bridge
from cycler_da.generative.cell_interpolation import cell_interpolation
from cycler_da.generative.covariance import blocks_from_residuals, spectral_from_blocks
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import (
    LEAST_ERROR,
    PUBLISHED_GUIDANCE,
    PUBLISHED_PRIOR,
    BridgeDenoiser,
    MaskBridge,
    Multiplier,
    bridge_signals,
    sample_bridge,
    sample_guided,
    variance_of_prior,
    variance_of_seen,
)
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.observed_cells import ObservedCells, observed_cells, require_mask
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.carried_network import network_in, network_to_carry
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_estimate, innovation_diagnostics
from cycler_da.schemes.frame.field_scaling import FieldScaling, field_scaling, unit_of_members
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.frame.settings import require, require_used
from cycler_da.schemes.frame.stream_checks import require_at_cells, require_error, require_least_error
from cycler_da.schemes.free_run import keep_background

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=True, linear_operators=True, n_members=2)
#: Steps of the samplers where none are given; those of the guided one are published.
STEPS = {"bridge": 60, "guided": 150}
SMALLER_UNIT = "Set a smaller scale (the error itself will do), or sampler bridge"


@register("scheme", "masf")
@dataclass(frozen=True, kw_only=True)
class MasfSpec(Spec):
    """Options of MASF."""

    sampler: Literal["bridge", "guided"] = "bridge"
    steps: int | None = None  # None: 60 of the bridge, 150 of the guided sampler
    multipliers: Literal["published", "none"] = "published"  # of the guided sampler
    weights: str | None = None  # folder; None: the Gaussian of the members
    sha256: str | None = None
    fine_tune: FineTuneSpec | None = None
    #: Without weights: unit of the process, one number or one for each variable; None: the power of ten nearest to the
    #: members' deviation.
    scale: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require(self.sampler in STEPS, "sampler", self.sampler, expected="bridge or guided", scheme="masf")
        require(
            self.multipliers in ("published", "none"),
            "multipliers",
            self.multipliers,
            expected="published or none",
            scheme="masf",
        )
        require(self.steps is None or self.steps >= 1, "steps", self.steps, expected="1 or more", scheme="masf")
        is_positive = self.scale is None or (len(self.scale) > 0 and min(self.scale) > 0)
        require(is_positive, "scale", self.scale, expected="positive numbers", scheme="masf")
        is_learned, is_guided = self.weights is not None, self.sampler == "guided"
        require_used(is_guided, self, "multipliers", where="sampler guided", scheme="masf")
        require_used(is_learned, self, "sha256", where="weights", scheme="masf")
        require_used(not is_learned, self, "scale", where="the members (no weights)", scheme="masf")
        if self.fine_tune is not None:
            require(
                self.weights is not None, "weights", None, expected="a folder, where fine_tune is set", scheme="masf"
            )

    def build(self, context: SchemeContext) -> Masf:
        """Build the scheme.

        Raises ConfigError for operators that are no masks, drawn observations between cells or with another error than
        that of the weights or too small for the guided sampler, and scales of other variables; WeightsMismatch for
        weights of another kind, LayoutMismatch for those of other states.
        """
        layout = context.layout
        for operator in context.operators:
            require_mask(operator, layout, scheme="masf")
        for stream in context.streams:
            require_at_cells(stream, layout, scheme="masf", other="operator cell")
        if self.weights is not None:
            weights = load_bridge(Path(self.weights), layout=layout, sha256=self.sha256)
            std = weights.scaling.std
            require_error(context.streams, weights.error, std, layout, scheme="masf", weights=self.weights)
            is_far = self.sampler == "bridge" or weights.error >= LEAST_ERROR
            require(is_far, "sampler", "guided", expected=f"bridge, for {_too_small(weights.error)}", scheme="masf")
            return Masf(self, layout, field_scaling(weights.scaling.mean, weights.scaling.std, layout), weights)
        if self.scale is None:
            return Masf(self, layout, None, None)
        names = layout.channels
        expected = f"one number, or one for each of {', '.join(names)}"
        require(len(self.scale) in (1, len(names)), "scale", self.scale, expected=expected, scheme="masf")
        scale = self.scale if len(self.scale) == len(names) else self.scale * len(names)
        if self.sampler == "guided":
            require_least_error(context.streams, LEAST_ERROR, scale, layout, scheme="masf", way_out=SMALLER_UNIT)
        return Masf(self, layout, field_scaling((0.0,) * len(names), scale, layout), None)


@dataclass(frozen=True)
class _Prior:
    """E[x_0 | x_a] of one cycle, the variance of its cells, and the network to be carried on.

    The variance is that of the members, or, with weights, what the observations leave of the climate.
    """

    denoiser: BridgeDenoiser
    variance: Tensor
    carried: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Masf:
    """MASF with fixed settings."""

    settings: MasfSpec
    layout: Layout
    scaling: FieldScaling | None  # None: that of the members
    weights: BridgeWeights | None
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Sample the analysis; without observations return the background bit for bit.

        Raises AnalysisFailed for observations that are not of single cells, errors that the weights do not know, and
        numbers that are not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme="masf")
        innovations = observations.values.to(hx.device) - hx.mean(dim=0)
        report = innovation_diagnostics(innovations, hx.var(dim=0), observations=observations)
        cells = observed_cells(observations, scheme="masf")
        wide = background.latest.to(torch.float64)
        scaling = unit_of_members(wide) if self.scaling is None else self.scaling
        members, bridge = scaling.to_scaled(wide), self._bridge(cells, scaling)
        known = self._prior(bridge, members, noise, carry)
        observed = scaling.to_scaled(cells.values)
        sample = scaling.to_physical(self._sample(bridge, known, observed, members, background.members, noise))
        moved = sample.to(background.values.dtype)
        require_finite(moved, layout=self.layout, scheme="masf")
        report["dof_signal"] = dof_estimate(observations.hx(sample), observations.error_variance)
        return conclude(background, moved, carry={**carry, **known.carried}, report=report)

    def _bridge(self, cells: ObservedCells, scaling: FieldScaling) -> MaskBridge:
        """The forward process, scaled; cells that are not observed have the mean error variance of those that are."""
        if self.weights is not None:
            self._require_error(cells, scaling)
            return MaskBridge(cells.mask, torch.full_like(cells.mask, self.weights.error**2))
        variance = scaling.shrink(scaling.shrink(cells.variance))
        seen = variance[cells.mask > 0]
        least, common = float(seen.min().sqrt()), seen.mean()
        if self.settings.sampler == "guided" and least < LEAST_ERROR:
            raise AnalysisFailed(f"masf: {_too_small(least)}. {SMALLER_UNIT}")
        return MaskBridge(cells.mask, torch.where(cells.mask > 0, variance, common))

    def _require_error(self, cells: ObservedCells, scaling: FieldScaling) -> None:
        assert self.weights is not None
        scaled = scaling.shrink(cells.error)[cells.mask > 0]
        low, high = float(scaled.min()), float(scaled.max())
        if max(abs(low - self.weights.error), abs(high - self.weights.error)) > 0.01 * self.weights.error:
            raise AnalysisFailed(
                f"masf: observation errors are {low:.4g} to {high:.4g} in units of the weights' scaling; "
                f"weights {self.weights.source} know {self.weights.error:.4g} alone. Set the error of the stream, or "
                "train weights for it (data.error)"
            )

    def _prior(self, bridge: MaskBridge, members: Tensor, noise: Noise, carry: Mapping[str, Tensor]) -> _Prior:
        """The prior of this cycle."""
        if self.weights is None:
            return _Prior(ensemble_denoiser(bridge, members), members.var(dim=0), {})
        weights, tuning = self.weights, self.settings.fine_tune
        if tuning is not None and tuning.begin == "scratch":
            return self._from_scratch(weights, tuning, bridge, members, noise)
        seen = cell_interpolation(weights.covariance, bridge.mask, noise_std=weights.error)
        if tuning is None:
            return _Prior(bound_denoiser(weights.model, seen), seen.variance, {})
        model = weights.model
        earlier = network_in(carry)
        if earlier:  # the first cycle uses the network as it is
            seed = int(noise.generator("masf.fine_tune").integers(2**31))
            steps, rate = tuning.count, tuning.learning_rate
            model = fine_tuned(with_state(model, earlier), seen, members, steps=steps, learning_rate=rate, seed=seed)
        return _Prior(bound_denoiser(model, seen), seen.variance, network_to_carry(model))

    @staticmethod
    def _from_scratch(
        weights: BridgeWeights, tuning: FineTuneSpec, bridge: MaskBridge, members: Tensor, noise: Noise
    ) -> _Prior:
        """The prior of a network that has seen the members of this cycle and nothing else."""
        covariance = spectral_from_blocks(blocks_from_residuals(members))
        seen = cell_interpolation(covariance, bridge.mask, noise_std=weights.error)
        seed = int(noise.generator("masf.scratch").integers(2**31))
        model = untrained(weights.network, seed=seed)
        steps, rate = tuning.count, tuning.learning_rate
        model = fine_tuned(model, seen, members, steps=steps, learning_rate=rate, seed=seed)
        return _Prior(bound_denoiser(model, seen), seen.variance, {})

    def _sample(
        self,
        bridge: MaskBridge,
        known: _Prior,
        observed: Float[Tensor, "channel *space"],
        members: Float[Tensor, "member channel *space"],
        ids: tuple[int, ...],
        noise: Noise,
    ) -> Float[Tensor, "member channel *space"]:
        settings = self.settings
        steps = settings.steps or STEPS[settings.sampler]
        keyed = MemberNoise(noise, ids, "masf")
        if settings.sampler == "bridge":
            signals = bridge_signals(steps, noise_std=float(bridge.noise.mean().sqrt()))
            variance = variance_of_prior if self.weights is None else variance_of_seen
            left = variance(bridge, known.variance)
            return sample_bridge(bridge, known.denoiser, observed, signals, left=left, noise=keyed)
        blank = bridge.noise.sqrt() * noise.shared_normal("masf.blank", tuple(observed.shape), dtype=torch.float64)
        published = settings.multipliers == "published"
        return sample_guided(
            bridge,
            known.denoiser,
            torch.where(bridge.mask > 0, observed, blank),
            members,
            noise=keyed,
            n_steps=steps,
            prior=PUBLISHED_PRIOR if published else Multiplier(),
            guidance=PUBLISHED_GUIDANCE if published else Multiplier(),
        )


def _too_small(error: float) -> str:
    return (
        f"an observation error of {error:.3g} in the unit of the process is lost beside the published guard of the "
        f"guided sampler, which takes errors from {LEAST_ERROR:.3g}"
    )
