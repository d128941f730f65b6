"""Shadow documents for people: dotted keys, and what became of each. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple

import click

ABOUT: Final = frozenset({"desired_version", "refused"})
"""What a vehicle reports beside its settings."""


class KeyState(StrEnum):
    """What became of a key."""

    FILE = "config file"
    """Nothing is asked for."""

    APPLIED = "applied"
    WAITING = "waiting"
    REFUSED = "refused"


class Row(NamedTuple):
    """One setting; ``None`` where a side says nothing of it."""

    key: str
    desired: Any
    reported: Any
    state: KeyState


def rows(document: dict[str, Any]) -> list[Row]:
    """Every key that is desired or reported, by name."""
    state = document.get("state", {})
    desired, reported = flat(state.get("desired", {})), flat(state.get("reported", {}))
    refused = state.get("reported", {}).get("refused", {})
    open_keys = flat(state.get("delta", {}))
    keys = sorted({*desired, *(key for key in reported if key.partition(".")[0] not in ABOUT)})

    def state_of(key: str) -> KeyState:
        if key not in desired:
            return KeyState.FILE
        if key not in open_keys:
            return KeyState.APPLIED
        return KeyState.REFUSED if key.partition(".")[0] in refused else KeyState.WAITING

    return [Row(key, desired.get(key), reported.get(key), state_of(key)) for key in keys]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """The other way round.

    Raises:
        click.BadParameter: one key is a part of another.
    """
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
            if not isinstance(branch, dict):
                raise click.BadParameter(f"{key}: {name} is given a value of its own too")
        if last in branch:
            raise click.BadParameter(f"{key}: is given twice")
        branch[last] = value
    return tree


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """``key=value`` pairs; a value is JSON, or text where it is none.

    Raises:
        click.BadParameter: a text is no pair.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, e.g. delivery.batch_s=10")
        if key in found:
            raise click.BadParameter(f"{key}: is given twice")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def known_key(document: dict[str, Any], key: str) -> str | None:
    """What to say of a key that the vehicle does not report; ``None`` if there is nothing."""
    state = document.get("state", {})
    reported = state.get("reported", {})
    if not reported or any(_found(state.get(side), key) is not None for side in state):
        return None
    near = difflib.get_close_matches(key, flat(reported), n=1)
    return f"; did you mean {near[0]}?" if near else "; it will tell whether it knows it"


def asked_for(document: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the shadow desires exactly this already; ``None`` desires nothing."""
    desired = document.get("state", {}).get("desired")
    # as texts, because true is no 1 in JSON
    return all(json.dumps(_found(desired, key)) == json.dumps(wanted[key]) for key in wanted)


def concerns(row: Row, keys: Iterable[str]) -> bool:
    """Whether a row is one of the keys or lies below one."""
    return any(row.key == key or row.key.startswith(f"{key}.") for key in keys)


def _found(tree: Any, key: str) -> Any:
    """The value, or the branch, at a dotted key; ``None`` where there is none."""
    for name in key.split("."):
        if not isinstance(tree, dict):
            return None
        tree = tree.get(name)
    return tree
