"""The shadow's part of the control lane: its topics, its conversation, its thread."""

from __future__ import annotations

from agent.conversing import ConversationThread
from agent.host import new_run_id
from agent.ports import Clock, Exchange
from agent.shadow.conversation import Conversation
from agent.shadow.remote import RemoteSettings
from contract.shadow import ShadowAction, ShadowTopics


class ShadowLink:
    """Registers at once, so it is made before the delivery starts.

    ``start()`` once; ``stop()`` at any time, idempotent.
    """

    def __init__(
        self, *, clock: Clock, vehicle_id: str, exchange: Exchange, remote: RemoteSettings
    ) -> None:
        self._remote = remote
        self._thread: ConversationThread[Conversation] = ConversationThread("shadow", clock)
        topics = ShadowTopics(vehicle_id)
        update = ShadowAction.UPDATE
        filters = [
            topics.accepted(ShadowAction.GET),
            topics.rejected(ShadowAction.GET),
            topics.accepted(update),
            topics.rejected(update),
            topics.delta,
        ]
        self._channel = exchange.register(filters, self._thread)
        self._conversation = Conversation(
            topics=topics,
            remote=remote,
            send=self._channel.send,
            new_token=new_run_id,
            now_s=clock.monotonic_s(),
        )

    def start(self) -> None:
        """Begin; it speaks when the broker is connected."""
        self._thread.start(self._conversation)

    def stop(self) -> None:
        """End; what is not reported yet is reported on the next connection."""
        self._thread.stop()

    def account(self) -> dict[str, object]:
        """For the agent's account; from any thread."""
        return {**self._remote.account(), "unavailable": self._channel.refusal}
