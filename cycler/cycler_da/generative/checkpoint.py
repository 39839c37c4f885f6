"""Checkpoint of a training: so that a run that was stopped takes the same steps as one that was not.

Network, moving average of its weights and optimiser stand in one file, which appears whole or not at all. It
names the settings it was made with and serves no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cycler_da.errors import ConfigError

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training in a folder; without a folder nothing is kept."""

    folder: Path | None
    settings: str  # their text; another text is another training
    network: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer

    def keep(self, step: int, seconds: float) -> None:
        """Write the state after `step` steps."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{CHECKPOINT}.partial"
        state = {
            "settings": self.settings,
            "step": step,
            "seconds": seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT)

    def resume(self) -> tuple[int, float]:
        """Load what is there and return the steps done and seconds spent; (0, 0.0) when there is nothing.

        Raises ConfigError when the checkpoint belongs to other settings.
        """
        path = None if self.folder is None else self.folder / CHECKPOINT
        if path is None or not path.is_file():
            return 0, 0.0
        device = next(self.network.parameters()).device
        state = torch.load(path, weights_only=True, map_location=device)
        if state["settings"] != self.settings:
            raise ConfigError(
                f"checkpoint {path} was made with other settings: {state['settings']}; "
                f"now {self.settings}. Remove it or train in another folder"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        return int(state["step"]), float(state["seconds"])


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average of weights one step: average <- decay average + (1 - decay) network."""
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        mine.lerp_(theirs, 1.0 - decay)
