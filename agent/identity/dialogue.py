"""Questions to the cloud from the rotation's thread, one at a time, and what else reaches it.

The listener's half runs on the publisher's thread and only queues. The channel is subscribed
while it is wanted, so a vehicle that does not rotate asks the broker for nothing, and one
whose policy knows no rotation is not disconnected for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from agent.errors import IdentityError
from agent.ports import Channel, Clock, Exchange
from contract.provisioning import accepted, rejected

LOG = logging.getLogger("agent.identity")

Json = dict[str, Any]

_ASKS: Final = 3
_ANSWER_S: Final = 30.0
_LOOK_S: Final = 1.0
"""How often what the channel says of itself is looked at while it is not open."""

_HOPE_S: Final = 60.0
"""A broker that is there is connected to in that time."""

_MOST_QUEUED: Final = 64


class StoppedError(Exception):
    """The agent stops; what is under way goes on at its next start."""


class RejectedError(IdentityError):
    """The cloud rejects a request; ``repeated`` if an earlier one may have been carried out."""

    def __init__(self, message: str, *, repeated: bool) -> None:
        super().__init__(message, hint="The cloud's log says more.")
        self.repeated = repeated


class UnansweredError(IdentityError):
    """Nobody answers, so it is not known whether a request was carried out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A message on one of the filters."""

    topic: str
    payload: bytes


class _Stop:
    """Ends the thread at its next wait."""


class _Opened:
    """The channel is open on a new connection."""


class _Closed:
    """That connection has ended."""


class Dialogue:
    """Implements ``agent.ports.ExchangeListener``; ``post`` adds to its queue, from any thread.

    ``hopeless`` is asked while a connection is waited for in vain: why none will come.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        exchange: Exchange,
        filters: Sequence[str],
        hopeless: Callable[[], IdentityError | None],
    ) -> None:
        self._clock = clock
        self._hopeless = hopeless
        self._inbox: SimpleQueue[object] = SimpleQueue()
        self.is_open = False
        self.channel: Channel = exchange.register(filters, self, on_demand=True)

    # --- from other threads ----------------------------------------------------------

    def connected(self) -> None:
        """See the port."""
        self._inbox.put(_Opened())

    def disconnected(self) -> None:
        """See the port."""
        self._inbox.put(_Closed())

    def received(self, topic: str, payload: bytes) -> None:
        """See the port."""
        if self._inbox.qsize() < _MOST_QUEUED:  # a flood is no reason to fill the memory
            self._inbox.put(Answer(topic, payload))

    def post(self, item: object) -> None:
        """Something else that the thread waits for."""
        self._inbox.put(item)

    def stop(self) -> None:
        """Let the thread's present or next wait raise ``StoppedError``."""
        self._inbox.put(_Stop())

    # --- the rotation's thread ---------------------------------------------------------

    def wait(self, timeout_s: float) -> object | None:
        """What comes next, at most ``timeout_s``; ``None`` for a change of the channel too.

        Raises:
            StoppedError: the agent stops.
        """
        try:
            item = self._inbox.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None
        if isinstance(item, _Stop):
            raise StoppedError
        if isinstance(item, _Opened | _Closed):
            self.is_open = isinstance(item, _Opened)
            return None
        return item

    def ask(self, topic: str, document: Json) -> Json:
        """The cloud's answer; waits for a connection as long as there is none.

        Raises:
            RejectedError: it was rejected.
            UnansweredError: the broker does not serve the topics, or nobody answers.
            IdentityError: there is no hope of a connection.
            StoppedError: the agent stops.
        """
        sent = unanswered = 0
        while unanswered < _ASKS:
            self.until_open()
            if not self.channel.send(topic, json.dumps(document).encode()):
                self.wait(_LOOK_S)
                continue
            sent += 1
            answer = self._answer(topic)
            if answer is None:
                unanswered += self.is_open  # else the connection was lost: nobody's fault
                continue
            if answer.topic == accepted(topic):
                return parsed(answer)
            raise RejectedError(_reason(topic, parsed(answer)), repeated=sent > 1)
        raise UnansweredError(
            f"the cloud does not answer on {topic}",
            hint="Has it the template of identity.template_name, and does the policy allow it?",
        )

    def until_open(self) -> None:
        """Wait for a connection on which the channel is open.

        Raises:
            UnansweredError: the broker is connected and refuses it.
            IdentityError: there is no hope.
            StoppedError: the agent stops.
        """
        until_s = self._clock.monotonic_s() + _HOPE_S
        while not self.is_open:
            hopeless = self._hopeless() if self._clock.monotonic_s() > until_s else None
            if hopeless is not None:
                raise hopeless
            refusal = self.channel.refusal
            if refusal is not None:
                raise UnansweredError(
                    f"the broker does not serve rotation: {refusal}",
                    hint="The vehicle's policy must allow it to ask for its next certificate"
                    " (docs/rotation.md).",
                )
            self.wait(_LOOK_S)

    def _answer(self, topic: str) -> Answer | None:
        until_s = self._clock.monotonic_s() + _ANSWER_S
        while self.is_open and (left_s := until_s - self._clock.monotonic_s()) > 0:
            item = self.wait(left_s)
            if isinstance(item, Answer) and item.topic in {accepted(topic), rejected(topic)}:
                return item
        return None


def parsed(answer: Answer) -> Json:
    """Its document; empty where it is none."""
    try:
        document = json.loads(answer.payload)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        LOG.warning("an answer on %s is no JSON object", answer.topic)
        return {}
    return document


def _reason(topic: str, document: Json) -> str:
    code = str(document.get("errorCode", "no error code"))[:64]
    message = str(document.get("errorMessage", "no reason given"))[:200]
    return f"the cloud rejects {topic.removeprefix('$aws/')}: {message} ({code})"
