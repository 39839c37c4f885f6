"""What the benchmarks on Lorenz-63 share: the noisy system, the learned transitions and the networks.

One model step is dt = 0.025 by Runge-Kutta plus N(0, dt) in every component (0.158), as in Chen et al. (2025),
arXiv:2501.16642; states are normalised by (8, 9, 8.6) there. The learned transitions are released weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cycler_da.bench.small_systems.twin import ComponentOperator, CurvedOperator, Network, TrueModel
from cycler_da.errors import ConfigError
from cycler_da.generative.prediction import LearnedTransition
from cycler_da.generative.weights import load_transition
from cycler_da.noise import Noise
from cycler_da.systems.lorenz63 import Lorenz63Spec

if TYPE_CHECKING:
    from torch import Tensor

SYSTEM = Lorenz63Spec(time_step=0.025, unit="1000s", step="25s", process_noise=1.0)
#: Standard deviations by which states are normalised in the literature.
SCALE = torch.tensor([8.0, 9.0, 8.6], dtype=torch.float64)
#: Model steps of a cycle -> folder of the weights of that transition.
WEIGHTS = {1: "data/weights/lorenz63/step", 10: "data/weights/lorenz63/window"}
_SPIN_UP = 400


def true_model(n_steps: int) -> TrueModel:
    """The system over a cycle of `n_steps` model steps."""
    return TrueModel(SYSTEM.build(), n_steps)


def learned_transition(n_steps: int) -> LearnedTransition:
    """Released weights of a cycle; raises ConfigError outside a checkout."""
    folder = Path(WEIGHTS[n_steps])
    if not folder.is_dir():
        raise ConfigError(f"weights {folder} are not in this folder; run the benchmark from the root of a checkout")
    layout = SYSTEM.layout()
    return load_transition(folder, layout=replace(layout, step=n_steps * layout.step))


def linear_network(channels: tuple[int, ...], error: float) -> Network:
    """Components observed as they are."""
    return Network(ComponentOperator(), channels, error)


def arctan_network() -> Network:
    """The arctangent of X / 8 with error 0.25: the network of the FlowDAS paper."""
    return Network(CurvedOperator(lambda x: torch.atan(x / 8.0)), (0,), 0.25)


def starts(n: int, *, seed: int) -> Tensor:
    """States on the attractor, `(n, 3, 1)`."""
    z = Noise(seed).shared_normal("starts", (n, 3, 1), dtype=torch.float64)
    centre = torch.tensor([0.0, 0.0, 25.0], dtype=torch.float64)[:, None]
    return TrueModel(SYSTEM.build(), _SPIN_UP).advance(centre + SCALE[:, None] * z, Noise(seed, -1))
