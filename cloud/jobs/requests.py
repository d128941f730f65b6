"""What vehicles ask about jobs: read, checked, or refused with AWS IoT's codes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from cloud.errors import JobsError
from contract.jobs import (
    DETAIL_KEY_PATTERN,
    MAX_DETAIL_VALUE,
    MAX_DETAILS,
    TOLD_BY_VEHICLE,
    JobStatus,
)

MAX_TOKEN_BYTES: Final = 64
MAX_STEP_MINUTES: Final = 10_080
"""Seven days."""

_KEY: Final = re.compile(DETAIL_KEY_PATTERN)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request of any action; what it does not have is ``None``."""

    status: JobStatus | None = None
    details: Mapping[str, str] | None = None
    expected_version: int | None = None
    execution_number: int | None = None
    step_timeout_minutes: int | None = None
    """-1: the timer is stopped."""
    wants_state: bool = False
    wants_document: bool | None = None
    client_token: str | None = None


def parse_request(payload: bytes, *, is_update: bool = False) -> Request:
    """Read a request; an empty payload asks for nothing in particular.

    Raises:
        JobsError: InvalidJson, InvalidRequest.
    """
    document = _object(payload or b"{}")
    token = document.get("clientToken")
    if token is not None and (
        not isinstance(token, str) or len(token.encode("utf-8", "replace")) > MAX_TOKEN_BYTES
    ):
        refuse(f"clientToken must be a text of at most {MAX_TOKEN_BYTES} bytes", None)
    return Request(
        status=_status(document, token) if is_update else None,
        details=_details(document, token),
        expected_version=_number(document, "expectedVersion", token),
        execution_number=_number(document, "executionNumber", token),
        step_timeout_minutes=_minutes(document, token),
        wants_state=bool(_flag(document, "includeJobExecutionState", token)),
        wants_document=_flag(document, "includeJobDocument", token),
        client_token=token,
    )


def client_token(payload: bytes) -> str | None:
    """The token of a request that cannot be carried out, if it can be read."""
    try:
        return parse_request(payload).client_token
    except JobsError as error:
        return error.client_token


def refuse(reason: str, token: str | None) -> NoReturn:
    """Raise InvalidRequest."""
    raise JobsError("InvalidRequest", reason, client_token=token)


def _object(payload: bytes) -> Json:
    try:
        document = json.loads(payload.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):  # UnicodeDecodeError is one
        raise JobsError("InvalidJson", "the request is no JSON in UTF-8") from None
    if not isinstance(document, dict):
        refuse("the request is no object", None)
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _status(document: Json, token: str | None) -> JobStatus:
    allowed = {one.value: one for one in TOLD_BY_VEHICLE}
    status = document.get("status")
    if not isinstance(status, str) or status not in allowed:
        refuse(f"status must be one of {', '.join(sorted(allowed))}", token)
    return allowed[status]


def _details(document: Json, token: str | None) -> Json | None:
    details = document.get("statusDetails")
    if details is None:
        return None
    if not isinstance(details, dict) or len(details) > MAX_DETAILS:
        refuse(f"statusDetails must be an object of at most {MAX_DETAILS} texts", token)
    for key, value in details.items():
        if not _KEY.fullmatch(key):
            refuse(f"statusDetails: {key[:40]!r} is no key", token)
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_DETAIL_VALUE:
            refuse(f"statusDetails: {key} must be a text of 1 to {MAX_DETAIL_VALUE}", token)
        if not value.isprintable():
            refuse(f"statusDetails: {key} holds characters that are not allowed", token)
    return details


def _number(document: Json, name: str, token: str | None) -> int | None:
    value = document.get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)  # AWS IoT documents a text and takes both
    if value is not None and (type(value) is not int or not 0 <= value < 2**63):
        refuse(f"{name} must be a number", token)
    return value


def _minutes(document: Json, token: str | None) -> int | None:
    value = document.get("stepTimeoutInMinutes")
    if value is None:
        return None
    if type(value) is not int or not (value == -1 or 1 <= value <= MAX_STEP_MINUTES):
        refuse(f"stepTimeoutInMinutes must be 1 to {MAX_STEP_MINUTES}, or -1", token)
    return value


def _flag(document: Json, name: str, token: str | None) -> bool | None:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        refuse(f"{name} must be true or false", token)
    return value
