"""Config blocks of operation: what decides when and how cycles run, not what they compute.

None of this is part of the config's digest: a cycle says itself with which observations, rung and pass it was made.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cycler_da.errors import ConfigError
from cycler_da.times import parse_duration


class Block(BaseModel):
    """A block of settings: unknown keys are refused, values are never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def require_duration(text: str | None) -> str | None:
    """Check a duration where it is read, so that a wrong one never waits for its first use."""
    try:
        if text is not None:
            parse_duration(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error  # the reader of the config adds the key
    return text


#: Rungs below the full scheme, from the top; see `cycle/fallback.py`.
RUNGS = ("fewer_members", "letkf", "unguided", "persistence", "last_good")


class FallbackBlock(Block):
    """Rungs below the full scheme; in use with `on_failed_analysis: ladder`."""

    rungs: list[Literal["fewer_members", "letkf", "unguided", "persistence", "last_good"]] = Field(
        default_factory=lambda: list(RUNGS)  # type: ignore[arg-type]
    )
    members: int | None = Field(None, ge=2, description="of the rung fewer_members; None: half of them")
    letkf: dict[str, Any] = Field(
        default_factory=lambda: {"localization_radius_cells": 4, "inflation": 1.05},
        description="options of the rung letkf",
    )


class OperationsBlock(Block):
    """How an experiment is served and watched."""

    max_age: str | None = Field(None, description="age of the data that is an alert; None: three cycles")

    _durations = field_validator("max_age")(require_duration)
