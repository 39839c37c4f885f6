"""Registry: the name after `kind:` in a config leads to the Spec that builds the thing.

A Spec is a frozen, keyword-only dataclass in the same file as the class it builds. It needs nothing but
the standard library; `config.py` reads YAML into it strictly (unknown keys are refused).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

from cycler_da.errors import ConfigError

GROUPS = (
    "system",
    "network_of_sites",
    "operator",
    "error",
    "forecast",
    "scheme",
    "guidance",
    "executor",
    "start",
    "nature",
    "network",
)

T = TypeVar("T", bound=type)


class Spec:
    """Base of everything that is built from a config block; subclasses are frozen dataclasses."""

    #: Read by pydantic when a config is validated: unknown keys are errors, and so are .nan and .inf.
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "arbitrary_types_allowed": True,
        "allow_inf_nan": False,
    }


_SPECS: dict[str, dict[str, type[Spec]]] = {group: {} for group in GROUPS}


def register(group: str, kind: str) -> Callable[[T], T]:
    """Class decorator: enter a Spec under a group and a kind, each kind once."""

    def enter(spec: T) -> T:
        known = _SPECS[group]
        if kind in known and _full_name(known[kind]) != _full_name(spec):
            raise ValueError(f"{group} kind {kind!r} is registered twice: {known[kind]} and {spec}")
        known[kind] = spec
        return spec

    return enter


def lookup(group: str, kind: str) -> type[Spec]:
    """Find the Spec of a kind; raises ConfigError that lists the valid names."""
    known = _SPECS[group]
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"unknown {group} kind {kind!r}; valid: {', '.join(sorted(known))}.{hint}")
    return known[kind]


def spec_of_block(group: str, block: Mapping[str, Any], *, where: str) -> Any:
    """Read a block with `kind` inside a Spec's own options; raises ConfigError that names block and key."""
    options = dict(block)
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{where}: needs a `kind`; valid: {', '.join(sorted(_SPECS[group]))}")
    return read_strictly(lookup(group, kind), options, where=f"{where} ({kind})")


def registered(group: str) -> dict[str, type[Spec]]:
    """All kinds of a group with their Specs (for the contract tests and `cycler check --list`)."""
    return dict(_SPECS[group])


def read_strictly(cls: type, options: Mapping[str, Any], *, where: str) -> Any:
    """Options into a dataclass by the standard library alone (training machines have no pydantic).

    Raises ConfigError for an unknown key, which names the nearest valid one, for a number or text where the other is
    expected, for numbers that are not finite, and for values that cannot be right.
    """
    known = {f.name: f.type for f in fields(cls)}
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where}: unknown key {key!r}; valid: {', '.join(known) or 'none'}.{hint}")
        _require_plain(key, value, known[key], where)
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


#: Annotation of a plain value -> what its values are, in words and in types (a truth value is no number).
_PLAIN: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a finite number", (int, float)),
    "str": ("text", (str,)),
    "bool": ("true or false", (bool,)),
    "None": ("null", (type(None),)),
}


def _require_plain(key: str, value: object, annotation: Any, where: str) -> None:
    """Raise ConfigError for a value of another type than that of a plain field; other fields check themselves."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    parts = [part.strip() for part in name.split("|")]
    if not set(parts) <= _PLAIN.keys():
        return
    words, types = zip(*(_PLAIN[part] for part in parts), strict=True)
    kinds = {kind for some in types for kind in some}
    is_kind = type(value) in kinds if isinstance(value, bool) else isinstance(value, tuple(kinds))
    if not is_kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{where}: {key} is {value!r}; expected {' or '.join(words)}{_hint(value)}")


def _hint(value: object) -> str:
    """What to do about text that is meant as a number."""
    is_meant = isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value) is not None
    return ". YAML takes 1e-3 and 1.0e3 for text: write 1.0e-3 and 1.0e+3" if is_meant else ""


def _full_name(spec: type) -> str:
    return f"{spec.__module__}.{spec.__qualname__}"
