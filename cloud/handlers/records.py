"""A Kinesis event, decoded once per consumer: samples, events, and what broke the contract.

A record is what one of the IoT rules selected: a sample, an event (it has ``event_type``),
a status (``state``) or a batch (``batch_base64``), each with ``topic_vehicle_id`` and
``received_at_ms``. The rules take the topic from the connection, and a policy ties the topic
to the certificate; the payload's ``vehicle_id`` must agree with it.

Whatever breaks the contract becomes a :class:`cloud.ports.DeadLetter` in
``Record.broken``. Four consumers read the same stream; ``enrich`` alone keeps the letters,
so each is kept once. A batch loses only the samples in it that are broken.
"""

from __future__ import annotations

import binascii
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from pydantic_core import CoreConfig, SchemaValidator, core_schema, from_json, to_json

from cloud.clock import from_milliseconds
from cloud.ports import DeadLetter, LambdaEvent
from contract import (
    ContractError,
    Event,
    MessageKind,
    Sample,
    Status,
    Topics,
    decode_batch_rows,
    decode_event,
    decode_sample,
    decode_status,
    encode,
)

_log = logging.getLogger(__name__)

MAX_AHEAD: Final = timedelta(minutes=5)
"""A sample stamped later than this after its receipt has a wrong clock."""

MAX_TEXT: Final = 500
"""Characters of a letter's field and reason; a vehicle chooses the names in a path."""

_VEHICLE: Final = "topic_vehicle_id"
_RECEIVED: Final = "received_at_ms"

_BASE64: Final = SchemaValidator(core_schema.bytes_schema(), CoreConfig(val_json_bytes="base64"))
"""``validate_strings`` decodes in a quarter of the time that ``binascii`` takes."""


class Arrival(NamedTuple):
    """A valid sample and its JSON as the vehicle sent it."""

    sample: Sample
    payload: bytes


class Record(NamedTuple):
    """One stream record, decoded."""

    sequence_number: str
    """Kinesis' own; has nothing to do with ``Sample.sequence``."""
    received_at: datetime
    samples: Sequence[Arrival] = ()
    events: Sequence[Event] = ()
    broken: Sequence[DeadLetter] = ()
    statuses: Sequence[Status] = ()


def read_records(event: LambdaEvent) -> Iterator[Record]:
    """Decode an event's records in their order; never raises for what a vehicle sent."""
    receipt_ms, received_at = -1, _EPOCH  # receipts come in runs of the same millisecond
    for raw in event["Records"]:
        kinesis = raw["kinesis"]
        number: str = kinesis["sequenceNumber"]
        data: bytes = _BASE64.validate_strings(kinesis["data"])
        try:
            # Most records are samples; a batch fails here at once and an event shows below.
            sample = decode_sample(data)
            # The models keep unknown fields; the rule's own are taken out again.
            extra: dict[str, Any] = sample.__pydantic_extra__ or {}
            vehicle_id = extra.pop(_VEHICLE, None)
            stamp = extra.pop(_RECEIVED, None)
            if extra and not extra.keys().isdisjoint(_OTHER_KINDS):
                yield _read_slowly(number, data, kinesis)
                continue
            _check_origin(vehicle_id, sample.vehicle_id)
            if stamp != receipt_ms:
                receipt_ms, received_at = stamp, _received_at(stamp)
        except ContractError:
            yield _read_slowly(number, data, kinesis)
            continue
        added = f',"topic_vehicle_id":"{vehicle_id}","received_at_ms":{stamp}}}'.encode()
        # Both keys stand at the very end as the rule appends them; cut, the vehicle's own
        # JSON is left and need not be made again.
        payload = data[: -len(added)] + b"}" if data.endswith(added) else encode(sample)
        yield Record(number, received_at, (Arrival(sample, payload),))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OTHER_KINDS: Final = frozenset({"event_type", "state", "batch_base64"})


def believable(sample: Sample, received_at: datetime) -> bool:
    """Whether a sample may change what is known of the present.

    One from the future (a wrong clock) goes to history and archive like any other, but
    as the latest position it would hide the real ones until that time comes.
    """
    return sample.timestamp <= received_at + MAX_AHEAD


def failures(sequence_numbers: Sequence[str]) -> dict[str, Any]:
    """A handler's answer: the lowest failed record, from which the stream is sent again."""
    if not sequence_numbers:
        return {"batchItemFailures": []}
    return {"batchItemFailures": [{"itemIdentifier": min(sequence_numbers, key=int)}]}


