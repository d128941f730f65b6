"""The Lambda functions on one machine: event shapes in, failures out, and the other targets.

Kinesis record fields are those of the AWS Lambda developer guide, "Using Lambda with
Kinesis"; ``approximateArrivalTimestamp`` is in seconds.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from cloud.clock import from_milliseconds
from cloud.errors import StoreError
from cloud.ports import DeadLetter, DeadLetterStore, LambdaEvent, LambdaResponse, StatusStore
from cloud.serve.consumer import PartialFailure, Process
from cloud.serve.stream import StreamRecord
from contract import ContractError, MessageKind, Topics, decode_status

SHARD: Final = "shardId-000000000000"
REGION: Final = "local"

Handler = Callable[[LambdaEvent, object], LambdaResponse]


class LambdaContext:
    """What handlers may ask of their invocation; ours ask nothing."""

    def __init__(self, function_name: str) -> None:
        self.function_name = function_name


def kinesis_event(stream: str, records: Sequence[StreamRecord]) -> LambdaEvent:
    """The event in which Lambda delivers stream records."""
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.partition_key,
                    "sequenceNumber": str(record.sequence),
                    "data": base64.b64encode(record.data).decode(),
                    "approximateArrivalTimestamp": record.arrived_at_ms / 1000,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{SHARD}:{record.sequence}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": f"arn:aws:iam::000000000000:role/{REGION}",
                "awsRegion": REGION,
                "eventSourceARN": f"arn:aws:kinesis:{REGION}:000000000000:stream/{stream}",
            }
            for record in records
        ]
    }


def function(name: str, stream: str, handler: Handler) -> Process:
    """A handler as a consumer's work; ``batchItemFailures`` become ``PartialFailure``."""
    context = LambdaContext(name)

    def process(records: Sequence[StreamRecord]) -> None:
        response = handler(kinesis_event(stream, records), context)
        failed = lowest_failed(response, records)
        if failed is not None:
            raise PartialFailure(failed, "reported the record as failed")

    return process


def invoked(name: str, handler: Handler) -> Process:
    """A function that a rule calls, as a consumer's work: each record is an event of its own."""
    context = LambdaContext(name)

    def process(records: Sequence[StreamRecord]) -> None:
        for index, record in enumerate(records):
            try:
                handler(json.loads(record.data), context)
            except StoreError as error:
                raise PartialFailure(index, str(error)) from error

    return process


def lowest_failed(response: LambdaResponse, records: Sequence[StreamRecord]) -> int | None:
    """Index of the first record to deliver again.

    As Lambda does: no answer or an empty list is success; an identifier that is empty or
    of no record means that everything failed.
    """
    failures = (response or {}).get("batchItemFailures") or []
    if not failures:
        return None
    index_of = {str(record.sequence): index for index, record in enumerate(records)}
    return min(index_of.get(str(failure.get("itemIdentifier")), 0) for failure in failures)


def status_table(store: StatusStore, letters: DeadLetterStore) -> Process:
    """The DynamoDBv2 action of the status rule.

    The item's key comes from the payload, so it is compared with the topic, which the
    certificate vouches for; what breaks the contract becomes a dead letter.
    """

    def process(records: Sequence[StreamRecord]) -> None:
        for record in records:
            try:
                item = _status_item(record.data)
            except ContractError as error:
                letters.put(_letter(record, _status_topic(record.data), error.field, error.reason))
            else:
                store.put_status(item["vehicle_id"], item)

    return process


def rule_errors(letters: DeadLetterStore) -> Process:
    """The dead-letter queue's consumer: what the rules' error actions sent."""

    def process(records: Sequence[StreamRecord]) -> None:
        for record in records:
            document = json.loads(record.data)
            failure = document["failures"][0]
            trace = document.get("cloudwatchTraceId", "none")
            letters.put(
                DeadLetter(
                    topic=document["topic"],
                    payload=base64.b64decode(document["base64OriginalPayload"]),
                    field=document["ruleName"],
                    reason=f"{failure['failedAction']}: {failure['errorMessage']}"
                    f" (client {document['clientId']}, trace {trace})",
                    received_at=from_milliseconds(record.arrived_at_ms),
                )
            )

    return process


def bury(letters: DeadLetterStore) -> Callable[[StreamRecord, str], None]:
    """Where a consumer's hopeless records go."""

    def give_up(record: StreamRecord, reason: str) -> None:
        letters.put(_letter(record, None, "record", reason))

    return give_up


def _status_item(data: bytes) -> dict[str, Any]:
    status = decode_status(data)
    item: dict[str, Any] = json.loads(data)
    owner = item.get("topic_vehicle_id")
    if owner != status.vehicle_id:
        raise ContractError(
            "vehicle_id", f"{status.vehicle_id!r} was published on a topic of {owner!r}"
        )
    item["vehicle_id"] = status.vehicle_id
    return item


def _status_topic(data: bytes) -> str | None:
    try:
        return Topics(json.loads(data)["topic_vehicle_id"]).topic(MessageKind.STATUS)
    except (ValueError, KeyError, TypeError):
        return None


def _letter(record: StreamRecord, topic: str | None, field: str, reason: str) -> DeadLetter:
    return DeadLetter(topic, record.data, field, reason, from_milliseconds(record.arrived_at_ms))
