"""The vehicle's named shadow: its name and its reserved topics.

AWS IoT Core's Device Shadow service ("Device Shadow MQTT topics" in its developer guide);
the one-machine cloud answers on the same topics. ``desired`` is written by the operator,
``reported`` by the agent; the agent's side of the document is in ``docs/shadow.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SHADOW_NAME: Final = "milepost"
MAX_SHADOW_BYTES: Final = 8 * 1024
"""Of ``desired`` and ``reported`` together, without metadata."""


class ShadowAction(StrEnum):
    """What a request asks for; the value is the end of its topic."""

    GET = "get"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ShadowTopics:
    """The topics of one vehicle's shadow."""

    vehicle_id: str

    def request(self, action: ShadowAction) -> str:
        """Where the vehicle asks."""
        return f"$aws/things/{self.vehicle_id}/shadow/name/{SHADOW_NAME}/{action.value}"

    def accepted(self, action: ShadowAction) -> str:
        """Where it is answered when its request was carried out."""
        return f"{self.request(action)}/accepted"

    def rejected(self, action: ShadowAction) -> str:
        """Where it is answered with a code and a message otherwise."""
        return f"{self.request(action)}/rejected"

    @property
    def delta(self) -> str:
        """Where it is told of what ``desired`` has and ``reported`` has not."""
        return f"{self.request(ShadowAction.UPDATE)}/delta"

    @property
    def documents(self) -> str:
        """Where the whole document goes after each update, with the one before."""
        return f"{self.request(ShadowAction.UPDATE)}/documents"

    def action_of(self, topic: str) -> ShadowAction | None:
        """The action that a topic requests of this shadow; ``None`` if it is no such topic."""
        return next((one for one in ShadowAction if topic == self.request(one)), None)

    def answers(self) -> frozenset[str]:
        """Every topic that the shadow service publishes on."""
        return frozenset(
            {self.delta, self.documents}
            | {self.accepted(action) for action in ShadowAction}
            | {self.rejected(action) for action in ShadowAction}
        )
