"""Latest positions, conditions and alerts in DynamoDB.

================  ===========================  ========================================
table             key                          item
================  ===========================  ========================================
``POSITIONS``     ``vehicle_id``               the position, flat
``ALERTS``        ``vehicle_id``, ``item_key``  "condition#<kind>": the last evaluation;
                                               "alert#<alert_id>": one alert
================  ===========================  ========================================

Moments are text in the contract's form, which sorts as time does; every write that must
not go backwards carries a condition on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from cloud.ports import Alert, AlertKind, Condition, Position
from cloud.stores.aws_errors import code_of, wrapped
from cloud.stores.wording import alert_item, position_item
from contract.fields import format_timestamp

SMALLEST: Final = 1e-129
"""DynamoDB refuses numbers nearer to zero than 1e-130."""

Item = dict[str, Any]


class DynamoPositionStore:
    """``PositionStore`` on the positions table."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def put_if_newer(self, position: Position) -> bool:
        """Whether it was stored."""
        try:
            with wrapped(self._table):
                self._put(position)
        except _NotNewerError:
            return False
        return True

    def put_newest(self, positions: Sequence[Position]) -> Sequence[Position]:
        """One conditional write each; those before a failure are stored."""
        return [position for position in positions if self.put_if_newer(position)]

    def _put(self, position: Position) -> None:
        item = {name: _attribute(value) for name, value in position_item(position).items()}
        try:
            self._client.put_item(
                TableName=self._table,
                Item=item,
                ConditionExpression="attribute_not_exists(vehicle_id) OR #at < :at",
                ExpressionAttributeNames={"#at": "timestamp"},
                ExpressionAttributeValues={":at": item["timestamp"]},
            )
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                raise _NotNewerError from None
            raise


class DynamoAlertStore:
    """``AlertStore`` on the alerts table."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def condition(self, vehicle_id: str, kind: AlertKind) -> Condition | None:
        """The stored state."""
        item = self._get(vehicle_id, f"condition#{kind.value}")
        if item is None:
            return None
        return Condition(
            vehicle_id=vehicle_id,
            kind=kind,
            raised=item["raised"]["BOOL"],
            evaluated_at=datetime.fromisoformat(item["evaluated_at"]["S"]),
            alert_id=item.get("alert_id", {}).get("S"),
            streak=int(item["streak"]["N"]),
            unnotified=item["unnotified"]["BOOL"],
        )

    def alert(self, vehicle_id: str, alert_id: str) -> Alert | None:
        """One alert."""
        item = self._get(vehicle_id, f"alert#{alert_id}")
        if item is None:
            return None
        resolved_at = item.get("resolved_at", {}).get("S")
        return Alert(
            alert_id=alert_id,
            vehicle_id=vehicle_id,
            kind=AlertKind(item["kind"]["S"]),
            opened_at=datetime.fromisoformat(item["opened_at"]["S"]),
            resolved_at=None if resolved_at is None else datetime.fromisoformat(resolved_at),
            detail=item["detail"]["S"],
        )

    def save(self, condition: Condition, alert: Alert | None) -> bool:
        """Both in one transaction; False when a later evaluation is stored."""
        put = self._conditional_put(condition)
        try:
            with wrapped(self._table):
                if alert is None:
                    self._put(put)
                else:
                    self._put_both(put, alert)
        except _NotNewerError:
            return False
        return True

    def _put(self, put: Item) -> None:
        try:
            self._client.put_item(**put)
        except ClientError as error:
            if code_of(error) == "ConditionalCheckFailedException":
                raise _NotNewerError from None
            raise

    def _put_both(self, put: Item, alert: Alert) -> None:
        attributes = {
            name: _attribute(value)
            for name, value in alert_item(alert).items()
            if value is not None
        }
        attributes["item_key"] = {"S": f"alert#{alert.alert_id}"}
        try:
            self._client.transact_write_items(
                TransactItems=[
                    {"Put": put},
                    {"Put": {"TableName": self._table, "Item": attributes}},
                ]
            )
        except ClientError as error:
            reasons = error.response.get("CancellationReasons") or [{}]
            if reasons[0].get("Code") == "ConditionalCheckFailed":
                raise _NotNewerError from None
            raise

    def _conditional_put(self, condition: Condition) -> Item:
        at = {"S": format_timestamp(condition.evaluated_at)}
        item: Item = {
            "vehicle_id": {"S": condition.vehicle_id},
            "item_key": {"S": f"condition#{condition.kind.value}"},
            "raised": {"BOOL": condition.raised},
            "evaluated_at": at,
            "streak": {"N": str(condition.streak)},
            "unnotified": {"BOOL": condition.unnotified},
        }
        if condition.alert_id is not None:
            item["alert_id"] = {"S": condition.alert_id}
        return {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(vehicle_id) OR evaluated_at <= :at",
            "ExpressionAttributeValues": {":at": at},
        }

    def _get(self, vehicle_id: str, item_key: str) -> Item | None:
        with wrapped(self._table):
            answer = self._client.get_item(
                TableName=self._table,
                Key={"vehicle_id": {"S": vehicle_id}, "item_key": {"S": item_key}},
                ConsistentRead=True,
            )
        item: Item | None = answer.get("Item")
        return item


class _NotNewerError(Exception):
    """The condition of a write did not hold."""


def _attribute(value: bool | float | str) -> Item:  # noqa: FBT001  a JSON value
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    return {"N": repr(value) if abs(value) >= SMALLEST else "0"}
