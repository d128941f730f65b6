"""The rows of the registry's tables: how they are written and what they become."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from cryptography import x509

from cloud.clock import from_milliseconds, milliseconds
from cloud.pki.certificates import certificate_id_of, serial_of
from cloud.provisioning.ports import AllowedVehicle, Certificate, CertificateStatus, Origin
from contract.provisioning import TOKEN_LIFE_S

COLUMNS: Final = (
    "certificate_id, status, origin, thing, claim_name, serial,"
    " not_before_ms, not_after_ms, created_ms, connected_ms"
)
ALLOWED_COLUMNS: Final = (
    "a.serial_number, a.vehicle_id, a.vehicle_type, max(a.blocked, ifnull(t.blocked, 0)),"
    " a.certificate_id, a.registered_ms"
    " FROM allow_list a LEFT JOIN things t ON t.vehicle_id = a.vehicle_id"
)
_ADD: Final = """
    INSERT INTO certificates (certificate_id, status, origin, thing, claim_name, serial,
        not_before_ms, not_after_ms, created_ms, token_digest, token_expires_ms, requested_by, pem)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class Token:
    """An ownership token, and the certificate (its id) that may spend it."""

    text: str
    requested_by: str


def add_certificate(
    connection: sqlite3.Connection,
    pem: bytes,
    status: CertificateStatus,
    origin: Origin,
    now: datetime,
    *,
    thing: str | None = None,
    claim_name: str | None = None,
    token: Token | None = None,
) -> Certificate:
    """Write down a new certificate."""
    parsed = x509.load_pem_x509_certificate(pem)
    made = Certificate(
        certificate_id=certificate_id_of(parsed),
        status=status,
        origin=origin,
        thing=thing,
        claim_name=claim_name,
        serial=serial_of(parsed),
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        created_at=now,
        connected_at=None,
    )
    expires_ms = milliseconds(now + timedelta(seconds=TOKEN_LIFE_S))
    owned = (digest(token.text), expires_ms, token.requested_by) if token else (None, None, None)
    connection.execute(
        _ADD,
        (
            *(made.certificate_id, status.value, origin.value, thing, claim_name, made.serial),
            *map(milliseconds, (made.not_before, made.not_after, now)),
            *owned,
            pem.decode(),
        ),
    )
    return made


def add_thing(
    connection: sqlite3.Connection,
    vehicle_id: str,
    now: datetime,
    *,
    vehicle_type: str | None = None,
    serial_number: str | None = None,
) -> None:
    """Write down a vehicle; one that is there learns what is given."""
    connection.execute(
        "INSERT INTO things (vehicle_id, vehicle_type, serial_number, created_ms)"
        " VALUES (?1, ifnull(?2, ''), ?3, ?4) ON CONFLICT (vehicle_id) DO UPDATE SET"
        " vehicle_type = ifnull(nullif(?2, ''), vehicle_type),"
        " serial_number = ifnull(?3, serial_number)",
        (vehicle_id, vehicle_type, serial_number, milliseconds(now)),
    )


def set_status(
    connection: sqlite3.Connection,
    certificate_ids: Iterable[str],
    status: CertificateStatus,
    *,
    thing: str | None = None,
) -> None:
    """Change the status of certificates; one that is REVOKED stays so."""
    connection.executemany(
        "UPDATE certificates SET status = ?1 WHERE certificate_id = ?2 AND status <> 'REVOKED'"
        " AND (?3 IS NULL OR thing = ?3)",
        [(status.value, one, thing) for one in certificate_ids],
    )


def allowed_vehicle(row: Sequence[Any]) -> AllowedVehicle:
    """A row of ``ALLOWED_COLUMNS``."""
    serial_number, vehicle_id, vehicle_type, blocked, certificate_id, registered_ms = row
    return AllowedVehicle(
        serial_number,
        vehicle_id,
        vehicle_type,
        bool(blocked),
        certificate_id,
        None if registered_ms is None else from_milliseconds(registered_ms),
    )


def certificate_of(row: Sequence[Any]) -> Certificate:
    """A row of ``COLUMNS``."""
    certificate_id, status, origin, thing, claim_name, serial, *moments = row
    not_before, not_after, created_at, connected_at = (
        None if value_ms is None else from_milliseconds(value_ms) for value_ms in moments
    )
    assert not_before is not None  # noqa: S101  the schema says NOT NULL
    assert not_after is not None  # noqa: S101  likewise
    assert created_at is not None  # noqa: S101  likewise
    return Certificate(
        certificate_id,
        CertificateStatus(status),
        Origin(origin),
        thing,
        claim_name,
        serial,
        not_before,
        not_after,
        created_at,
        connected_at,
    )


def digest(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
