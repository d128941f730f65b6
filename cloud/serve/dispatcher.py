"""What the IoT rules make of a message: records of the durable stream, nothing else yet.

Every action of every matching rule becomes an entry, so one commit makes them all
durable before the PUBACK; consumers carry them out. A rule that fails sends its error
action's document (AWS IoT developer guide, "Error handling") to the dead letters.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Sequence
from typing import Any

from cloud.clock import milliseconds
from cloud.iotsql import IotSqlError, RuleContext, basic_ingest_rule
from cloud.serve.ingest import Message
from cloud.serve.stream import Entry
from cloud.template import (
    Action,
    DynamoDbV2Action,
    KinesisAction,
    LambdaAction,
    SqsAction,
    TopicRule,
)


class Dispatcher:
    """Evaluates the rules; called by the ingest thread.

    The streams of its entries have the logical ids of the template: of a stream, a table,
    a function or the dead-letter queue.
    """

    def __init__(self, rules: Sequence[TopicRule], dead_letters: str) -> None:
        self._rules = tuple(rules)
        self._names = frozenset(rule.name for rule in rules)
        self._dead_letters = dead_letters
        self._lock = threading.Lock()
        self._received: dict[str, tuple[int, int]] = {}
        self.messages = 0
        """Messages taken from vehicles since the start."""

    def route(self, message: Message) -> list[Entry]:
        """The entries for one message; a failure is an entry too, so it never raises."""
        self._count(message)
        name = basic_ingest_rule(message.topic)
        if name is not None and name not in self._names:
            reason = "the template has no rule of this name"
            return [_error(self._dead_letters, name, message, "RuleNotFound", reason)]
        context = RuleContext(
            message.topic,
            milliseconds(message.received_at),
            client_id=message.client_id,
            principal=message.certificate_id,
        )
        return [
            entry
            for rule in self._rules
            if rule.accepts(message.topic)
            for entry in _run(rule, message, context)
        ]

    def take_received(self) -> dict[str, tuple[int, int]]:
        """Messages and bytes of each vehicle since the last call."""
        with self._lock:
            received, self._received = self._received, {}
        return received

    def give_back(self, received: dict[str, tuple[int, int]]) -> None:
        """Count again what could not be stored."""
        with self._lock:
            for vehicle_id, (messages, size) in received.items():
                known = self._received.get(vehicle_id, (0, 0))
                self._received[vehicle_id] = (known[0] + messages, known[1] + size)

    def _count(self, message: Message) -> None:
        size = len(message.topic.encode()) + len(message.payload)
        self.messages += 1
        self.give_back({message.client_id: (1, size)})


def _run(rule: TopicRule, message: Message, context: RuleContext) -> list[Entry]:
    try:
        result = rule.rule.evaluate(message.payload, context)
        if result is None:
            return []
        data = result.to_bytes()
        return [_entry(action, rule, message, context, data) for action in rule.actions]
    except IotSqlError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  whatever a vehicle sent must not stop the others
        reason = repr(error)
    return [_error(rule.error_action.queue, rule.name, message, "RuleEvaluation", reason)]


def _entry(
    action: Action,
    rule: TopicRule,
    message: Message,
    context: RuleContext,
    data: bytes,
) -> Entry:
    match action:
        case KinesisAction(stream, partition_key):
            frame = rule.rule.frame(message.payload, context)
            return Entry(stream, partition_key.render_frame(frame), data)
        case DynamoDbV2Action(table):
            return Entry(table, message.client_id, data)
        case SqsAction(queue):
            return Entry(queue, message.client_id, data)
        case LambdaAction(function):
            return Entry(function, message.client_id, data)


def _error(queue: str, rule_name: str, message: Message, action: str, reason: str) -> Entry:
    document = error_document(rule_name, message, action, reason)
    return Entry(queue, message.client_id, json.dumps(document).encode())


def error_document(rule_name: str, message: Message, action: str, reason: str) -> dict[str, Any]:
    """What an error action receives."""
    return {
        "ruleName": rule_name,
        "topic": message.topic,
        "cloudwatchTraceId": str(uuid.uuid4()),
        "clientId": message.client_id,
        "base64OriginalPayload": base64.b64encode(message.payload).decode(),
        "failures": [{"failedAction": action, "failedResource": "", "errorMessage": reason}],
    }
