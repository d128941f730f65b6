"""The shadow's thread: the conversation on the publisher's control lane.

What the lane tells comes on the publisher's thread and is only queued here: judging and
remembering settings writes to flash, and samples must not wait for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from agent.host import new_run_id
from agent.ports import Clock, Exchange
from agent.shadow.conversation import Conversation
from agent.shadow.remote import RemoteSettings
from contract.shadow import ShadowAction, ShadowTopics

MOST_QUEUED: Final = 64

_log = logging.getLogger("agent.shadow")


class ShadowLink:
    """Implements ``agent.ports.ExchangeListener``.

    Registers at once, so it is made before the delivery starts. ``start()`` once;
    ``stop()`` at any time, idempotent.
    """

    def __init__(
        self, *, clock: Clock, vehicle_id: str, exchange: Exchange, remote: RemoteSettings
    ) -> None:
        self._clock = clock
        self._remote = remote
        self._inbox: SimpleQueue[Callable[[float], None]] = SimpleQueue()
        topics = ShadowTopics(vehicle_id)
        update = ShadowAction.UPDATE
        filters = [
            topics.accepted(ShadowAction.GET),
            topics.rejected(ShadowAction.GET),
            topics.accepted(update),
            topics.rejected(update),
            topics.delta,
        ]
        channel = exchange.register(filters, self)
        self._conversation = Conversation(
            topics=topics,
            remote=remote,
            send=channel.send,
            new_token=new_run_id,
            now_s=clock.monotonic_s(),
        )
        self._channel = channel
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin; it speaks when the broker is connected."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not reported yet is reported on the next connection."""
        self._stopping.set()
        self._inbox.put(lambda _: None)
        if self._thread.is_alive():
            self._thread.join(5)

    def account(self) -> dict[str, object]:
        """For the agent's account; from any thread."""
        return {**self._remote.account(), "unavailable": self._channel.refusal}

    # --- from the publisher's thread ---------------------------------------------------

    def connected(self) -> None:
        """See the port."""
        self._inbox.put(self._conversation.connected)

    def disconnected(self) -> None:
        """See the port."""
        self._inbox.put(lambda _: self._conversation.disconnected())

    def received(self, topic: str, payload: bytes) -> None:
        """See the port."""
        if self._inbox.qsize() < MOST_QUEUED:  # a flood is no reason to fill the memory
            self._inbox.put(lambda now_s: self._conversation.received(topic, payload, now_s))

    # --- the thread --------------------------------------------------------------------

    def _run(self) -> None:
        wait_s: float | None = None
        while not self._stopping.is_set():
            try:
                work = self._inbox.get(timeout=wait_s)
            except Empty:
                work = None
            now_s = self._clock.monotonic_s()
            try:
                if work is not None:
                    work(now_s)
                wait_s = self._conversation.step(now_s)
            except Exception:  # noqa: BLE001  logged in full
                # a defect here must not end the thread, let alone the samples
                _log.exception("a shadow message could not be handled")
                wait_s = 1.0
