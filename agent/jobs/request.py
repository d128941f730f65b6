"""One kind of request to the cloud: when it is due, and which answer is waited for. Pure.

What is not answered is sent again, ever more rarely.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from agent.publisher.bucket import TokenBucket

ANSWER_S: Final = 30.0
LONGEST_S: Final = 3_600.0

Send = Callable[[str, bytes], bool]


class Request:
    """``due_s`` is when it is to be sent; ``None`` when there is nothing to send."""

    def __init__(self, *, send: Send, bucket: TokenBucket, new_token: Callable[[], str]) -> None:
        self._send = send
        self._bucket = bucket
        self._new_token = new_token
        self.forget()

    def forget(self) -> None:
        """The connection is another one: no answer will come, and nothing is due."""
        self.due_s: float | None = None
        self._topic = self._token = ""
        self._patience_s = ANSWER_S

    @property
    def is_open(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._token)

    @property
    def topic(self) -> str:
        """Where it was sent, while it is open."""
        return self._topic

    def say(self, topic: str, document: dict[str, Any], now_s: float) -> bool:
        """Send it if that is possible now, and be due again if no answer comes; whether it went."""
        wait_s = self._bucket.wait_s(now_s)
        token = self._new_token()
        payload = json.dumps({**document, "clientToken": token}).encode()
        if wait_s > 0 or not self._send(topic, payload):
            self.due_s = now_s + max(1.0, wait_s)
            return False
        self._bucket.take(now_s, 1)
        self._topic, self._token = topic, token
        self.try_later(now_s)
        return True

    def try_later(self, now_s: float) -> None:
        """Be due when the patience is over, which doubles."""
        self.due_s = now_s + self._patience_s
        self._patience_s = min(LONGEST_S, 2 * self._patience_s)

    def is_answered_by(self, document: dict[str, Any]) -> bool:
        """Whether this is the answer that is waited for."""
        return self.is_open and document.get("clientToken") == self._token

    def close(self, *, refused: bool = False) -> None:
        """The answer came; one that is ``refused`` for now stays due."""
        self._topic = self._token = ""
        if not refused:
            self.due_s = None
            self._patience_s = ANSWER_S
