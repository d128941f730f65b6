"""The thread that a conversation with the cloud is held in: about jobs, about the shadow.

What the control lane tells comes on the publisher's thread and is only queued here: a
conversation writes to flash, and samples must not wait for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Generic, Protocol, TypeVar

from agent.ports import Clock

MOST_QUEUED: Final = 64
"""Messages of the cloud that wait; a flood is no reason to fill the memory."""

_AFTER_DEFECT_S: Final = 1.0


class Conversation(Protocol):
    """All methods are called by the one thread; ``now_s`` is monotonic."""

    def connected(self, now_s: float) -> None:
        """See ``agent.ports.ExchangeListener``."""
        ...

    def disconnected(self) -> None:
        """See ``agent.ports.ExchangeListener``."""
        ...

    def received(self, topic: str, payload: bytes, now_s: float) -> None:
        """See ``agent.ports.ExchangeListener``."""
        ...

    def step(self, now_s: float) -> float | None:
        """Do what is due; seconds until something else is, ``None`` for never by itself."""
        ...


Held = TypeVar("Held", bound=Conversation)


class ConversationThread(Generic[Held]):
    """Implements ``agent.ports.ExchangeListener``; ``name`` is the thread's and the log's.

    ``start()`` once; ``stop()`` at any time, idempotent: what is queued by then is still
    taken in.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._inbox: SimpleQueue[Callable[[Held, float], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._log = logging.getLogger(f"agent.{name}")

    def start(self, conversation: Held) -> None:
        """Begin with what was queued already; it speaks when the broker is connected."""
        self._thread = threading.Thread(
            target=self._run, args=(conversation,), name=self._name, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End, within seconds."""
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(5)

    def put(self, work: Callable[[Held, float], None]) -> None:
        """Have the thread call it with the conversation and the time; from any thread."""
        self._inbox.put(work)

    def connected(self) -> None:
        """See the port."""
        self.put(lambda conversation, now_s: conversation.connected(now_s))

    def disconnected(self) -> None:
        """See the port."""
        self.put(lambda conversation, _: conversation.disconnected())

    def received(self, topic: str, payload: bytes) -> None:
        """See the port."""
        if self._inbox.qsize() < MOST_QUEUED:
            self.put(lambda conversation, now_s: conversation.received(topic, payload, now_s))

    def _run(self, conversation: Held) -> None:
        wait_s: float | None = None
        while True:
            try:
                work = self._inbox.get(timeout=wait_s)
            except Empty:
                work = _nothing
            if work is None:
                return
            now_s = self._clock.monotonic_s()
            try:
                work(conversation, now_s)
                wait_s = conversation.step(now_s)
            except Exception:  # noqa: BLE001  logged in full
                # a defect here must not end the thread, let alone the samples
                self._log.exception("a message of the cloud could not be handled")
                wait_s = _AFTER_DEFECT_S


def _nothing(_conversation: Conversation, _now_s: float) -> None:
    """Only time has passed."""
