"""MASF for observations of any kind: a diffusion of states beside what operators see of them.

    augmented   (x, h(x)) is carried to (noise, observation); its unguided reverse is the analysis. The observation is a
                selection of the longer state, so nothing is linearised, whatever h is and however many values it has
    dual_head   as published: x turns into h(x) in one field; guidance through the network, with published multipliers

and two priors of z = (x, h(x)), each with both heads E[x_0 | u], E[h_0 | u]:

    no weights   the Gaussian of the members and of what is seen of them, in closed form. Augmented it is the analysis
                 of a global ensemble Kalman filter with perturbed observations, exact for a Gaussian z in one step
    weights      a network trained on the climate for these operators, used as it is (amortised) or, with `fine_tune`,
                 going on in every cycle after the first from the network of the cycle before, on the members of this
                 one: `cycler train`, data.kind observed_states for up to a hundred values (dense Gaussian, both forms),
                 observed_climate for fields of a torus (homogeneous Gaussian, both forms: `generative/observed_bridge`)

Equations and what is wrong in `dual_head`: `generative/two_head_sampling`; numbers: `cycler bench masf_two_heads`.
Source: arXiv:2604.02889 and its published code (dual_head, fine-tuning); augmented is ours (docs/decisions/0034).
For linear observations of single cells see `masf`. Limits: no localization; with weights, the operators, cell centres
and the error of their training; `dual_head` puts an observation at the nearest cell, and without weights takes one of
each cell at most (with weights of fields several are averaged).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from cycler_da.ensemble import Ensemble
from cycler_da.errors import AnalysisFailed, ConfigError
from cycler_da.generative.localisation import MemberNoise
from cycler_da.generative.mask_bridge import Multiplier, bridge_signals
from cycler_da.generative.observed_bridge import TRANSITION, ObservedBridgeWeights, load_observed_bridge
from cycler_da.generative.two_head_denoiser import NetworkHeads, mean_error
from cycler_da.generative.two_head_sampling import (
    DUAL_HEAD_GUIDANCE,
    DUAL_HEAD_PRIOR,
    sample_augmented,
    sample_dual_head,
)
from cycler_da.generative.two_head_training import tuned_on_members
from cycler_da.generative.two_head_weights import TwoHeadWeights, load_heads
from cycler_da.generative.two_heads import (
    Augmented,
    GaussianHeads,
    Heads,
    MeanHeads,
    Mixed,
    PairProcess,
    pair_of_members,
)
from cycler_da.generative.weights import read_card
from cycler_da.layout import Layout
from cycler_da.noise import Noise
from cycler_da.obs.base import Observations
from cycler_da.obs.fields import ObservedField, observed_fields, operator_words, same_operator
from cycler_da.registry import Spec, register
from cycler_da.schemes.base import Analysis, Needs, Prior, SchemeContext
from cycler_da.schemes.frame.carried_network import network_in, network_to_carry
from cycler_da.schemes.frame.checks import finite_hx, require_finite
from cycler_da.schemes.frame.conclusion import conclude
from cycler_da.schemes.frame.diagnostics import dof_estimate, innovation_diagnostics
from cycler_da.schemes.frame.field_bridge import FieldCycle, draw_fields, mixed_heads
from cycler_da.schemes.frame.fine_tuning import FineTuneSpec
from cycler_da.schemes.frame.scaled_pairs import PairFields, fields_by_cell, fields_by_observation
from cycler_da.schemes.frame.settings import require, require_used
from cycler_da.schemes.frame.stream_checks import field_names, require_error, require_known_fields
from cycler_da.schemes.free_run import keep_background

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NEEDS = Needs(couples_members=True, n_members=2)
NAME = "masf_two_heads"
#: Steps where none are given: without and with a network; those of `dual_head` are published.
STEPS = {"augmented": (1, 30), "dual_head": (200, 200)}


@register("scheme", NAME)
@dataclass(frozen=True, kw_only=True)
class MasfTwoHeadsSpec(Spec):
    """Options of MASF for observations of any kind."""

    form: Literal["augmented", "dual_head"] = "augmented"
    steps: int | None = None  # None: augmented 1 without weights (exact), 30 with; dual_head 200
    multipliers: Literal["published", "none"] = "published"  # of dual_head
    weights: str | None = None  # folder; None: the Gaussian of the members
    sha256: str | None = None
    fine_tune: FineTuneSpec | None = None

    def __post_init__(self) -> None:
        for name, valid in (("form", tuple(STEPS)), ("multipliers", ("published", "none"))):
            got = getattr(self, name)
            require(got in valid, name, got, expected=" or ".join(valid), scheme=NAME)
        require(self.steps is None or self.steps >= 1, "steps", self.steps, expected="1 or more", scheme=NAME)
        require_used(self.form == "dual_head", self, "multipliers", where="form dual_head", scheme=NAME)
        require_used(self.weights is not None, self, "sha256", where="weights", scheme=NAME)
        is_held = self.fine_tune is None or self.weights is not None
        require(is_held, "weights", None, expected="a folder, where fine_tune is set", scheme=NAME)
        begin = None if self.fine_tune is None else self.fine_tune.begin
        is_from_network = begin in (None, "network")
        require(is_from_network, "fine_tune.begin", begin, expected="network (scratch is of masf alone)", scheme=NAME)

    def build(self, context: SchemeContext) -> MasfTwoHeads:
        """Build the scheme.

        Raises ConfigError for operators, fields and drawn errors that the weights do not know, WeightsMismatch for
        weights of another kind or form, LayoutMismatch for those of other states.
        """
        if self.weights is None:
            return MasfTwoHeads(self, None, ())
        weights = load_weights(Path(self.weights), form=self.form, layout=context.layout, sha256=self.sha256)
        fields = observed_fields(weights.observed, context.layout)
        for operator in context.operators:
            if not any(same_operator(field.operator, operator) for field in fields):
                raise ConfigError(
                    f"scheme {NAME}: weights {self.weights} were not made for the operator {operator_words(operator)}; "
                    f"they know {field_names(fields)}. Train weights with it (data.observed), or leave weights out"
                )
        layout, seen = context.layout, context.streams
        require_known_fields(seen, fields, layout, scheme=NAME, other=f"{NAME} without weights")
        ones = [1.0] * len(layout.channels)
        require_error(seen, weights.error, ones, layout, scheme=NAME, weights=self.weights)
        return MasfTwoHeads(self, weights, fields)


def load_weights(
    folder: Path, *, form: str, layout: Layout, sha256: str | None
) -> TwoHeadWeights | ObservedBridgeWeights:
    """Weights with a dense or a homogeneous Gaussian; raises WeightsMismatch, LayoutMismatch."""
    is_bridge = read_card(folder).transition.get("kind") == TRANSITION
    load = load_observed_bridge if is_bridge else load_heads
    return load(folder, form=form, layout=layout, sha256=sha256)


@dataclass(frozen=True, eq=False)
class MasfTwoHeads:
    """The scheme with fixed settings."""

    settings: MasfTwoHeadsSpec
    weights: TwoHeadWeights | ObservedBridgeWeights | None
    fields: tuple[ObservedField, ...]
    needs: Needs = NEEDS

    def analyse(
        self, prior: Prior, observations: Observations, *, noise: Noise, carry: Mapping[str, Tensor]
    ) -> Analysis:
        """Sample the analysis; without observations return the background bit for bit.

        Raises AnalysisFailed for observations that the weights do not know, two observations in one cell of
        `dual_head` without weights, and numbers that are not finite.
        """
        if len(observations) == 0:
            return keep_background(prior, carry=carry)
        background = prior.background
        hx = finite_hx(background.latest, observations, scheme=NAME)
        innovations = observations.values.to(hx.device) - hx.mean(dim=0)
        report = innovation_diagnostics(innovations, hx.var(dim=0), observations=observations)
        # The guidance of dual_head and fine-tuning differentiate, whatever mode the cycle runs in.
        with torch.inference_mode(False), torch.no_grad():
            pairs = self._pairs(background.latest.clone(), hx.clone(), observations)
            if isinstance(self.weights, ObservedBridgeWeights):
                drawn, carried = self._drawn_fields(self.weights, pairs, background, noise, carry)
            else:
                heads, process, carried = self._heads(self.weights, pairs, background.members, noise, carry)
                if isinstance(process, Augmented):
                    drawn = self._bridge(pairs, heads, process, background.members, noise)
                else:
                    drawn = self._published(pairs, heads, process, background.members, noise)
            sample = pairs.physical(drawn, background.latest.shape)
        moved = sample.to(background.values.dtype)
        require_finite(moved, layout=background.layout, scheme=NAME)
        report["dof_signal"] = dof_estimate(observations.hx(sample), observations.error_variance)
        return conclude(background, moved, carry={**carry, **carried}, report=report)

    def _pairs(self, states: Tensor, hx: Tensor, observations: Observations) -> PairFields:
        weights = self.weights
        if weights is not None:
            units = (weights.scaling, weights.observed_scaling)
            pairs = fields_by_cell(states, hx, observations, fields=self.fields, units=units, scheme=NAME)
            self._require_error(pairs)
            return pairs
        if self.settings.form == "dual_head":
            return fields_by_cell(states, hx, observations, fields=None, units=None, scheme=NAME)
        return fields_by_observation(states, hx, observations)

    def _require_error(self, pairs: PairFields) -> None:
        assert self.weights is not None
        errors = pairs.errors
        low, high, known = float(errors.min()), float(errors.max()), self.weights.error
        if max(abs(low - known), abs(high - known)) > 0.01 * known:
            raise AnalysisFailed(
                f"{NAME}: observation errors are {low:.4g} to {high:.4g}; weights {self.weights.source} know "
                f"{known:.4g} alone. Set the error of the stream, or train weights for it (data.error)"
            )

    def _heads(
        self,
        weights: TwoHeadWeights | None,
        pairs: PairFields,
        members: tuple[int, ...],
        noise: Noise,
        carry: Mapping[str, Tensor],
    ) -> tuple[Heads, PairProcess, Mapping[str, Tensor]]:
        """Both heads of this cycle, the process, and the network to be carried on."""
        process: PairProcess = (
            Mixed(pairs.mask[None], pairs.variance)
            if self.settings.form == "dual_head"
            else Augmented(pairs.mask[None], torch.cat([pairs.common.expand(pairs.n), pairs.variance]))
        )
        if weights is None:
            return GaussianHeads(pair_of_members(pairs.z, members), process), process, {}
        model, tuning = weights.model, self.settings.fine_tune
        carried: dict[str, Tensor] = {}
        if tuning is not None:
            earlier = network_in(carry)
            if earlier:  # the first cycle uses the network as it is
                model = model.with_state(earlier)
                seed = int(noise.generator(f"{NAME}.fine_tune").integers(2**31))
                steps, rate = tuning.count, tuning.learning_rate
                model = tuned_on_members(model, process, pairs.z, steps=steps, learning_rate=rate, seed=seed)
            carried = network_to_carry(model)
        return NetworkHeads(model, process, weights.unexplained), process, carried

    def _drawn_fields(
        self,
        weights: ObservedBridgeWeights,
        pairs: PairFields,
        background: Ensemble,
        noise: Noise,
        carry: Mapping[str, Tensor],
    ) -> tuple[Float[Tensor, "member n"], Mapping[str, Tensor]]:
        """Draws with weights for fields of a torus, and the network to be carried on."""
        tuning = self.settings.fine_tune
        steps_and_rate = None if tuning is None else (tuning.count, tuning.learning_rate)
        cycle = FieldCycle(weights, self.fields, pairs, background, steps_and_rate, noise, carry, NAME)
        if self.settings.form == "augmented":
            return draw_fields(cycle, steps=self._steps)
        heads, process, carried = mixed_heads(cycle)
        return self._published(pairs, heads, process, background.members, noise), carried

    @property
    def _steps(self) -> int:
        return self.settings.steps or STEPS[self.settings.form][self.weights is not None]

    def _bridge(
        self, pairs: PairFields, heads: Heads, process: Augmented, members: tuple[int, ...], noise: Noise
    ) -> Float[Tensor, "member n"]:
        signals = bridge_signals(self._steps, noise_std=mean_error(process))
        return sample_augmented(process, heads, pairs.observed, signals, noise=MemberNoise(noise, members, NAME))

    def _published(
        self, pairs: PairFields, heads: MeanHeads, process: Mixed, members: tuple[int, ...], noise: Noise
    ) -> Float[Tensor, "member n"]:
        blank = process.noise.sqrt() * noise.shared_normal(f"{NAME}.blank", process.noise.shape, dtype=torch.float64)
        published = self.settings.multipliers == "published"
        return sample_dual_head(
            process,
            heads,
            torch.where(pairs.mask > 0, pairs.observed, blank),
            pairs.z,
            noise=MemberNoise(noise, members, NAME),
            n_steps=self._steps,
            prior=DUAL_HEAD_PRIOR if published else Multiplier(),
            guidance=DUAL_HEAD_GUIDANCE if published else Multiplier(),
        )
