"""Who may register and who has, in DynamoDB; the certificates themselves are AWS IoT's.

====================  ====================================================================
``item_key``          item
====================  ====================================================================
``serial#<number>``   a line of the allow list: ``vehicle_id``, ``vehicle_type``,
                      ``blocked``; once registered ``certificate_id``, ``registered_at``
``vehicle#<id>``      ``serial_number`` of its line, so that there is one; ``blocked``
``certificate#<id>``  of ``vehicle_id``; ``origin`` when a template made it; ``connected_at``,
                      the first report over it; ``settled_at``, the last that was looked into
``claim#<id>``        a claim certificate: ``claim_name``
====================  ====================================================================

A registration is one conditional write on the line as it was found, so of two boards with
one serial number only one passes. Reads are consistent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from cloud.clock import Clock
from cloud.provisioning.ports import AllowedVehicle, CertificateStatus, Identity, Origin
from cloud.stores.aws_errors import wrapped
from cloud.stores.iot_certificates import IotCertificates
from contract.fields import format_timestamp

_LIVING: Final = (CertificateStatus.ACTIVE, CertificateStatus.PENDING_ACTIVATION)
_UNMET: Final = "ConditionalCheckFailedException"

Item = dict[str, Any]


class DynamoRegistrations:
    """``Registrations`` and ``Identities`` on AWS."""

    def __init__(
        self, client: Any, table: str, certificates: IotCertificates, clock: Clock
    ) -> None:
        self._client = client
        self._table = table
        self._certificates = certificates
        self._clock = clock

    def find(self, serial_number: str) -> AllowedVehicle | None:
        """See ``cloud.provisioning.ports``."""
        item = self.item(f"serial#{serial_number}")
        if item is None:
            return None
        return line_of(item, blocked=self.is_blocked(text_of(item, "vehicle_id")))

    def has_connected(self, certificate_id: str) -> bool:
        """See ``cloud.provisioning.ports``: whether a report came over it."""
        item = self._certificate(certificate_id)
        return item is not None and "connected_at" in item

    def register(self, found: AllowedVehicle, certificate_id: str) -> bool:
        """See ``cloud.provisioning.ports``."""
        values = {
            ":vehicle": {"S": found.vehicle_id},
            ":new": {"S": certificate_id},
            ":now": {"S": format_timestamp(self._clock.utc())},
        }
        registered = "attribute_not_exists(certificate_id)"
        if found.certificate_id is not None:
            values[":earlier"] = {"S": found.certificate_id}
            registered = "certificate_id = :earlier"
        try:
            with wrapped(self._table, but=_UNMET):
                self._client.update_item(
                    TableName=self._table,
                    Key={"item_key": {"S": f"serial#{found.serial_number}"}},
                    UpdateExpression="SET certificate_id = :new, registered_at = :now",
                    ConditionExpression="vehicle_id = :vehicle AND attribute_not_exists(blocked)"
                    f" AND {registered}",
                    ExpressionAttributeValues=values,
                )
        except ClientError:
            return False
        self._note_origin(found.vehicle_id, certificate_id, Origin.BY_CLAIM)
        if found.certificate_id not in {None, certificate_id}:
            self._certificates.retire(found.vehicle_id, [str(found.certificate_id)])
        return True

    def rotate(self, vehicle_id: str, present_id: str, new_id: str) -> bool:
        """See ``cloud.provisioning.ports``."""
        if self.is_blocked(vehicle_id) or not self._certificates.holds(vehicle_id, present_id):
            return False
        self._note_origin(vehicle_id, new_id, Origin.ROTATION)
        return True

    def identities(self, vehicle_id: str) -> Sequence[Identity]:
        """See ``cloud.provisioning.ports``."""
        return [
            Identity(
                one.certificate_id,
                one.created_at,
                provisioned=self.origin(one.certificate_id) is not Origin.OPERATOR,
            )
            for one in self._certificates.of_thing(vehicle_id)
            if one.status in _LIVING
        ]

    def retire(self, vehicle_id: str, certificate_ids: Iterable[str]) -> None:
        """See ``cloud.provisioning.ports``."""
        self._certificates.retire(vehicle_id, certificate_ids)

    def settled_at(self, vehicle_id: str, certificate_id: str) -> datetime | None:
        """When this vehicle's reports over this certificate were looked into last."""
        item = self._certificate(certificate_id)
        if item is None or "settled_at" not in item or text_of(item, "vehicle_id") != vehicle_id:
            return None
        return _moment(text_of(item, "settled_at"))

    def note_settled(self, vehicle_id: str, certificate_id: str, now: datetime) -> None:
        """They were looked into; the first time is also that of its first use."""
        expression = "SET settled_at = :value, connected_at = if_not_exists(connected_at, :value)"
        self._note(vehicle_id, certificate_id, expression, {"S": format_timestamp(now)})

    def connected_at(self, certificate_id: str) -> datetime | None:
        """When a report came over it first."""
        item = self._certificate(certificate_id) or {}
        return _moment(text_of(item, "connected_at")) if "connected_at" in item else None

    def origin(self, certificate_id: str) -> Origin:
        """Who had it made; an operator, unless it is written that a template did."""
        item = self._certificate(certificate_id) or {}
        return Origin(text_of(item, "origin") or Origin.OPERATOR)

    def is_blocked(self, vehicle_id: str) -> bool:
        """Whether an operator blocked the vehicle."""
        return "blocked" in (self.item(f"vehicle#{vehicle_id}") or {})

    def _note_origin(self, vehicle_id: str, certificate_id: str, origin: Origin) -> None:
        self._note(vehicle_id, certificate_id, "SET origin = :value", {"S": origin.value})

    def _certificate(self, certificate_id: str) -> Item | None:
        return self.item(f"certificate#{certificate_id}")

    def item(self, item_key: str) -> Item | None:
        """An item of the table, read consistently."""
        with wrapped(self._table):
            answer = self._client.get_item(
                TableName=self._table, Key={"item_key": {"S": item_key}}, ConsistentRead=True
            )
        item: Item | None = answer.get("Item")
        return item

    def _note(self, vehicle_id: str, certificate_id: str, expression: str, value: Item) -> None:
        with wrapped(self._table):
            self._client.update_item(
                TableName=self._table,
                Key={"item_key": {"S": f"certificate#{certificate_id}"}},
                UpdateExpression=f"{expression}, vehicle_id = :vehicle",
                ExpressionAttributeValues={":value": value, ":vehicle": {"S": vehicle_id}},
            )


def line_of(item: Item, *, blocked: bool) -> AllowedVehicle:
    """A line of the allow list."""
    registered = item.get("registered_at")
    return AllowedVehicle(
        serial_number=text_of(item, "item_key").removeprefix("serial#"),
        vehicle_id=text_of(item, "vehicle_id"),
        vehicle_type=text_of(item, "vehicle_type"),
        blocked=blocked or "blocked" in item,
        certificate_id=text_of(item, "certificate_id") or None,
        registered_at=None if registered is None else _moment(registered["S"]),
    )


def text_of(item: Item, name: str) -> str:
    """A text attribute, or nothing."""
    return str(item.get(name, {}).get("S", ""))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
