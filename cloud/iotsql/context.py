"""What a rule knows of a message beside its payload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cloud.iotsql.topics import strip_basic_ingest
from cloud.iotsql.values import UNDEFINED, Value

SQL_VERSION: Final = "2016-03-23"
NOT_MQTT: Final = "n/a"


@dataclass(frozen=True, slots=True)
class RuleContext:
    """One message's circumstances.

    ``timestamp_ms`` is when the rules engine saw it, in milliseconds since 1970.
    ``principal`` is the certificate's thumbprint (SHA-256, hexadecimal). What is left out
    is Undefined to the SQL.
    """

    topic: str
    timestamp_ms: int
    client_id: str = NOT_MQTT
    principal: str | None = None
    trace_id: str | None = None
    source_ip: str | None = None
    account_id: str | None = None
    mqtt_properties: Mapping[str, str] = field(default_factory=dict)
    user_properties: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def rule_topic(self) -> str:
        """The topic without a Basic Ingest prefix, as ``topic()`` sees it."""
        topic = self.topic
        return strip_basic_ingest(topic) if topic.startswith("$") else topic

    def segment(self, number: int) -> Value:
        """A level of the topic, counted from 1."""
        levels = self.rule_topic.split("/")
        return levels[number - 1] if 0 < number <= len(levels) else UNDEFINED
