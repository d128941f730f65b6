"""What is asked of the shadow service and told to it. No thread, no clock of its own.

The shadow's document is only ever taken whole, from the answer to a ``get``: asked on each
connection, and again when somebody else's update is heard of (``update/delta``, and
``update/accepted``, because a key that is asked for no more makes no delta). So messages
that are late, lost or out of order can only cause one question more.

Each message costs money, therefore:

- what is reported is sent only where it differs from what the shadow holds, and only the
  difference;
- nothing that our own report leads to (its answer, a delta of what stays refused) is a
  reason to ask or report again;
- what the service rejects is not sent again until there is something else to report;
- questions and reports are limited in rate, and an unanswered question is repeated ever
  more rarely.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Final

from agent.publisher.bucket import TokenBucket
from agent.shadow.desired import Json
from agent.shadow.remote import RemoteSettings
from contract.shadow import ShadowAction, ShadowTopics

GATHER_S: Final = 0.5
"""An update is told in two messages; one question is enough."""

ANSWER_S: Final = 30.0
LONGEST_S: Final = 3_600.0
QUESTIONS: Final = (5.0, 0.2)
REPORTS: Final = (5.0, 0.1)
"""In a burst, and each second."""

_log = logging.getLogger("agent.shadow")

Send = Callable[[str, bytes], bool]


class Conversation:
    """All methods are called by one thread; ``now_s`` is monotonic."""

    _ask_at_s: float | None
    _asked: str | None
    """The token of the question that waits for its answer."""
    _patience_s: float
    _seen: int
    """The version that the shadow was last taken at."""
    _told: Json | None
    """What the shadow holds as reported; ``None`` while that is not known."""
    _report_at_s: float | None
    _reporting: tuple[str, Json] | None
    """The report that waits for its answer, with its token."""

    def __init__(
        self,
        *,
        topics: ShadowTopics,
        remote: RemoteSettings,
        send: Send,
        new_token: Callable[[], str],
        now_s: float,
    ) -> None:
        self._topics = topics
        self._remote = remote
        self._send = send
        self._new_token = new_token
        self._questions = TokenBucket(rate=QUESTIONS[1], burst=QUESTIONS[0], now_s=now_s)
        self._reports = TokenBucket(rate=REPORTS[1], burst=REPORTS[0], now_s=now_s)
        self._mine: list[str] = []
        self._rejected: Json | None = None
        self._complaint = ""
        self.disconnected()

    # --- what happens ----------------------------------------------------------------

    def connected(self, now_s: float) -> None:
        """Ask, from the start."""
        self.disconnected()
        self._ask_at_s = now_s

    def disconnected(self) -> None:
        """Nothing asked will be answered."""
        self._ask_at_s = None
        self._asked = None
        self._patience_s = ANSWER_S
        self._seen = 0
        self._told = None
        self._report_at_s = None
        self._reporting = None

    def received(self, topic: str, payload: bytes, now_s: float) -> None:
        """A message came on one of the shadow's topics; one that is malformed is ignored."""
        document = _parsed(payload)
        if document is None:
            self._complain(f"a message on {topic} is no shadow document: {payload[:80]!r}")
            return
        topics = self._topics
        if topic == topics.accepted(ShadowAction.GET):
            if self._is_answer(document):
                self._got(document, now_s)
        elif topic == topics.rejected(ShadowAction.GET):
            if self._is_answer(document):
                self._not_got(document, now_s)
        elif topic == topics.rejected(ShadowAction.UPDATE):
            if self._reporting and document.get("clientToken") == self._reporting[0]:
                self._report_rejected(document, now_s)
        elif topic == topics.accepted(ShadowAction.UPDATE):
            self._update_accepted(document, now_s)
        elif topic == topics.delta:
            self._changed_by_others(document, now_s)

    def step(self, now_s: float) -> float | None:
        """Send what is due; seconds until the next step, ``None`` when only a message leads on."""
        if self._ask_at_s is not None and now_s >= self._ask_at_s:
            self._ask(now_s)
        if self._report_at_s is not None and now_s >= self._report_at_s and not self._reporting:
            self._report(now_s)
        due = [one for one in (self._ask_at_s, self._report_at_s) if one is not None]
        return max(0.0, min(due) - now_s) if due else None

    # --- asking ----------------------------------------------------------------------

    def _ask(self, now_s: float) -> None:
        wait_s = self._questions.wait_s(now_s)
        if wait_s > 0:
            self._ask_at_s = now_s + wait_s
            return
        if self._asked is not None:
            self._complain(
                f"the shadow service does not answer; asked again after {self._patience_s:.0f} s"
                " (docs/shadow.md: does the broker serve shadows?)"
            )
        token = self._token()
        if self._send(
            self._topics.request(ShadowAction.GET), json.dumps({"clientToken": token}).encode()
        ):
            self._questions.take(now_s, 1)
            self._asked = token
        self._ask_at_s = now_s + self._patience_s
        self._patience_s = min(LONGEST_S, 2 * self._patience_s)

    def _is_answer(self, document: Json) -> bool:
        return self._asked is not None and document.get("clientToken") == self._asked

    def _got(self, document: Json, now_s: float) -> None:
        state, version = document.get("state"), document.get("version")
        if not isinstance(state, dict) or type(version) is not int:
            self._complain("the shadow service's answer has no state or no version")
            return
        self._answered(version)
        reported = state.get("reported")
        self._told = reported if isinstance(reported, dict) else {}
        self._remote.desire(state.get("desired", {}), version)
        self._report_at_s = now_s

    def _not_got(self, document: Json, now_s: float) -> None:
        code = document.get("code")
        if code == 404:  # nothing is asked for, and what we report makes the shadow
            self._answered(0)
            self._told = {}
            self._remote.desire({}, 0)
            self._report_at_s = now_s
            return
        self._asked = None
        may_help = code == 429 or (type(code) is int and code >= 500)
        self._ask_at_s = now_s + self._patience_s if may_help else None
        self._complain(f"the shadow service refuses to tell the shadow: {_reason(document)}")

    def _answered(self, version: int) -> None:
        self._asked, self._ask_at_s, self._patience_s = None, None, ANSWER_S
        self._seen = version
        self._reporting = None
        self._complaint = ""

    def _changed_by_others(self, document: Json, now_s: float) -> None:
        version = document.get("version")
        if document.get("clientToken") in self._mine or type(version) is not int:
            return
        if version > self._seen and self._asked is None:
            soon_s = now_s + GATHER_S
            self._ask_at_s = soon_s if self._ask_at_s is None else min(soon_s, self._ask_at_s)
        elif version > self._seen:
            # the answer may be older than this; asked again when it is here
            self._asked, self._ask_at_s = None, now_s + GATHER_S

    # --- reporting -------------------------------------------------------------------

    def _report(self, now_s: float) -> None:
        self._report_at_s = None
        if self._told is None:
            return
        report = self._remote.report()
        difference = changes(self._told, report)
        if not difference or report == self._rejected:
            return
        wait_s = self._reports.wait_s(now_s)
        if wait_s > 0:
            self._report_at_s = now_s + wait_s
            return
        token = self._token()
        document = {"state": {"reported": difference}, "clientToken": token}
        if self._send(self._topics.request(ShadowAction.UPDATE), json.dumps(document).encode()):
            self._reports.take(now_s, 1)
            self._reporting = (token, report)
            if self._ask_at_s is None:  # a report without an answer is looked after
                self._ask_at_s = now_s + ANSWER_S
        else:
            self._report_at_s = now_s + ANSWER_S

    def _update_accepted(self, document: Json, now_s: float) -> None:
        version = document.get("version")
        if not self._reporting or document.get("clientToken") != self._reporting[0]:
            state = document.get("state")
            if state is None or (isinstance(state, dict) and "desired" in state):
                self._changed_by_others(document, now_s)
            return
        self._told, self._reporting, self._rejected = self._reporting[1], None, None
        if self._asked is None:
            self._ask_at_s = None
        if version == self._seen + 1:
            self._seen = version
        elif type(version) is int and version > self._seen:
            self._ask_at_s = now_s + GATHER_S  # somebody was in between, and it was not heard

    def _report_rejected(self, document: Json, now_s: float) -> None:
        assert self._reporting is not None  # noqa: S101  the caller looked
        (_, report), self._reporting = self._reporting, None
        code = document.get("code")
        if code == 429 or (type(code) is int and code >= 500):
            self._report_at_s = now_s + ANSWER_S
        else:
            self._rejected = report
        if self._asked is None:
            self._ask_at_s = None
        self._complain(f"the shadow service refuses what is reported: {_reason(document)}")

    def _token(self) -> str:
        token = self._new_token()
        self._mine = [*self._mine[-15:], token]
        return token

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            _log.warning("%s", text)
        self._complaint = text


def changes(told: Json, wanted: Json) -> Json:
    """The update that makes ``wanted`` of what the shadow holds; ``{}`` when it holds that."""
    difference: Json = {key: None for key in told if key not in wanted}
    for key, value in wanted.items():
        held = told.get(key)
        if isinstance(value, dict) and isinstance(held, dict):
            inner = changes(held, value)
            if inner:
                difference[key] = inner
        elif key not in told or held != value:
            difference[key] = value
    return difference


def _parsed(payload: bytes) -> Json | None:
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _reason(document: Json) -> str:
    code, message = document.get("code"), document.get("message")
    shown: Any = message[:200] if isinstance(message, str) else message
    return f"{shown} ({code})"
