"""Topics: who publishes what where.

=============================  ============================================  ========
topic                          payload                                       retained
=============================  ============================================  ========
``telemetry/{vehicle_id}``        one sample, JSON                              no
``telemetry/{vehicle_id}/batch``  many samples, the batch format                no
``events/{vehicle_id}``           one event, JSON                               no
``status/{vehicle_id}``           the agent's state, JSON; also the last will   yes
=============================  ============================================  ========

With Basic Ingest every topic is prefixed by ``$aws/rules/<rule>/`` and publishing is
free of messaging charges; IoT Core refuses RETAIN there, and the rule's ``topic()``
does not see the prefix (AWS IoT developer guide, "Basic Ingest").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contract.errors import ContractError
from contract.fields import VEHICLE_ID_PATTERN


class MessageKind(StrEnum):
    """What a topic carries; the value is also the suffix of its IoT rule's name."""

    TELEMETRY = "telemetry"
    BATCH = "batch"
    EVENTS = "events"
    STATUS = "status"


_TEMPLATES: Final = {
    MessageKind.TELEMETRY: "telemetry/{}",
    MessageKind.BATCH: "telemetry/{}/batch",
    MessageKind.EVENTS: "events/{}",
    MessageKind.STATUS: "status/{}",
}
_BASIC_INGEST: Final = re.compile(r"^\$aws/rules/[A-Za-z0-9_]{1,128}/")
_VEHICLE_ID: Final = re.compile(VEHICLE_ID_PATTERN)


def rule_name(kind: MessageKind, prefix: str = "milepost") -> str:
    """The name of the IoT rule that takes ``kind``, e.g. ``milepost_telemetry``."""
    return f"{prefix}_{kind.value}"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one vehicle.

    ``basic_ingest_prefix`` is the rules' common name prefix, or ``None`` to publish
    through the broker in the ordinary way.
    """

    vehicle_id: str
    basic_ingest_prefix: str | None = None

    def __post_init__(self) -> None:
        if not _VEHICLE_ID.fullmatch(self.vehicle_id):
            raise ContractError(
                "vehicle_id", f"{self.vehicle_id!r} does not match {VEHICLE_ID_PATTERN}"
            )

    def topic(self, kind: MessageKind) -> str:
        """Where a message of this kind is published."""
        plain = _TEMPLATES[kind].format(self.vehicle_id)
        if self.basic_ingest_prefix is None:
            return plain
        return f"$aws/rules/{rule_name(kind, self.basic_ingest_prefix)}/{plain}"

    def may_retain(self) -> bool:
        """Whether the status may be retained; IoT Core refuses it on reserved topics."""
        return self.basic_ingest_prefix is None


def strip_basic_ingest(topic: str) -> str:
    """The topic as a rule's ``topic()`` sees it."""
    return _BASIC_INGEST.sub("", topic, count=1)


def parse_topic(topic: str) -> tuple[MessageKind, str]:
    """Kind and ``vehicle_id`` of a topic, with or without a Basic Ingest prefix.

    Raises:
        ContractError: the topic is none of Milepost's.
    """
    match strip_basic_ingest(topic).split("/"):
        case ["telemetry", vehicle_id, "batch"]:
            kind = MessageKind.BATCH
        case [("telemetry" | "events" | "status") as name, vehicle_id]:
            kind = MessageKind(name)
        case _:
            raise ContractError("topic", f"{topic!r} is none of Milepost's topics")
    if not _VEHICLE_ID.fullmatch(vehicle_id):
        raise ContractError("topic", f"{vehicle_id!r} is no vehicle_id")
    return kind, vehicle_id
