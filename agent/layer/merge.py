"""One config table laid over another, and the keys that nobody lays over from afar. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Json = dict[str, Any]

FIXED: Final = (
    "vehicle",
    "state",
    "identity",
    "provision",
    "jobs",
    "broker.certificate_file",
    "broker.key_file",
    "broker.pkcs11",
)
"""Who the vehicle is, where it keeps its state, and what it lets be done from afar: a wrong
value could not be put right from afar, or would give the operator more than the owner of the
file has given."""


def fixed_keys(layer: Mapping[str, Any]) -> list[str]:
    """The keys of a layer that may not be there."""
    return [key for key, _ in flat(layer) if any(_touches(key, one) for one in FIXED)]


def _touches(key: str, fixed: str) -> bool:
    """Whether to lay over ``key`` changes ``fixed``; a whole table may be taken away, too."""
    return f"{key}.".startswith(f"{fixed}.") or fixed.startswith(f"{key}.")


def laid_over(table: Mapping[str, Any], layer: Mapping[str, Any]) -> Json:
    """``table`` with the layer's values: tables key by key, anything else as a whole.

    ``None`` takes a key away, so that its default counts.
    """
    merged = dict(table)
    for key, value in layer.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = laid_over(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; a list is one value, an empty table too."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
