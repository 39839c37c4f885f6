"""Config: one YAML is one experiment, read strictly.

Unknown keys are refused with the nearest valid name, and so are wrong types, before anything runs. `extends`
names one parent file whose mappings are merged (lists are replaced); `--set a.b=value` changes one key. A
block with `kind` is read into the Spec registered under that kind. Relative paths are relative to the
folder the command runs in, except `extends`, which is relative to the file that says it.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from cycler_da.errors import ConfigError
from cycler_da.forecasts_block import ForecastsBlock
from cycler_da.operations_blocks import Block, FallbackBlock, OperationsBlock, require_duration, require_time
from cycler_da.registry import Spec, lookup
from cycler_da.times import parse_duration, parse_time

_NOT_SCIENCE = ("root", "executor", "summary", "plots", "operations", "on_failed_analysis", "fallback", "forecasts")


class EnsembleBlock(Block):
    """Size of the ensemble."""

    members: int = Field(32, ge=2)
    batch: int = Field(8, ge=1, description="members forecast together; part of the result, not of the machine")


class CyclesBlock(Block):
    """When cycles are valid."""

    start: str
    count: int = Field(ge=1, description="analyses after the start")
    every: str = "24h"
    window: str | None = Field(None, description="length of the observing window; None: one cycle")
    frames: str | None = Field(
        None, description="spacing of forecast frames inside the window, for observations at their own times; None: one"
    )

    _times = field_validator("start")(require_time)


class DrawBlock(Block):
    """How synthetic observations of a stream are drawn from the nature run when its files are missing."""

    network: dict[str, Any]
    error: dict[str, float] = Field(description="standard deviation of each variable, its units or the control's")
    error_at_zero: dict[str, float] | None = Field(
        None, description="standard deviation where the truth is zero or below (no echo); None: `error` there, too"
    )
    error_scale: str = Field("physical", pattern="^(physical|control)$", description="where errors are Gaussian")
    law: str = Field("gaussian", description="law of the errors: gaussian, laplace, uniform or lognormal")
    law_shape: float | None = Field(None, description="s of law lognormal, its skewness; None: 0.5")
    seed: int = 1
    every: str | None = Field(None, description="spacing of observing times inside the window; None: its end alone")

    _durations = field_validator("every")(require_duration)


class StreamBlock(Block):
    """One stream of observation files, `<folder>/<stream>_<stamp>.nc`."""

    stream: str
    folder: str
    operator: dict[str, Any] = Field(default_factory=lambda: {"kind": "points"})
    qc: dict[str, Any] = Field(default_factory=dict)
    error_tuning: dict[str, Any] | None = Field(None, description="slow tuning of observation errors; None: none")
    draw: DrawBlock | None = None
    required: bool = Field(False, description="a missing file stops the cycle instead of degrading it")
    cutoff: str | None = Field(None, description="how long a cycle waits for the file; None: one cycle")
    final: str | None = Field(None, description="when late files are taken in; None: no final pass")

    _durations = field_validator("cutoff", "final")(require_duration)


class ChainBlock(Block):
    """One scheme cycled through the whole experiment, with its own forecasts."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    scheme: dict[str, Any]
    forecast: dict[str, Any] | None = Field(None, description="another forecast model than the experiment's")
    members: int | None = Field(None, ge=2)


class VerificationBlock(Block):
    """How analyses are scored where there is a nature run."""

    spin_up: int = Field(0, ge=0, description="first cycles left out of the closing table")
    scale: dict[str, float] = Field(default_factory=dict, description="climatological std of each variable")
    headline: str = Field("all", description="variable of the closing table; all: normalised by scale and pooled")
    thresholds: dict[str, list[float]] = Field(default_factory=dict)
    window: int = Field(40, ge=20, description="cycles of the trailing window of the calibration")


