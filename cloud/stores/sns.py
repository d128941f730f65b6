"""Alerts to people through SNS."""

from __future__ import annotations

import json
from typing import Any, Final

from cloud.ports import Alert
from cloud.stores.aws_errors import wrapped
from cloud.stores.wording import alert_item, wording

SUBJECT_CHARACTERS: Final = 99
"""SNS takes fewer than 100, ASCII."""


class SnsNotifier:
    """``Notifier``: one line for e-mail and SMS, JSON for machines, attributes to filter by."""

    def __init__(self, client: Any, topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def notify(self, alert: Alert) -> None:
        """Publish an opened or resolved alert."""
        text = wording(alert)
        state = "opened" if alert.resolved_at is None else "resolved"
        with wrapped(self._topic_arn):
            self._client.publish(
                TopicArn=self._topic_arn,
                Subject=text.encode("ascii", "replace").decode()[:SUBJECT_CHARACTERS],
                Message=json.dumps(
                    {"default": text, "sqs": _machine(alert), "lambda": _machine(alert)}
                ),
                MessageStructure="json",
                MessageAttributes={
                    "kind": {"DataType": "String", "StringValue": alert.kind.value},
                    "vehicle_id": {"DataType": "String", "StringValue": alert.vehicle_id},
                    "state": {"DataType": "String", "StringValue": state},
                },
            )


def _machine(alert: Alert) -> str:
    return json.dumps(alert_item(alert))
