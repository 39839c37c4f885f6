"""Released weights: a safetensors file and a card, and nothing that can execute code.

`<folder>/weights.safetensors` holds network tensors under "network.", those of a residual denoiser under "denoiser."
where there is one, and what was measured with them (covariances of residual and climatology; which, depends on the kind
of transition, see assembly.py).
`<folder>/card.json` says which transition, network, layout, scaling and history they need, their sha256, how
they were trained and how they scored on held-out data beside baselines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import nn

from cycler_da.errors import ConfigError, WeightsMismatch
from cycler_da.generative.assembly import DENOISER, Parts, assemble
from cycler_da.generative.networks import NetworkSpec, build_network
from cycler_da.generative.prediction import LearnedTransition
from cycler_da.generative.scaling import Scaling
from cycler_da.layout import Layout, layout_from_description

if TYPE_CHECKING:
    from torch import Tensor

CARD, WEIGHTS = "card.json", "weights.safetensors"
_NETWORK = "network."


@dataclass(frozen=True)
class WeightCard:
    """Everything that must agree before weights are used, and what is known of them."""

    name: str
    layout: Layout
    network: NetworkSpec
    scaling: Scaling
    history: int
    transition: Mapping[str, Any] = field(default_factory=lambda: {"kind": "spectral"})  # kind and its settings
    sha256: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)  # config, seeds, commit, data, steps, seconds
    scores: Mapping[str, Any] = field(default_factory=dict)  # held-out scores beside baselines

    def to_json(self) -> dict[str, Any]:
        """Plain description, as stored."""
        return {
            "name": self.name,
            "layout": self.layout.describe(),
            "layout_digest": self.layout.digest,
            "network": {"kind": self.network.kind, "arguments": dict(self.network.arguments)},
            "scaling": {"mean": list(self.scaling.mean), "std": list(self.scaling.std)},
            "history": self.history,
            "transition": dict(self.transition),
            "sha256": self.sha256,
            "training": dict(self.training),
            "scores": dict(self.scores),
        }

    @staticmethod
    def from_json(text: Mapping[str, Any]) -> WeightCard:
        """Read back what `to_json` wrote."""
        return WeightCard(
            name=text["name"],
            layout=layout_from_description(text["layout"]),
            network=NetworkSpec(text["network"]["kind"], text["network"]["arguments"]),
            scaling=Scaling(tuple(text["scaling"]["mean"]), tuple(text["scaling"]["std"])),
            history=int(text["history"]),
            transition=text.get("transition", {"kind": "spectral"}),
            sha256=text["sha256"],
            training=text.get("training", {}),
            scores=text.get("scores", {}),
        )


def save_weights(
    folder: Path,
    card: WeightCard,
    *,
    state: Mapping[str, Tensor],
    measured: Mapping[str, Tensor],
    singles: Mapping[str, Tensor] | None = None,
    denoiser: Mapping[str, Tensor] | None = None,
) -> WeightCard:
    """Write states of network and denoiser, measured tensors, card; the card with its sha256.

    What was measured is kept in float64, and `singles` of it in float32.
    """
    states = {_NETWORK: state, DENOISER: denoiser or {}}
    named = {f"{prefix}{name}": value for prefix, values in states.items() for name, value in values.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in named.items()}
    for some, dtype in ((measured, torch.float64), (singles or {}, torch.float32)):
        tensors |= {name: value.to(dtype).cpu().contiguous() for name, value in some.items()}
    raw = save(tensors)
    digest = hashlib.sha256(raw).hexdigest()
    stored = WeightCard(**{**card.__dict__, "sha256": digest})
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((WEIGHTS, raw), (CARD, (json.dumps(stored.to_json(), indent=1) + "\n").encode())):
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)
    return stored


def read_card(folder: Path) -> WeightCard:
    """Read the card of a weights folder; raises WeightsMismatch when it is absent or damaged."""
    path = folder / CARD
    try:
        return WeightCard.from_json(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise WeightsMismatch(
            f"weights {folder}: no {CARD} there; give a folder with {CARD} and {WEIGHTS}, "
            "or train one with `cycler train`"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsMismatch(f"weights {folder}: {CARD} cannot be read ({error})") from error


def load_transition(
    folder: Path, *, layout: Layout | None = None, sha256: str | None = None, device: str = "cpu"
) -> LearnedTransition:
    """Load a transition for a layout (default: the card's own).

    Raises WeightsMismatch or LayoutMismatch before any number is computed: for a damaged file, for another
    hash than asked for, for a layout that the kind of transition cannot serve.
    """
    card, network, measured = load_parts(folder, sha256=sha256)
    network.to(device)
    parts = Parts(network, card.scaling, card.history, card.layout, layout or card.layout, measured, str(folder))
    return assemble(card.transition, parts)


def load_parts(folder: Path, *, sha256: str | None = None) -> tuple[WeightCard, nn.Module, dict[str, Tensor]]:
    """Card, network with its weights, and what else stands with them; raises WeightsMismatch."""
    card = read_card(folder)
    tensors = load(_read(folder, card, sha256))
    try:
        network = build_network(card.network)
    except ConfigError as error:
        raise WeightsMismatch(f"weights {folder}: {error}") from error
    state = {name.removeprefix(_NETWORK): value for name, value in tensors.items() if name.startswith(_NETWORK)}
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise WeightsMismatch(
            f"weights {folder / WEIGHTS} do not fit network {card.network.kind!r}: {error}"
        ) from error
    measured = {name: value for name, value in tensors.items() if not name.startswith(_NETWORK)}
    return card, network.eval(), measured


def _read(folder: Path, card: WeightCard, sha256: str | None) -> bytes:
    path = folder / WEIGHTS
    if not path.is_file():
        raise WeightsMismatch(f"weights {folder}: {WEIGHTS} is missing beside its card")
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    way_out = "Put the folder back as it was released, or train again"
    for wanted, source, advice in (
        (card.sha256, "its card", way_out),
        (sha256, "the config", f"{way_out}; if this file is meant, set sha256 to {found[:16]} or leave it out"),
    ):
        if wanted is not None and not found.startswith(wanted):
            raise WeightsMismatch(
                f"weights {path}: sha256 is {found[:16]}, {source} says {wanted[:16]}; "
                f"the file is damaged or not the one meant. {advice}"
            )
    return raw
