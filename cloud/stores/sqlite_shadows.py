"""Shadows of the one-machine cloud.

Invariants:

1. A request is read, carried out and stored in one transaction, so that versions never
   repeat, whichever process asks.
2. An operator's change is made by another process than the broker's; what the vehicle must
   be told of it is stored in the same transaction (:mod:`cloud.stores.announcements`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.shadow import Request, Shadow, deleted, existing, parse_request, parse_update, updated
from cloud.shadow.answers import (
    delete_document,
    delta_document,
    documents_document,
    get_document,
    update_document,
)
from cloud.stores.announcements import Announcement, announce, take_announcements
from cloud.stores.database import Database
from contract.shadow import ShadowAction, ShadowTopics

_SELECT: Final = (
    "SELECT version, changed_s, deleted, state, metadata FROM shadows WHERE vehicle_id = ?"
)
_PUT: Final = """
    INSERT OR REPLACE INTO shadows (vehicle_id, version, changed_s, deleted, state, metadata)
    VALUES (?, ?, ?, ?, ?, ?)
"""


class SqliteShadows:
    """``Shadows`` on the table ``shadows``, and what the broker answers to vehicles."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # --- the operator's side ---------------------------------------------------------

    def get(self, vehicle_id: str) -> dict[str, Any]:
        """See ``cloud.shadow.ports.Shadows``."""
        return self._get(vehicle_id, Request())

    def update(self, vehicle_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """See ``cloud.shadow.ports.Shadows``."""
        return self._change(vehicle_id, ShadowAction.UPDATE, _encode(request))

    def delete(self, vehicle_id: str) -> dict[str, Any]:
        """See ``cloud.shadow.ports.Shadows``."""
        return self._change(vehicle_id, ShadowAction.DELETE, b"")

    def _change(self, vehicle_id: str, action: ShadowAction, payload: bytes) -> dict[str, Any]:
        with self._database.write() as connection:
            told = self._carry_out(connection, vehicle_id, action, payload)
            announce(connection, told)
        answer: dict[str, Any] = json.loads(told[0].payload)
        return answer

    # --- the vehicle's side ----------------------------------------------------------

    def answer(self, vehicle_id: str, action: ShadowAction, payload: bytes) -> list[Announcement]:
        """What a vehicle's request leads to, the answer first.

        Raises:
            ShadowError: the request is refused.
            StoreError: it could not be stored.
        """
        if action is ShadowAction.GET:
            topic = ShadowTopics(vehicle_id).accepted(action)
            document = self._get(vehicle_id, parse_request(payload))
            return [Announcement(topic, _encode(document))]
        with self._database.write() as connection:
            return self._carry_out(connection, vehicle_id, action, payload)

    def take_announcements(self) -> list[Announcement]:
        """What operators' changes have to tell since the last time, in their order.

        Raises:
            StoreError: the file cannot be read or written; nothing was taken.
        """
        return take_announcements(self._database)

    # --- both ------------------------------------------------------------------------

    def _get(self, vehicle_id: str, request: Request) -> dict[str, Any]:
        rows = self._database.read(_SELECT, (vehicle_id,))
        shadow = existing(_shadow(rows), request)
        return get_document(shadow, request, self._now_s())

    def _carry_out(
        self,
        connection: sqlite3.Connection,
        vehicle_id: str,
        action: ShadowAction,
        payload: bytes,
    ) -> list[Announcement]:
        topics, now_s = ShadowTopics(vehicle_id), self._now_s()
        before = _shadow(connection.execute(_SELECT, (vehicle_id,)).fetchall())
        documents: list[tuple[str, dict[str, Any] | None]]
        if action is ShadowAction.DELETE:
            request = parse_request(payload)
            after = deleted(existing(before, request), now_s)
            documents = [(topics.accepted(action), delete_document(after, request, now_s))]
        else:
            request = parse_update(payload)
            after = updated(before, request, now_s)
            documents = [
                (topics.accepted(action), update_document(after, request, now_s)),
                (topics.delta, delta_document(after, request, now_s)),
                (topics.documents, documents_document(before, after, request, now_s)),
            ]
        row = (after.version, after.changed_s, after.deleted)
        texts = (_encode(after.state).decode(), _encode(after.metadata).decode())
        connection.execute(_PUT, (vehicle_id, *row, *texts))
        return [
            Announcement(topic, _encode(document))
            for topic, document in documents
            if document is not None
        ]

    def _now_s(self) -> int:
        return int(self._clock.utc().timestamp())


def _shadow(rows: list[tuple[Any, ...]]) -> Shadow | None:
    if not rows:
        return None
    version, changed_s, is_deleted, state, metadata = rows[0]
    try:
        return Shadow(version, changed_s, json.loads(state), json.loads(metadata), bool(is_deleted))
    except ValueError as error:
        raise StoreError(f"a stored shadow is damaged: {error}") from error


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
