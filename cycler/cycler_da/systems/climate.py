"""A system named in a config that can be run from states of its own climate, for nature runs and training pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cycler_da.errors import ConfigError
from cycler_da.registry import lookup, read_strictly, registered
from cycler_da.systems import catalogue as _catalogue  # noqa: F401  (registers the systems)
from cycler_da.systems.base import ClimateSpec


def climate_system(block: Mapping[str, Any], *, where: str) -> ClimateSpec:
    """Read `kind` and options strictly; raises ConfigError, also for a system that has no climate to start from."""
    options = dict(block)
    kind = options.pop("kind", None)
    cls = lookup("system", str(kind))
    if not hasattr(cls, "spun_up"):
        valid = ", ".join(sorted(name for name, other in registered("system").items() if hasattr(other, "spun_up")))
        raise ConfigError(f"{where}: system {kind!r} cannot be run from its climate; valid: {valid}")
    spec: ClimateSpec = read_strictly(cls, options, where=f"{where} ({kind})")
    return spec