def _read_slowly(number: str, data: bytes, kinesis: dict[str, Any]) -> Record:
    """Events, batches and whatever is broken: the way that finds out exactly why."""
    received_at = _arrived_at(kinesis)
    topic: str | None = None
    try:
        row = _json_object(data)
        vehicle_id, stamp = row.pop(_VEHICLE, None), row.pop(_RECEIVED, None)
        topic = _topic(vehicle_id, row)
        received_at = _received_at(stamp)
        if "batch_base64" in row:
            return _read_batch(number, received_at, vehicle_id, row)
        data = to_json(row)
        if "event_type" in row:
            happened = decode_event(data)
            _check_origin(vehicle_id, happened.vehicle_id)
            return Record(number, received_at, events=(happened,))
        if "state" in row:
            return _read_status(number, received_at, vehicle_id, data)
        sample = decode_sample(data)
        _check_origin(vehicle_id, sample.vehicle_id)
    except ContractError as error:
        letter = _letter(topic, data, error, received_at)
        return Record(number, received_at, broken=(letter,))
    return Record(number, received_at, (Arrival(sample, data),))


def _read_status(number: str, received_at: datetime, vehicle_id: Any, data: bytes) -> Record:
    """A broken one gets no letter here: the rule's other action, the status table, has it."""
    try:
        status = decode_status(data)
        _check_origin(vehicle_id, status.vehicle_id)
    except ContractError as error:
        _log.warning("a status of %r was passed over: %s", vehicle_id, error)
        return Record(number, received_at)
    return Record(number, received_at, statuses=(status,))


def _read_batch(number: str, received_at: datetime, vehicle_id: Any, row: dict[str, Any]) -> Record:
    topic = _topic(vehicle_id, row)
    try:
        content = binascii.a2b_base64(row["batch_base64"], strict_mode=True)
    except (ValueError, TypeError):
        raise ContractError("batch_base64", "is not base64") from None
    try:
        _check_origin(vehicle_id, vehicle_id)
        rows = decode_batch_rows(content)
    except ContractError as error:
        letter = _letter(topic, content, error, received_at)
        return Record(number, received_at, broken=(letter,))
    samples: list[Arrival] = []
    broken: list[DeadLetter] = []
    for index, one in enumerate(rows):
        payload = b""
        try:
            payload = _row_json(one)
            sample = decode_sample(payload)
            _check_origin(vehicle_id, sample.vehicle_id)
        except ContractError as error:
            payload = payload or repr(one).encode(errors="backslashreplace")
            broken.append(_letter(topic, payload, error, received_at, f"batch.{index}."))
        else:
            samples.append(Arrival(sample, payload))
    return Record(number, received_at, samples, (), broken)


def _letter(
    topic: str | None, payload: bytes, error: ContractError, received_at: datetime, where: str = ""
) -> DeadLetter:
    field = f"{where}{error.field}"[:MAX_TEXT]
    return DeadLetter(topic, payload, field, error.reason[:MAX_TEXT], received_at)


def _row_json(row: dict[str, Any]) -> bytes:
    try:
        return to_json(row)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError("payload", f"cannot be written as JSON: {error}") from None


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        row = from_json(data)
    except ValueError as error:
        raise ContractError("payload", f"is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ContractError("payload", "is not a JSON object")
    return row


def _check_origin(topic_vehicle_id: Any, vehicle_id: str) -> None:
    if not isinstance(topic_vehicle_id, str):
        raise ContractError(_VEHICLE, "is missing or no text; no rule of Milepost selected this")
    if topic_vehicle_id != vehicle_id:
        raise ContractError(
            "vehicle_id", f"{vehicle_id!r} was published on a topic of {topic_vehicle_id!r}"
        )


def _topic(vehicle_id: Any, row: dict[str, Any]) -> str | None:
    if "batch_base64" in row:
        kind = MessageKind.BATCH
    elif "event_type" in row:
        kind = MessageKind.EVENTS
    else:
        kind = MessageKind.STATUS if "state" in row else MessageKind.TELEMETRY
    try:
        return Topics(vehicle_id).topic(kind)
    except (ContractError, TypeError):
        return None


def _received_at(stamp: Any) -> datetime:
    if type(stamp) is not int:
        raise ContractError(_RECEIVED, "is missing or no integer; no rule of Milepost added it")
    try:
        return from_milliseconds(stamp)
    except OverflowError:
        raise ContractError(_RECEIVED, f"{stamp} is no time in milliseconds") from None


def _arrived_at(kinesis: dict[str, Any]) -> datetime:
    """When the stream took the record, for letters about records that do not say it."""
    seconds = float(kinesis.get("approximateArrivalTimestamp", 0.0))
    return from_milliseconds(round(seconds * 1000))
