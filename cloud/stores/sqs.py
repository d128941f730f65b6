"""Dead letters to SQS, in the queue that the rules' error actions use as well."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from cloud.ports import DeadLetter
from cloud.stores.aws_errors import wrapped
from cloud.stores.letters import letter_id
from contract.fields import format_timestamp

MAX_PAYLOAD_BYTES: Final = 180_000
"""As base64 with the rest around it below SQS's 256 KiB."""


class SqsDeadLetterStore:
    """``DeadLetterStore``: a JSON body; ``letter_id`` tells a letter written twice.

    A payload that the queue cannot hold is cut, and ``payload_bytes`` says how long it was.
    """

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def put(self, letter: DeadLetter) -> None:
        """Send one."""
        body = {
            "letter_id": letter_id(letter),
            "topic": letter.topic,
            "field": letter.field,
            "reason": letter.reason,
            "received_at": format_timestamp(letter.received_at),
            "payload_bytes": len(letter.payload),
            "base64OriginalPayload": base64.b64encode(letter.payload[:MAX_PAYLOAD_BYTES]).decode(),
        }
        with wrapped(self._queue_url):
            self._client.send_message(QueueUrl=self._queue_url, MessageBody=json.dumps(body))
