"""Requests about a shadow: read, checked, or refused with AWS's code and words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from cloud.errors import ShadowError
from contract.shadow import MAX_SHADOW_BYTES

MAX_LEVELS: Final = 6
MAX_TOKEN_BYTES: Final = 64
SECTIONS: Final = ("desired", "reported")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A request of any action; ``state`` is there for updates alone."""

    state: Json = field(default_factory=dict)
    version: int | None = None
    client_token: str | None = None


def parse_request(payload: bytes) -> Request:
    """Read a ``get`` or ``delete``; its payload may be empty.

    Raises:
        ShadowError: 400 or 415.
    """
    document = _object(payload or b"{}")
    token = _token(document)
    return Request(version=_version(document, token), client_token=token)


def parse_update(payload: bytes) -> Request:
    """Read an ``update``; a section that is ``null`` is to be removed as a whole.

    Raises:
        ShadowError: 400, 413 or 415.
    """
    document = _object(payload)
    token = _token(document)
    version = _version(document, token)
    if "state" not in document:
        refuse(400, "Missing required node: state", token)
    state = document["state"]
    if state is None:
        state = dict.fromkeys(SECTIONS)
    if not isinstance(state, dict):
        refuse(400, "State node must be an object", token)
    for name, section in state.items():
        if name not in SECTIONS:
            refuse(400, f"State contains an invalid node: '{name[:64]}'", token)
        if section is not None and not isinstance(section, dict):
            refuse(400, f"{name.capitalize()} node must be an object", token)
        if section is not None and _levels(section) > MAX_LEVELS:
            refuse(400, f"JSON contains too many levels of nesting; maximum is {MAX_LEVELS}", token)
    check_size(state, token)
    return Request(state, version, token)


def check_size(state: Json, client_token: str | None) -> None:
    """Refuse a state that is larger than a shadow may be.

    Raises:
        ShadowError: 413.
    """
    text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode("utf-8", "replace")) > MAX_SHADOW_BYTES:
        refuse(413, "The payload exceeds the maximum size allowed", client_token)


def refuse(code: int, reason: str, token: str | None) -> NoReturn:
    """Raise the error."""
    raise ShadowError(code, reason, client_token=token) from None


def _object(payload: bytes) -> Json:
    try:
        document = json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        refuse(415, "Unsupported documented encoding; supported encoding is UTF-8", None)
    except RecursionError:
        refuse(400, f"JSON contains too many levels of nesting; maximum is {MAX_LEVELS}", None)
    except ValueError:
        refuse(400, "Invalid JSON", None)
    if not isinstance(document, dict):
        refuse(400, "Invalid JSON", None)
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _token(document: Json) -> str | None:
    token = document.get("clientToken")
    if token is not None and (
        not isinstance(token, str) or len(token.encode("utf-8", "replace")) > MAX_TOKEN_BYTES
    ):
        refuse(400, "Invalid clientToken", None)
    return token


def _version(document: Json, token: str | None) -> int | None:
    version = document.get("version")
    if version is not None and (type(version) is not int or version < 0):
        refuse(400, "Invalid version", token)
    return version


def _levels(value: Any) -> int:
    """How deep objects and arrays are nested; 0 for a plain value."""
    if isinstance(value, dict):
        return 1 + max(map(_levels, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_levels, value), default=0)
    return 0
