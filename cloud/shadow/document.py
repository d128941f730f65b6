"""The shadow and what requests do to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from cloud.shadow.requests import Json, Request, check_size, refuse
from contract.shadow import SHADOW_NAME

REMEMBERED_S: Final = 48 * 3600


@dataclass(frozen=True, slots=True)
class Shadow:
    """A stored shadow. ``state`` and ``metadata`` hold the sections that are not empty."""

    version: int
    changed_s: int
    """Seconds since 1970."""
    state: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)
    deleted: bool = False
    """Kept for its version alone."""


def existing(shadow: Shadow | None, request: Request) -> Shadow:
    """The shadow that a ``get`` or ``delete`` is about.

    Raises:
        ShadowError: 404 without one, 409 when the request names another version.
    """
    if shadow is None or shadow.deleted:
        refuse(404, f"No shadow exists with name: '{SHADOW_NAME}'", request.client_token)
    _check_version(shadow, request)
    return shadow


def updated(shadow: Shadow | None, request: Request, now_s: int) -> Shadow:
    """The shadow after an update; creates it where there is none.

    Raises:
        ShadowError: 409 when the request names another version, 413 when it grows too large.
    """
    _check_version(shadow, request)
    state = dict(shadow.state) if shadow else {}
    metadata = dict(shadow.metadata) if shadow else {}
    for name, patch in request.state.items():
        section, times = ({}, {}) if patch is None else (state.get(name), metadata.get(name))
        section, times = _merged(section or {}, times or {}, patch or {}, now_s)
        state[name], metadata[name] = section, times
        if not section:
            del state[name], metadata[name]
    check_size(state, request.client_token)
    return Shadow(_next_version(shadow, now_s), now_s, state, metadata)


def deleted(shadow: Shadow, now_s: int) -> Shadow:
    """What is kept of a deleted shadow."""
    return Shadow(shadow.version, now_s, deleted=True)


def delta(shadow: Shadow) -> tuple[Json, Json]:
    """What is desired and not reported, and the times at which it was desired."""
    return _difference(
        shadow.state.get("desired", {}),
        shadow.metadata.get("desired", {}),
        shadow.state.get("reported", {}),
    )


def _check_version(shadow: Shadow | None, request: Request) -> None:
    current = shadow.version if shadow and not shadow.deleted else 0
    if request.version is not None and request.version != current:
        refuse(409, "Version conflict", request.client_token)


def _next_version(shadow: Shadow | None, now_s: int) -> int:
    if shadow is None or (shadow.deleted and now_s - shadow.changed_s > REMEMBERED_S):
        return 1
    return shadow.version + 1


def _merged(state: Json, metadata: Json, patch: Json, now_s: int) -> tuple[Json, Json]:
    state, metadata = dict(state), dict(metadata)
    for key, value in patch.items():
        if isinstance(value, dict):
            known = isinstance(state.get(key), dict)
            value, times = _merged(  # noqa: PLW2901  the patch becomes what is stored
                state[key] if known else {}, metadata[key] if known else {}, value, now_s
            )
        else:
            times = stamps(value, now_s)
        if value is None or value == {}:
            state.pop(key, None)
            metadata.pop(key, None)
        else:
            state[key], metadata[key] = value, times
    return state, metadata


def stamps(value: Any, now_s: int) -> Any:
    """The metadata of a value that was given now."""
    if isinstance(value, dict):
        return {key: stamps(inner, now_s) for key, inner in value.items()}
    if isinstance(value, list):
        return [stamps(inner, now_s) for inner in value]
    return {"timestamp": now_s}


def _difference(desired: Json, times: Json, reported: Json) -> tuple[Json, Json]:
    state: Json = {}
    metadata: Json = {}
    for key, wanted in desired.items():
        told = reported.get(key)
        if isinstance(wanted, dict) and isinstance(told, dict):
            inner, inner_times = _difference(wanted, times[key], told)
            if inner:
                state[key], metadata[key] = inner, inner_times
        elif key not in reported or not _same(wanted, told):
            state[key], metadata[key] = wanted, times[key]
    return state, metadata


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: Python takes ``true`` for 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)
