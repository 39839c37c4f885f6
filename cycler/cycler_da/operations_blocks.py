"""Config blocks of operation: what decides when and how cycles run, not what they compute.

None of this is part of the config's digest: a cycle says itself with which observations, rung and pass it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cycler_da.errors import ConfigError
from cycler_da.times import parse_duration, parse_time


class Block(BaseModel):
    """A block of settings: unknown keys are refused, values are never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def readable_by(parse: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """Check a text where it is read, so that a wrong one never waits for its first use."""

    def check(text: str | None) -> str | None:
        try:
            if text is not None:
                parse(text)
        except ConfigError as error:
            raise ValueError(str(error)) from error  # the reader of the config adds the key
        return text

    return check


require_duration, require_time = readable_by(parse_duration), readable_by(parse_time)


#: Rungs below the full scheme, from the top; see `cycle/fallback.py`.
RUNGS = ("fewer_members", "letkf", "unguided", "advection", "persistence", "last_good")


class FallbackBlock(Block):
    """Rungs below the full scheme; in use with `on_failed_analysis: ladder`."""

    rungs: list[Literal["fewer_members", "letkf", "unguided", "advection", "persistence", "last_good"]] = Field(
        default_factory=lambda: list(RUNGS)  # type: ignore[arg-type]
    )
    members: int | None = Field(None, ge=2, description="of the rung fewer_members; None: half of them")
    letkf: dict[str, Any] = Field(
        default_factory=lambda: {"localization_radius_cells": 4, "inflation": 1.05},
        description="options of the rung letkf",
    )


class SinkBlock(Block):
    """Where alerts go."""

    kind: Literal["webhook", "command"]
    url: str | None = Field(None, description="of a webhook")
    url_env: str | None = Field(None, description="name of the environment variable that holds the url")
    command: list[str] = Field(default_factory=list, description="program and arguments, no shell")
    at_least: Literal["warning", "error"] = "warning"

    @model_validator(mode="after")
    def _has_target(self) -> SinkBlock:
        if self.kind == "webhook" and ((self.url is None) == (self.url_env is None) or self.command):
            raise ValueError("a webhook needs url or url_env, one of them, and no command")
        if self.kind == "command" and (not self.command or self.url or self.url_env):
            raise ValueError("a command needs the key command, a list of words, and no url")
        return self


class AlertsBlock(Block):
    """Who is told, and how often."""

    repeat: str = Field("6h", description="an alert that lasts is told again")
    sinks: list[SinkBlock] = Field(default_factory=list)

    _durations = field_validator("repeat")(require_duration)


class TierBlock(Block):
    """How long files whose name fits a pattern stay."""

    files: str = Field(description="pattern of names within a cycle, such as plots/* or *.nc; * fits / as well")
    keep: str | None = Field(None, description="data time before the newest cycle; None: for ever")

    _durations = field_validator("keep")(require_duration)


class RetentionBlock(Block):
    """What `cycler retain` archives and removes; the first tier that fits decides."""

    archive: str | None = Field(None, description="folder of the copies, on another disk")
    tiers: list[TierBlock] = Field(default_factory=list)


class OperationsBlock(Block):
    """How an experiment is served and watched."""

    max_age: str | None = Field(None, description="age of the data that is an alert; None: three cycles")
    min_free_gb: float = Field(1.0, ge=0, description="free space of the store below which there is an alert")
    limits: dict[str, tuple[float | None, float | None]] = Field(
        default_factory=dict, description="hard limits of numbers of a cycle, [low, high], null for none"
    )
    alerts: AlertsBlock = AlertsBlock()
    retention: RetentionBlock = RetentionBlock()

    _durations = field_validator("max_age")(require_duration)
