"""Tables of a training that has several parts: each is made once, so that a training that was stopped goes on.

Every part stands in a file of its own, which appears whole or not at all and names the settings it was made with; a
part of other settings is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open
from safetensors.torch import save_file

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class KeptTables:
    """A folder of parts; without a folder nothing is kept."""

    folder: Path | None
    settings: str  # their text; another text is another training

    def of(self, part: str, make: Callable[[], Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], float]:
        """Tables of a part and the seconds that making them took, now or in an earlier call."""
        path = None if self.folder is None else self.folder / f"{part}.safetensors"
        if path is not None and path.is_file():
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                if told.get("settings") == self.settings:
                    return {name: file.get_tensor(name) for name in file.keys()}, float(told["seconds"])  # noqa: SIM118
        began = time.monotonic()
        tables = dict(make())
        seconds = time.monotonic() - began
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            told = {"settings": self.settings, "seconds": str(seconds)}
            save_file({name: table.contiguous() for name, table in tables.items()}, partial, metadata=told)
            partial.replace(path)
        return tables, seconds
