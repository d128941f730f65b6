"""The registry's tables in ``milepost.db``.

- ``things``: vehicles that have, or had, a certificate.
- ``certificates``: every client certificate, by its id. ``thing`` is NULL for claims and for
  what is not registered yet. ``token_digest`` (SHA-256; the token itself is nowhere) counts
  until ``token_expires_ms``, for the principal ``requested_by`` alone; ``registration`` is
  the request that it was used for.
- ``allow_list``: serial numbers of boards that may register, and as which vehicle.
- ``registry_revision``: one number, raised with each change that may end a connection; the
  broker looks at it once a second.
"""

from __future__ import annotations

import sqlite3
from typing import Final

_TABLES: Final = (
    """
    CREATE TABLE things (
        vehicle_id    TEXT    PRIMARY KEY,
        vehicle_type  TEXT    NOT NULL,
        serial_number TEXT,
        blocked       INTEGER NOT NULL DEFAULT 0,
        created_ms    INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE certificates (
        certificate_id   TEXT    PRIMARY KEY,
        status           TEXT    NOT NULL CHECK (status IN
            ('PENDING_ACTIVATION', 'ACTIVE', 'INACTIVE', 'REVOKED')),
        origin           TEXT    NOT NULL CHECK (origin IN ('operator', 'by_claim', 'rotation')),
        thing            TEXT    REFERENCES things (vehicle_id),
        claim_name       TEXT,
        serial           TEXT    NOT NULL,
        not_before_ms    INTEGER NOT NULL,
        not_after_ms     INTEGER NOT NULL,
        created_ms       INTEGER NOT NULL,
        connected_ms     INTEGER,
        token_digest     TEXT    UNIQUE,
        token_expires_ms INTEGER,
        requested_by     TEXT,
        registration     TEXT,
        pem              TEXT    NOT NULL
    ) STRICT
    """,
    "CREATE INDEX certificates_by_thing ON certificates (thing, created_ms)",
    """
    CREATE INDEX certificates_pending ON certificates (requested_by, token_expires_ms)
        WHERE status = 'PENDING_ACTIVATION'
    """,
    """
    CREATE TABLE allow_list (
        serial_number  TEXT    PRIMARY KEY,
        vehicle_id     TEXT    NOT NULL UNIQUE,
        vehicle_type   TEXT    NOT NULL,
        blocked        INTEGER NOT NULL DEFAULT 0,
        certificate_id TEXT,
        registered_ms  INTEGER
    ) STRICT
    """,
    "CREATE TABLE registry_revision (revision INTEGER NOT NULL) STRICT",
    "INSERT INTO registry_revision VALUES (0)",
)


def add_registry(connection: sqlite3.Connection) -> None:
    """The migration that makes them."""
    for statement in _TABLES:
        connection.execute(statement)
