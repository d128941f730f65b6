"""The operator's side of the registrations table; its items are in ``dynamodb_registrations``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from cloud.errors import FleetError
from cloud.provisioning.ports import AllowedVehicle
from cloud.stores.aws_errors import wrapped
from cloud.stores.dynamodb_registrations import DynamoRegistrations, Item, line_of, text_of

LINES_AT_ONCE: Final = 33
"""A line is up to three items, and a transaction takes a hundred."""

_CANCELED: Final = "TransactionCanceledException"


class DynamoAllowList:
    """Lines, blocked vehicles and the names of claim certificates."""

    def __init__(
        self, client: Any, table: str, register_table: str, registrations: DynamoRegistrations
    ) -> None:
        self._client = client
        self._table = table
        self._register_table = register_table
        self.registrations = registrations

    def lines(self) -> Sequence[AllowedVehicle]:
        """The allow list, by serial number."""
        blocked = self.blocked()
        found = (
            line_of(item, blocked=text_of(item, "vehicle_id") in blocked)
            for item in self._items("serial#")
        )
        return sorted(found, key=lambda line: line.serial_number)

    def add(self, lines: Sequence[AllowedVehicle]) -> None:
        """Add lines, ``LINES_AT_ONCE`` in a transaction, and tell the register their types.

        Raises:
            FleetError: a serial number or a vehicle is on the list already.
        """
        serials = {line.serial_number: line for line in self.lines()}
        vehicles = {line.vehicle_id: line for line in serials.values()}
        for line in lines:
            taken = serials.get(line.serial_number) or vehicles.get(line.vehicle_id)
            if taken is not None:
                raise FleetError(
                    f"serial number {taken.serial_number} is on the allow list already, "
                    f"as {taken.vehicle_id}",
                    hint="to replace it: milepost-cloud fleet allow remove --aws "
                    f"{taken.serial_number}",
                )
            serials[line.serial_number] = vehicles[line.vehicle_id] = line
        for start in range(0, len(lines), LINES_AT_ONCE):
            part = lines[start : start + LINES_AT_ONCE]
            try:
                with wrapped(self._table, but=_CANCELED):
                    self._client.transact_write_items(
                        TransactItems=[one for line in part for one in self._added(line)]
                    )
            except ClientError:
                raise FleetError(
                    f"{start} of {len(lines)} lines were added; somebody else adds some of them",
                    hint="milepost-cloud fleet allow list --aws shows which are there",
                ) from None

    def remove(self, line: AllowedVehicle) -> None:
        """Remove a line."""
        with wrapped(self._table):
            self._client.transact_write_items(
                TransactItems=[
                    {
                        "Delete": {
                            "TableName": self._table,
                            "Key": _key(f"serial#{line.serial_number}"),
                        }
                    },
                    {
                        "Update": {
                            "TableName": self._table,
                            "Key": _key(f"vehicle#{line.vehicle_id}"),
                            "UpdateExpression": "REMOVE serial_number",
                        }
                    },
                ]
            )

    def serial_number_of(self, vehicle_id: str) -> str | None:
        """The serial number of a vehicle's line."""
        item = self.registrations.item(f"vehicle#{vehicle_id}") or {}
        return text_of(item, "serial_number") or None

    def known(self) -> frozenset[str]:
        """The vehicles that are or were on the list, or were blocked."""
        return frozenset(_name(item) for item in self._items("vehicle#"))

    def blocked(self) -> frozenset[str]:
        """The vehicles that are blocked."""
        return frozenset(_name(item) for item in self._items("vehicle#") if "blocked" in item)

    def set_blocked(self, vehicle_id: str, *, blocked: bool) -> None:
        """Block or unblock a vehicle."""
        self._set_flag(f"vehicle#{vehicle_id}", blocked=blocked)

    def set_line_blocked(self, serial_number: str, *, blocked: bool) -> None:
        """Block or unblock a line of the allow list."""
        self._set_flag(f"serial#{serial_number}", blocked=blocked)

    def _set_flag(self, item_key: str, *, blocked: bool) -> None:
        expression = "SET blocked = :yes" if blocked else "REMOVE blocked"
        values = {"ExpressionAttributeValues": {":yes": {"BOOL": True}}} if blocked else {}
        with wrapped(self._table):
            self._client.update_item(
                TableName=self._table,
                Key=_key(item_key),
                UpdateExpression=expression,
                **values,
            )

    def claims(self) -> Mapping[str, str]:
        """The names of claim certificates by certificate_id."""
        return {_name(item): text_of(item, "claim_name") for item in self._items("claim#")}

    def add_claim(self, certificate_id: str, name: str) -> None:
        """Give a claim certificate its name."""
        item = _key(f"claim#{certificate_id}") | {"claim_name": {"S": name}}
        with wrapped(self._table):
            self._client.put_item(TableName=self._table, Item=item)

    def _added(self, line: AllowedVehicle) -> Iterator[Item]:
        yield {
            "Put": {
                "TableName": self._table,
                "Item": _key(f"serial#{line.serial_number}")
                | {
                    "vehicle_id": {"S": line.vehicle_id},
                    "vehicle_type": {"S": line.vehicle_type},
                },
                "ConditionExpression": "attribute_not_exists(item_key)",
            }
        }
        yield {
            "Update": {
                "TableName": self._table,
                "Key": _key(f"vehicle#{line.vehicle_id}"),
                "UpdateExpression": "SET serial_number = :serial",
                "ConditionExpression": "attribute_not_exists(serial_number)",
                "ExpressionAttributeValues": {":serial": {"S": line.serial_number}},
            }
        }
        if line.vehicle_type:
            yield {
                "Update": {
                    "TableName": self._register_table,
                    "Key": {"vehicle_id": {"S": line.vehicle_id}},
                    "UpdateExpression": "SET vehicle_type = :type",
                    "ExpressionAttributeValues": {":type": {"S": line.vehicle_type}},
                }
            }

    def _items(self, prefix: str) -> Iterator[Item]:
        with wrapped(self._table):
            pages = self._client.get_paginator("scan").paginate(
                TableName=self._table,
                FilterExpression="begins_with(item_key, :prefix)",
                ExpressionAttributeValues={":prefix": {"S": prefix}},
                ConsistentRead=True,
            )
            for page in pages:
                yield from page["Items"]


def _key(item_key: str) -> Item:
    return {"item_key": {"S": item_key}}


def _name(item: Item) -> str:
    return text_of(item, "item_key").partition("#")[2]
