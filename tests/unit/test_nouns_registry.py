"""The registry finds a Spec by name, and helps with a name that is nearly right."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from cycler_da import registry
from cycler_da.errors import ConfigError
from cycler_da.registry import GROUPS, Spec, lookup, register, registered


@pytest.fixture(autouse=True)
def _empty_registry(monkeypatch):
    monkeypatch.setattr(registry, "_SPECS", {group: {} for group in GROUPS})


def enter_letkf() -> type[Spec]:
    @register("scheme", "letkf")
    @dataclass(frozen=True, kw_only=True)
    class LetkfSpec(Spec):
        inflation: float = 1.0

    return LetkfSpec


def test_a_registered_spec_is_found_by_group_and_kind():
    spec = enter_letkf()
    assert lookup("scheme", "letkf") is spec
    assert registered("scheme") == {"letkf": spec}
    assert registered("operator") == {}


def test_an_unknown_kind_is_answered_with_the_valid_and_the_nearest_name():
    enter_letkf()
    register("scheme", "free_run")(type("FreeRunSpec", (Spec,), {}))
    with pytest.raises(ConfigError) as caught:
        lookup("scheme", "letfk")
    assert str(caught.value) == "unknown scheme kind 'letfk'; valid: free_run, letkf. Did you mean 'letkf'?"


def test_a_kind_unlike_all_others_gets_the_list_without_a_guess():
    enter_letkf()
    with pytest.raises(ConfigError) as caught:
        lookup("scheme", "zzzzzz")
    assert str(caught.value) == "unknown scheme kind 'zzzzzz'; valid: letkf."


def test_one_kind_is_registered_once_but_a_reloaded_module_may_come_back():
    enter_letkf()
    enter_letkf()  # the same name from the same module: an import done twice
    with pytest.raises(ValueError, match="registered twice"):
        register("scheme", "letkf")(type("OtherSpec", (Spec,), {}))


def test_equal_class_names_of_two_modules_still_collide():
    register("scheme", "letkf")(type("S", (Spec,), {"__module__": "one"}))
    with pytest.raises(ValueError, match="registered twice"):
        register("scheme", "letkf")(type("S", (Spec,), {"__module__": "two"}))


def test_what_the_caller_gets_is_a_copy():
    enter_letkf()
    registered("scheme").clear()
    assert lookup("scheme", "letkf")
