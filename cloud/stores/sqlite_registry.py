"""The registry of one machine: who may connect, as what, and which boards may register.

Invariants:

1. A certificate that is REVOKED never becomes anything else.
2. Of a serial number one registration counts at any moment: a later one that the hook
   allowed sets the earlier certificate INACTIVE in the same transaction.
3. Every change that may end a connection raises ``revision`` in its own transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from cryptography import x509

from cloud.clock import Clock, from_milliseconds, milliseconds
from cloud.errors import FleetError
from cloud.pki.certificates import certificate_id_of, certificate_id_of_der, pem_of
from cloud.provisioning.ports import (
    AllowedVehicle,
    Certificate,
    CertificateStatus,
    Identity,
    Origin,
    Principal,
    PrincipalKind,
    Refusal,
)
from cloud.stores.database import Database
from cloud.stores.registry_rows import (
    ALLOWED_COLUMNS,
    COLUMNS,
    add_certificate,
    add_thing,
    allowed_vehicle,
    certificate_of,
    set_status,
)
from cloud.stores.requested_certificates import RequestedCertificates

_WORDS: Final = {
    CertificateStatus.PENDING_ACTIVATION: "not registered yet",
    CertificateStatus.INACTIVE: "not active",
    CertificateStatus.REVOKED: "revoked",
}


class SqliteRegistry:
    """``Registrations``, ``Identities``, and what the broker needs."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.requested = RequestedCertificates(database, self.change, clock)

    # --- who connects ----------------------------------------------------------------

    def revision(self) -> int:
        """Another number after each change that may end a connection."""
        revision: int = self._database.read("SELECT revision FROM registry_revision")[0][0]
        return revision

    def principal(self, certificate_id: str) -> Principal | Refusal:
        """Whom a certificate stands for, or why it does not count."""
        rows = self._database.read(
            "SELECT status, thing, claim_name, blocked FROM certificates"
            " LEFT JOIN things ON vehicle_id = thing WHERE certificate_id = ?",
            (certificate_id,),
        )
        if not rows:
            return Refusal(f"its certificate {certificate_id} is not in the registry")
        status, thing, claim_name, blocked = rows[0]
        whose = f"of {thing or claim_name or 'nobody yet'}"
        if status != CertificateStatus.ACTIVE:
            word = _WORDS[CertificateStatus(status)]
            return Refusal(f"its certificate {certificate_id} {whose} is {word}")
        if claim_name is not None:
            return Principal(PrincipalKind.CLAIM, claim_name, certificate_id)
        if thing is None:
            return Refusal(f"its certificate {certificate_id} belongs to no vehicle")
        if blocked:
            return Refusal(f"{thing} is blocked")
        return Principal(PrincipalKind.VEHICLE, thing, certificate_id)

    def vehicle_of(self, certificate_der: bytes) -> str | None:
        """The vehicle that shows this certificate, as long as it counts."""
        found = self.principal(certificate_id_of_der(certificate_der))
        if isinstance(found, Principal) and found.kind is PrincipalKind.VEHICLE:
            return found.name
        return None

    def vehicle_ids(self) -> list[str]:
        """Every vehicle that has, or had, a certificate."""
        rows = self._database.read("SELECT vehicle_id FROM things ORDER BY vehicle_id")
        return [vehicle_id for (vehicle_id,) in rows]

    def connected(self, certificate_id: str) -> None:
        """Write down that a certificate was used; only the first time counts."""
        unused = "certificate_id = ? AND connected_ms IS NULL"
        if self._database.read(f"SELECT 1 FROM certificates WHERE {unused}", (certificate_id,)):  # noqa: S608  a constant
            with self._database.write() as connection:
                connection.execute(
                    f"UPDATE certificates SET connected_ms = ? WHERE {unused}",  # noqa: S608  a constant
                    (self._now_ms(), certificate_id),
                )

    # --- new certificates ------------------------------------------------------------

    def add_vehicle(self, vehicle_id: str, pem: bytes, vehicle_type: str = "") -> Certificate:
        """An operator's certificate for a vehicle, ACTIVE at once."""
        with self.change() as connection:
            now = self._clock.utc()
            add_thing(connection, vehicle_id, now, vehicle_type=vehicle_type)
            return add_certificate(
                connection, pem, CertificateStatus.ACTIVE, Origin.OPERATOR, now, thing=vehicle_id
            )

    def add_claim(self, name: str, pem: bytes) -> Certificate:
        """A claim certificate, ACTIVE at once."""
        with self.change() as connection:
            now = self._clock.utc()
            return add_certificate(
                connection, pem, CertificateStatus.ACTIVE, Origin.OPERATOR, now, claim_name=name
            )

    def take_over(self, certificate: x509.Certificate, vehicle_id: str, *, revoked: bool) -> None:
        """A certificate that an earlier version kept on file; one that is there stays."""
        status = CertificateStatus.REVOKED if revoked else CertificateStatus.ACTIVE
        with self.change() as connection:
            if self.certificate(certificate_id_of(certificate)) is None:
                now, pem = self._clock.utc(), pem_of(certificate)
                add_thing(connection, vehicle_id, now)
                add_certificate(connection, pem, status, Origin.OPERATOR, now, thing=vehicle_id)

    # --- Registrations ---------------------------------------------------------------

    def find(self, serial_number: str) -> AllowedVehicle | None:
        """See ``Registrations``."""
        rows = self._database.read(
            f"SELECT {ALLOWED_COLUMNS} WHERE a.serial_number = ?",
            (serial_number,),
        )
        return allowed_vehicle(rows[0]) if rows else None

    def has_connected(self, certificate_id: str) -> bool:
        """See ``Registrations``; one that is gone was never used."""
        return bool(
            self._database.read(
                "SELECT 1 FROM certificates WHERE certificate_id = ? AND connected_ms NOTNULL",
                (certificate_id,),
            )
        )

    def rotate(self, vehicle_id: str, present_id: str, new_id: str) -> bool:
        """See ``Registrations``; what the new one is for is known since it was asked for."""
        del new_id
        found = self.principal(present_id)
        return (
            isinstance(found, Principal)
            and found.kind is PrincipalKind.VEHICLE
            and found.name == vehicle_id
        )

    def register(self, found: AllowedVehicle, certificate_id: str) -> bool:
        """See ``Registrations``."""
        with self.change() as connection:
            changed = connection.execute(
                "UPDATE allow_list SET certificate_id = ?, registered_ms = ?"
                " WHERE serial_number = ? AND vehicle_id = ? AND blocked = 0"
                " AND certificate_id IS ? AND NOT EXISTS (SELECT 1 FROM certificates AS earlier"
                " WHERE earlier.certificate_id = allow_list.certificate_id"
                " AND earlier.certificate_id <> ? AND earlier.connected_ms NOTNULL)",
                (
                    *(certificate_id, self._now_ms(), found.serial_number, found.vehicle_id),
                    *(found.certificate_id, certificate_id),
                ),
            ).rowcount
            if changed and found.certificate_id not in {None, certificate_id}:
                set_status(connection, [str(found.certificate_id)], CertificateStatus.INACTIVE)
            return changed == 1

    # --- Identities ------------------------------------------------------------------

    def settled_at(self, vehicle_id: str, certificate_id: str) -> datetime | None:
        """See ``Identities``; looking again costs nothing."""
        del vehicle_id, certificate_id
        return None

    def note_settled(self, vehicle_id: str, certificate_id: str, now: datetime) -> None:
        """See ``Identities``."""
        del vehicle_id, now
        self.connected(certificate_id)

    def identities(self, vehicle_id: str) -> Sequence[Identity]:
        """See ``Identities``."""
        rows = self._database.read(
            "SELECT certificate_id, created_ms, origin FROM certificates"
            " WHERE thing = ? AND status IN ('ACTIVE', 'PENDING_ACTIVATION')",
            (vehicle_id,),
        )
        return [
            Identity(one, from_milliseconds(created_ms), origin != Origin.OPERATOR)
            for one, created_ms, origin in rows
        ]

    def retire(self, vehicle_id: str, certificate_ids: Iterable[str]) -> None:
        """See ``Identities``."""
        with self.change() as connection:
            set_status(connection, certificate_ids, CertificateStatus.INACTIVE, thing=vehicle_id)

    def revoke(self, vehicle_or_serial: str) -> list[Certificate]:
        """Revoke one certificate of a vehicle, or all of them, for good; those.

        Raises:
            FleetError: there is none.
        """
        hit = self.certificates(
            "thing = ?1 OR (thing NOTNULL AND (serial = ?1 OR certificate_id = ?1))",
            (vehicle_or_serial,),
        )
        if not hit:
            raise FleetError(
                f"there is no certificate of {vehicle_or_serial!r}",
                hint="milepost-cloud certs list shows vehicles and serial numbers",
            )
        with self.change() as connection:
            ids = [one.certificate_id for one in hit]
            set_status(connection, ids, CertificateStatus.REVOKED)
        return hit

    # --- what the operator's side shares ---------------------------------------------

    def certificate(self, certificate_id: str) -> Certificate | None:
        """One certificate."""
        found = self.certificates("certificate_id = ?", (certificate_id,))
        return found[0] if found else None

    def certificates(self, where: str, parameters: Sequence[Any] = ()) -> list[Certificate]:
        """Those that a condition holds for, the latest first."""
        rows = self._database.read(
            f"SELECT {COLUMNS} FROM certificates WHERE {where}"  # noqa: S608  this package's own
            " ORDER BY created_ms DESC, certificate_id",
            parameters,
        )
        return [certificate_of(row) for row in rows]

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may end connections."""
        with self._database.write() as connection:
            yield connection
            connection.execute("UPDATE registry_revision SET revision = revision + 1")

    # ---------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return milliseconds(self._clock.utc())
