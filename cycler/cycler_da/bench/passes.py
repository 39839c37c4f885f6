"""Passes of networks, counted as they run: what a method costs on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass
class Passes:
    """Passes of networks, counted as they run.

    A pass of a batch is one pass, of each member in it; with `of_members` it is as many as there are members in it.
    """

    forward: int = 0
    backward: int = 0
    of_members: bool = False

    def watch(self, module: nn.Module) -> None:
        """Count the passes of a module from now on."""
        module.register_forward_hook(self._note)

    @property
    def total(self) -> int:
        """What tables call passes: forward passes, and each backward pass as two more (its work is twice theirs)."""
        return self.forward + 2 * self.backward

    def reset(self) -> None:
        """Begin to count anew."""
        self.forward = self.backward = 0

    def _note(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        self.forward += len(output) if self.of_members else 1
        if output.requires_grad:
            output.register_hook(self._note_backward)

    def _note_backward(self, gradient: torch.Tensor) -> None:
        self.backward += len(gradient) if self.of_members else 1
