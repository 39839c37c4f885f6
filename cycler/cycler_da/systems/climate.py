"""A system named in a config that can be run from states of its own climate, for nature runs and training pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cycler_da.errors import ConfigError
from cycler_da.registry import lookup, registered
from cycler_da.systems import catalogue as _catalogue  # noqa: F401  (registers the systems)
from cycler_da.systems.base import ClimateSpec


def climate_system(block: Mapping[str, Any], *, where: str) -> ClimateSpec:
    """Read `kind` and options; raises ConfigError for another kind of system or an unknown option."""
    options = dict(block)
    kind = options.pop("kind", None)
    cls = lookup("system", str(kind))
    if not hasattr(cls, "spun_up"):
        valid = ", ".join(sorted(name for name, other in registered("system").items() if hasattr(other, "spun_up")))
        raise ConfigError(f"{where}: system {kind!r} cannot be run from its climate; valid: {valid}")
    try:
        spec: Any = cls(**options)
    except TypeError as error:
        names = ", ".join(option.name for option in fields(cls))  # type: ignore[arg-type]  # every Spec is one
        raise ConfigError(f"{where}: {error}; valid: kind, {names}") from error
    built: ClimateSpec = spec
    return built