class ExperimentConfig(Block):
    """A whole experiment."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    summary: str = ""
    root: str = "runs"
    seed: int
    system: dict[str, Any]
    nature: dict[str, Any] | None = None
    start: dict[str, Any]
    forecast: dict[str, Any]
    ensemble: EnsembleBlock = EnsembleBlock()
    observations: list[StreamBlock]
    chains: list[ChainBlock] = Field(min_length=1)
    cycles: CyclesBlock
    executor: dict[str, Any] = Field(default_factory=lambda: {"kind": "serial"})
    verification: VerificationBlock = VerificationBlock()
    on_failed_analysis: str = Field("stop", pattern="^(stop|use_background|ladder)$")
    fallback: FallbackBlock = FallbackBlock()
    forecasts: ForecastsBlock | None = Field(None, description="forecasts from every analysis; None: none")
    plots: bool = True
    operations: OperationsBlock = OperationsBlock()

    def valid_times(self) -> np.ndarray:
        """Start time and all cycle times, datetime64[s]."""
        every = parse_duration(self.cycles.every)
        return parse_time(self.cycles.start) + every * np.arange(self.cycles.count + 1)

    def resolved(self) -> dict[str, Any]:
        """Plain description with every default written out."""
        return self.model_dump(mode="json")

    @cached_property
    def digest(self) -> str:
        """sha256 of all that the science of a cycle depends on.

        Where results go, on which workers, how many cycles follow, what the closing table shows and how the experiment
        is operated are not part of it; neither are the check of whole streams and what follows a failed analysis, which
        an operator must be able to change at night (manifests record the check, and what was done instead).
        """
        science = {k: v for k, v in self.resolved().items() if k not in _NOT_SCIENCE}
        science["cycles"] = {k: v for k, v in science["cycles"].items() if k != "count"}
        science["verification"] = {k: v for k, v in science["verification"].items() if k not in _SHOWN_ONLY}
        for stream in science["observations"]:
            for key in ("folder", "cutoff", "final"):
                stream.pop(key)
            stream["qc"].pop("stream_check", None)
            if stream["error_tuning"] is None:
                stream.pop("error_tuning")  # as it was before there was this key
            if stream["draw"] and stream["draw"]["error_at_zero"] is None:
                stream["draw"].pop("error_at_zero")  # as it was before there was this key
            if stream["draw"] and stream["draw"]["law"] == "gaussian":
                stream["draw"].pop("law")  # the same
            if stream["draw"] and stream["draw"]["law_shape"] is None:
                stream["draw"].pop("law_shape")
        text = yaml.safe_dump(science, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def stream_checks(self) -> str:
        """The checks of whole streams, in words; "default" where none is set."""
        return (
            ", ".join(f"{b.stream} {b.qc['stream_check']}" for b in self.observations if "stream_check" in b.qc)
            or "default"
        )


#: Keys of `verification` that change what is shown and no product of a cycle but its passport.
_SHOWN_ONLY = ("spin_up", "headline", "window")


def load_config(path: Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment; raises ConfigError with the key, what was found and what is valid."""
    merged = _read_yaml(Path(path))
    for override in overrides:
        _apply_override(merged, override)
    try:
        config = ExperimentConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(f"config {path}:\n{_explain(error, ExperimentConfig)}") from error
    names = [chain.name for chain in config.chains]
    if len(set(names)) != len(names):
        raise ConfigError(f"config {path}: chains need different names, got {', '.join(names)}")
    config.valid_times()
    return config


def read_spec(group: str, block: Mapping[str, Any], *, where: str) -> Spec:
    """Read a block with `kind` into its Spec; raises ConfigError that names block and key."""
    options = dict(block)
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{where}: needs a `kind`, one of the {group} kinds")
    return _into(lookup(group, kind), options, where=f"{where} ({kind})")


def read_settings(cls: type, block: Mapping[str, Any], *, where: str) -> Any:
    """Read a block without `kind` into a settings class, strictly."""
    return _into(cls, dict(block), where=where)


def _into(cls: type, options: dict[str, Any], *, where: str) -> Any:
    try:
        return TypeAdapter(cls).validate_python(options)
    except ValidationError as error:
        raise ConfigError(f"{where}:\n{_explain(error, cls)}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"config {path} extends itself through {', '.join(p.name for p in seen)}")
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"config {path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config {path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"config {path}: expected a mapping of keys, got {type(raw).__name__}")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    return _merge(_read_yaml(path.parent / parent, (*seen, path.resolve())), raw)


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # A block of another kind replaces the parent's block: its options would not fit.
        same_kind = (
            isinstance(old, dict)
            and isinstance(value, Mapping)
            and value.get("kind", old.get("kind")) == old.get("kind")
        )
        merged[key] = _merge(old, value) if same_kind and isinstance(old, dict) else value
    return merged


def _apply_override(config: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override!r}: write key.subkey=value")
    *path, last = key.strip().split(".")
    block: Any = config
    for name in path:
        block = block[_position(block, name, override)] if isinstance(block, list) else block.setdefault(name, {})
        if not isinstance(block, dict | list):
            raise ConfigError(f"--set {override!r}: {name!r} is not a block")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value") from error
    if isinstance(block, list):
        block[_position(block, last, override)] = value
    else:
        block[last] = value


def _position(block: list[Any], name: str, override: str) -> int:
    names = [item.get("name", item.get("stream", i)) if isinstance(item, dict) else i for i, item in enumerate(block)]
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(block):
        return int(name)
    raise ConfigError(f"--set {override!r}: no item {name!r} in the list; valid: {', '.join(map(str, names))}")


def _explain(error: ValidationError, cls: type) -> str:
    lines = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"]) or "(top level)"
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            valid = _keys_at(cls, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), valid, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            lines.append(f"  {place}: unknown key; valid: {', '.join(valid)}.{hint}")
        else:
            lines.append(f"  {place}: {item['msg']}, got {_short(item.get('input'))}")
    return "\n".join(lines)


def _keys_at(cls: Any, loc: Sequence[Any]) -> list[str]:
    """Names of the fields of the block an error lies in."""
    for part in loc:
        if isinstance(part, str) and hasattr(cls, "model_fields") and part in cls.model_fields:
            inner = cls.model_fields[part].annotation
            choices = [inner, *getattr(inner, "__args__", ())]
            cls = next((c for c in choices if hasattr(c, "model_fields")), inner)
    if hasattr(cls, "model_fields"):
        return sorted(cls.model_fields)
    return sorted(getattr(cls, "__dataclass_fields__", {}))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
