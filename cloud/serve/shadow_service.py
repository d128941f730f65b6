"""The Device Shadow service: requests on reserved topics to the shadows' store and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from cloud.clock import Clock
from cloud.errors import ShadowError, StoreError
from cloud.shadow import parse_request
from cloud.shadow.answers import error_document
from cloud.stores.announcements import Announcement
from cloud.stores.sqlite_shadows import SqliteShadows
from contract.shadow import ShadowAction, ShadowTopics

log = logging.getLogger(__name__)


class ShadowService:
    """A ``DeviceService``."""

    def __init__(self, shadows: SqliteShadows, clock: Clock) -> None:
        self._shadows = shadows
        self._clock = clock

    def takes(self, vehicle_id: str, topic: str) -> bool:
        """See ``DeviceService``."""
        return ShadowTopics(vehicle_id).action_of(topic) is not None

    def answer(self, vehicle_id: str, topic: str, payload: bytes) -> Sequence[Announcement]:
        """See ``DeviceService``."""
        action = _action(vehicle_id, topic)
        try:
            return self._shadows.answer(vehicle_id, action, payload)
        except ShadowError as error:
            return [self._rejection(vehicle_id, action, error)]
        except StoreError as error:
            log.error("the shadow of %s: %s", vehicle_id, error)  # noqa: TRY400  the reason is in the message
            failure = ShadowError(500, "Internal service failure", client_token=_token(payload))
            return [self._rejection(vehicle_id, action, failure)]

    def refuse(self, vehicle_id: str, topic: str, payload: bytes) -> Sequence[Announcement]:
        """See ``DeviceService``."""
        error = ShadowError(429, "Too many requests", client_token=_token(payload))
        return [self._rejection(vehicle_id, _action(vehicle_id, topic), error)]

    def news(self) -> Sequence[Announcement]:
        """See ``DeviceService``."""
        return self._shadows.take_announcements()

    def _rejection(self, vehicle_id: str, action: ShadowAction, error: ShadowError) -> Announcement:
        document = error_document(error, int(self._clock.utc().timestamp()))
        topic = ShadowTopics(vehicle_id).rejected(action)
        return Announcement(topic, json.dumps(document).encode())


def _action(vehicle_id: str, topic: str) -> ShadowAction:
    action = ShadowTopics(vehicle_id).action_of(topic)
    if action is None:
        raise ValueError(topic)  # `takes` was not asked
    return action


def _token(payload: bytes) -> str | None:
    try:
        return parse_request(payload).client_token
    except ShadowError:
        return None
