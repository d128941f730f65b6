"""JSON, the live format: one message each, about 500 bytes.

A decoder never guesses. Whatever breaks the contract raises :class:`ContractError`
with the field's name; the caller keeps the bytes.
"""

from __future__ import annotations

from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from contract.errors import ContractError
from contract.messages import AnyMessage, Event, Sample, Status

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""AWS IoT Core's limit for one payload."""

M = TypeVar("M", bound=BaseModel)


def encode(message: AnyMessage) -> bytes:
    """UTF-8 JSON without spaces and without absent groups."""
    return message.model_dump_json(exclude_none=True).encode()


def decode_sample(payload: bytes | str) -> Sample:
    """Decode ``telemetry/{vehicle_id}``.

    Raises:
        ContractError: the bytes are not a valid sample; names the first bad field.
    """
    return _decode(Sample, payload)


def decode_event(payload: bytes | str) -> Event:
    """Decode ``events/{vehicle_id}``.

    Raises:
        ContractError: the bytes are not a valid event.
    """
    return _decode(Event, payload)


def decode_status(payload: bytes | str) -> Status:
    """Decode ``status/{vehicle_id}``.

    Raises:
        ContractError: the bytes are not a valid status.
    """
    return _decode(Status, payload)


def validate_sample(row: object) -> Sample:
    """A sample from an already parsed JSON object (timestamps still text).

    Raises:
        ContractError: names the first bad field.
    """
    from pydantic_core import to_json  # noqa: PLC0415  only batches come this way

    try:
        return Sample.model_validate_json(to_json(row, inf_nan_mode="constants"))
    except ValidationError as error:
        raise _contract_error(error) from None


def _decode(model: type[M], payload: bytes | str) -> M:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ContractError(
            "payload", f"{len(payload)} bytes; at most {MAX_MESSAGE_BYTES} are allowed"
        )
    try:
        # What ``model_validate_json`` calls; its checks of arguments not given cost 5 %.
        message: M = model.__pydantic_validator__.validate_json(payload)
    except ValidationError as error:
        raise _contract_error(error) from None
    return message


def _contract_error(error: ValidationError) -> ContractError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"]) or "payload"
    return ContractError(path, first["msg"])
