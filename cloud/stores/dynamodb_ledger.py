"""The ledger in DynamoDB: one table, ``vehicle_id`` and ``item_key``.

================  ==================================================
``item_key``      item
================  ==================================================
``run#<run>``     ``head`` as JSON, ``version``: counts its changes
``block#<run>#<number>``  ``ranges``, binary
================  ==================================================

A change writes the head, if its version is still the one that was read, and the blocks in
one transaction; who comes second reads again. Items do not expire: a block that went
before its run would look like a loss, and a day at 1 Hz takes about 2 KB.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from cloud.accounting.ledger import Change, RunHead, apply
from cloud.accounting.ranges import Range, Ranges
from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.stores.aws_errors import code_of, wrapped

MAX_TRIES: Final = 7
FIRST_WAIT_S: Final = 0.05
MAX_BLOCKS: Final = 50
"""In one transaction of 100 items and 4 MB at most."""

Item = dict[str, Any]


class DynamoLedgerStore:
    """``LedgerStore`` on the runs table."""

    def __init__(self, client: Any, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def record(self, changes: Sequence[Change]) -> None:
        """One transaction for each run; some may be stored when it raises."""
        for change in changes:
            for part in _parts(change):
                self._record(part)

    def heads(self, vehicle_id: str) -> list[RunHead]:
        """Every run of a vehicle."""
        items = self._query(vehicle_id, "run#")
        return [RunHead.from_json(item["head"]["S"]) for item in items]

    def ranges(self, vehicle_id: str, run_id: str) -> Iterator[Range]:
        """What is there of a run."""
        for item in self._query(vehicle_id, f"block#{run_id}#"):
            yield from Ranges.from_bytes(item["ranges"]["B"])

    def _record(self, change: Change) -> None:
        for attempt in range(MAX_TRIES):
            if self._try(change):
                return
            self._clock.sleep_s(random.uniform(0, FIRST_WAIT_S * 2**attempt))  # noqa: S311  no secret
        raise StoreError(
            f"{self._table}: run {change.run_id} was changed by others {MAX_TRIES} times",
            hint="Does more than one function write this table?",
        )

    def _try(self, change: Change) -> bool:
        item = self._get(change.vehicle_id, _head_key(change.run_id))
        version = 0 if item is None else int(item["version"]["N"])
        head = RunHead(change.run_id) if item is None else RunHead.from_json(item["head"]["S"])
        blocks = {}
        for block in change.blocks():
            stored = self._get(change.vehicle_id, _block_key(change.run_id, block))
            blocks[block] = Ranges() if stored is None else Ranges.from_bytes(stored["ranges"]["B"])
        apply(head, blocks, change)
        put_head = {
            "TableName": self._table,
            "Item": {
                "vehicle_id": {"S": change.vehicle_id},
                "item_key": {"S": _head_key(change.run_id)},
                "head": {"S": head.to_json()},
                "version": {"N": str(version + 1)},
            },
            "ConditionExpression": "attribute_not_exists(#version) OR #version = :read",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":read": {"N": str(version)}},
        }
        puts = [
            {
                "TableName": self._table,
                "Item": {
                    "vehicle_id": {"S": change.vehicle_id},
                    "item_key": {"S": _block_key(change.run_id, block)},
                    "ranges": {"B": ranges.to_bytes()},
                },
            }
            for block, ranges in blocks.items()
        ]
        with wrapped(self._table):
            try:
                self._client.transact_write_items(
                    TransactItems=[{"Put": put} for put in (put_head, *puts)]
                )
            except ClientError as error:
                reasons = error.response.get("CancellationReasons") or []
                lost = {"ConditionalCheckFailed", "TransactionConflict"}
                if code_of(error) == "TransactionCanceledException" and any(
                    reason.get("Code") in lost for reason in reasons
                ):
                    return False
                raise
        return True

    def _get(self, vehicle_id: str, item_key: str) -> Item | None:
        with wrapped(self._table):
            answer = self._client.get_item(
                TableName=self._table,
                Key={"vehicle_id": {"S": vehicle_id}, "item_key": {"S": item_key}},
                ConsistentRead=True,
            )
        item: Item | None = answer.get("Item")
        return item

    def _query(self, vehicle_id: str, prefix: str) -> Iterator[Item]:
        start: Item = {}
        while True:
            with wrapped(self._table):
                answer = self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="vehicle_id = :v AND begins_with(item_key, :p)",
                    ExpressionAttributeValues={":v": {"S": vehicle_id}, ":p": {"S": prefix}},
                    ConsistentRead=True,
                    **start,
                )
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}


def _head_key(run_id: str) -> str:
    return f"run#{run_id}"


def _block_key(run_id: str, block: int) -> str:
    # sequences have 16 digits at most
    return f"block#{run_id}#{block:013d}"


def _parts(change: Change) -> Iterator[Change]:
    """The change, cut where it touches more blocks than one transaction takes."""
    blocks = list(change.blocks())
    if len(blocks) <= MAX_BLOCKS:
        yield change
        return
    yield Change(
        change.vehicle_id,
        change.run_id,
        change.heard_ms,
        told=change.told,
        end=change.end,
        drops=change.drops,
    )
    for arrival in change.arrivals:
        yield Change(change.vehicle_id, change.run_id, change.heard_ms, [arrival])
