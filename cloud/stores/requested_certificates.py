"""Certificates that a board or a vehicle asked for: from the request to their registration.

Such a certificate is PENDING_ACTIVATION until its request is carried out. Its ownership token
proves for an hour whose it is, and counts for the principal alone that asked for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from cloud.clock import Clock, milliseconds
from cloud.provisioning.ports import (
    Certificate,
    CertificateStatus,
    Origin,
    Principal,
    PrincipalKind,
)
from cloud.stores.database import Database
from cloud.stores.registry_rows import Token, add_certificate, add_thing, digest

MAX_UNREGISTERED: Final = 1_000
"""Certificates that one principal may have asked for and not registered."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """A certificate that its owner proved by a token."""

    certificate_id: str
    pem: str
    thing: str | None
    registration: Mapping[str, Any] | None
    """The request that was carried out with it; None while it is PENDING_ACTIVATION."""


class RequestedCertificates:
    """Part of the registry of one machine; ``change`` is its transaction."""

    def __init__(
        self,
        database: Database,
        change: Callable[[], AbstractContextManager[sqlite3.Connection]],
        clock: Clock,
    ) -> None:
        self._database = database
        self._change = change
        self._clock = clock

    def add(self, pem: bytes, token: str, requested_by: Principal) -> Certificate | None:
        """A certificate for a request, PENDING; None when the principal has too many of them."""
        origin = Origin.BY_CLAIM if requested_by.kind is PrincipalKind.CLAIM else Origin.ROTATION
        with self._database.write() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM certificates"
                " WHERE status = 'PENDING_ACTIVATION' AND requested_by = ?",
                (requested_by.certificate_id,),
            ).fetchone()
            if count >= MAX_UNREGISTERED:
                return None
            return add_certificate(
                connection,
                pem,
                CertificateStatus.PENDING_ACTIVATION,
                origin,
                self._clock.utc(),
                token=Token(token, requested_by.certificate_id),
            )

    def owned_by(self, token: str, requested_by: Principal) -> Ownership | None:
        """The certificate that a token proves, for the principal that asked for it."""
        rows = self._database.read(
            "SELECT certificate_id, pem, thing, registration FROM certificates"
            " WHERE token_digest = ? AND token_expires_ms > ? AND requested_by = ?"
            " AND connected_ms IS NULL AND status IN ('PENDING_ACTIVATION', 'ACTIVE')",
            (digest(token), self._now_ms(), requested_by.certificate_id),
        )
        if not rows:
            return None
        certificate_id, pem, thing, registration = rows[0]
        return Ownership(
            certificate_id, pem, thing, None if registration is None else json.loads(registration)
        )

    def activate(
        self,
        owned: Ownership,
        vehicle_id: str,
        registration: Mapping[str, Any],
        *,
        vehicle_type: str | None = None,
        serial_number: str | None = None,
    ) -> bool:
        """Tie a requested certificate to a vehicle and make it ACTIVE.

        False, and nothing is changed, when it is not PENDING any more.
        """
        with self._change() as connection:
            pending = connection.execute(
                "SELECT 1 FROM certificates"
                " WHERE certificate_id = ? AND status = 'PENDING_ACTIVATION'",
                (owned.certificate_id,),
            ).fetchone()
            if pending is None:
                return False
            add_thing(
                connection,
                vehicle_id,
                self._clock.utc(),
                vehicle_type=vehicle_type,
                serial_number=serial_number,
            )
            connection.execute(
                "UPDATE certificates SET status = 'ACTIVE', thing = ?, registration = ?"
                " WHERE certificate_id = ?",
                (vehicle_id, json.dumps(registration), owned.certificate_id),
            )
            return True

    def remove_overdue(self) -> int:
        """Delete the certificates whose token has expired unused; how many."""
        overdue = "status = 'PENDING_ACTIVATION' AND token_expires_ms <= ?"
        now_ms = self._now_ms()
        if not self._database.read(f"SELECT 1 FROM certificates WHERE {overdue}", (now_ms,)):  # noqa: S608  a constant
            return 0
        with self._database.write() as connection:
            return connection.execute(
                f"DELETE FROM certificates WHERE {overdue}",  # noqa: S608  a constant
                (now_ms,),
            ).rowcount

    def _now_ms(self) -> int:
        return milliseconds(self._clock.utc())
