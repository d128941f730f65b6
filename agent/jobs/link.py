"""The jobs' thread: the conversation on the publisher's control lane.

What the lane tells comes on the publisher's thread, and what the operation tells on its
own; both are only queued here. The journal is written in this thread, so samples never
wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from agent.host import new_run_id
from agent.jobs.at_hand import JobAtHand
from agent.jobs.conversation import Conversation
from agent.jobs.journal import Journal, Step
from agent.jobs.table import Table
from agent.jobs.worker import Worker
from agent.ports import Clock, Exchange
from contract.jobs import JobTopics

MOST_QUEUED: Final = 64

_log = logging.getLogger("agent.jobs")


class JobsLink:
    """Implements ``agent.ports.ExchangeListener``.

    Registers at once, so it is made before the delivery starts. ``start()`` once, when
    everything that an operation may need runs; ``stop()`` at any time, idempotent.
    ``restart`` asks for an orderly stop of the agent that ends in another start.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        vehicle_id: str,
        exchange: Exchange,
        state_dir: Path,
        table: Table,
        restart: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._table = table
        self._inbox: SimpleQueue[Callable[[float], None] | None] = SimpleQueue()
        topics = JobTopics(vehicle_id)
        channel = exchange.register(
            [
                topics.notify_next,
                f"{topics.get_job('+')}/accepted",
                f"{topics.get_job('+')}/rejected",
                f"{topics.update('+')}/accepted",
                f"{topics.update('+')}/rejected",
            ],
            self,
        )
        self._journal = Journal(state_dir)
        self._worker = Worker(
            self._journal,
            returned=lambda entry, result: self._inbox.put(
                lambda now_s: self._conversation.returned(entry, result, now_s)
            ),
            told=lambda details: self._inbox.put(
                lambda now_s: self._conversation.told(details, now_s)
            ),
        )
        self._job = JobAtHand(journal=self._journal, table=table, hand=self._worker)
        self._conversation = Conversation(
            topics=topics,
            job=self._job,
            send=channel.send,
            restart=restart,
            new_token=new_run_id,
            now_s=clock.monotonic_s(),
        )
        self._channel = channel
        self._inbox.put(lambda _: self._job.begin())
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Go on with the job of an earlier process; ask for one when the broker is connected."""
        self._thread.start()

    def stop(self) -> None:
        """End; a job at work is resumed at the next start, one that has ended told then."""
        self._worker.stop()
        self._inbox.put(None)  # behind what the operation had to say
        if self._thread.is_alive():
            self._thread.join(5)

    def account(self) -> dict[str, Any]:
        """For the agent's account; from any thread."""
        entry, progress = self._job.entry, self._job.progress
        current = None
        if entry is not None:
            ended = entry.step is Step.ENDED
            current = {
                "job_id": entry.job_id,
                "operation": entry.operation,
                "step": entry.step.value,
                "status": entry.status.value,
                "details": dict(entry.details if ended else progress),
            }
        return {
            "current": current,
            "last": self._journal.last(),
            "operations": self._table.open_operations,
            "unavailable": self._channel.refusal,
        }

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
        while True:
            try:
                work = self._inbox.get(timeout=wait_s)
            except Empty:
                work = _nothing
            if work is None:
                return
            now_s = self._clock.monotonic_s()
            try:
                work(now_s)
                wait_s = self._conversation.step(now_s)
            except Exception:  # noqa: BLE001  logged in full
                # a defect here must not end the thread, let alone the samples
                _log.exception("a message about jobs could not be handled")
                wait_s = 1.0


def _nothing(_: float) -> None:
    """Only time has passed."""
