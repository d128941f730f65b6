"""The jobs' part of the control lane: topics, conversation, thread, and the operation's worker.

What the operation tells comes on a thread of its own and is queued for the conversation's,
which alone writes the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.conversing import ConversationThread
from agent.host import new_run_id
from agent.jobs.at_hand import JobAtHand
from agent.jobs.conversation import Conversation
from agent.jobs.journal import Journal, Step
from agent.jobs.table import Table
from agent.jobs.worker import Worker
from agent.ports import Clock, Exchange
from contract.jobs import JobTopics


class JobsLink:
    """Registers at once, so it is made before the delivery starts.

    ``start()`` once, when everything that an operation may need runs; ``stop()`` at any time,
    idempotent.
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
        self._table = table
        self._thread: ConversationThread[Conversation] = ConversationThread("jobs", clock)
        topics = JobTopics(vehicle_id)
        self._channel = exchange.register(
            [
                topics.notify_next,
                f"{topics.get_job('+')}/accepted",
                f"{topics.get_job('+')}/rejected",
                f"{topics.update('+')}/accepted",
                f"{topics.update('+')}/rejected",
            ],
            self._thread,
        )
        self._journal = Journal(state_dir)
        self._worker = Worker(
            self._journal,
            returned=lambda entry, result: self._thread.put(
                lambda conversation, now_s: conversation.returned(entry, result, now_s)
            ),
            told=lambda details: self._thread.put(
                lambda conversation, now_s: conversation.told(details, now_s)
            ),
        )
        self._job = JobAtHand(journal=self._journal, table=table, hand=self._worker)
        self._conversation = Conversation(
            topics=topics,
            job=self._job,
            send=self._channel.send,
            restart=restart,
            new_token=new_run_id,
            now_s=clock.monotonic_s(),
        )
        self._thread.put(lambda *_: self._job.begin())

    def start(self) -> None:
        """Go on with the job of an earlier process; ask for one when the broker is connected."""
        self._thread.start(self._conversation)

    def stop(self) -> None:
        """End; a job at work is resumed at the next start, one that has ended told then."""
        self._worker.stop()
        self._thread.stop()  # behind what the operation had to say

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
