"""The operator's side of the one-machine registry; a running broker notices by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from cloud.clock import Clock, from_milliseconds
from cloud.errors import FleetError
from cloud.pki import Authority
from cloud.pki.authority import CLAIM_DAYS
from cloud.provisioning.ports import (
    AllowedVehicle,
    Certificate,
    CertificateStatus,
    ClaimCredentials,
    FleetVehicle,
)
from cloud.stores.database import Database
from cloud.stores.registry_rows import ALLOWED_COLUMNS, allowed_vehicle, set_status
from cloud.stores.sqlite_registry import SqliteRegistry

_THINGS: Final = "SELECT vehicle_id, vehicle_type, serial_number, blocked, created_ms FROM things"


class SqliteFleet:
    """``FleetControl`` on the registry's tables."""

    def __init__(
        self, database: Database, registry: SqliteRegistry, authority: Authority, clock: Clock
    ) -> None:
        self._database = database
        self._registry = registry
        self._authority = authority
        self._clock = clock

    def create_claim(self, name: str, days: int | None) -> ClaimCredentials:
        """See ``FleetControl``."""
        made = self._authority.issue_claim(self._clock.utc(), CLAIM_DAYS if days is None else days)
        return ClaimCredentials(self._registry.add_claim(name, made.certificate_pem), made)

    def claims(self) -> Sequence[Certificate]:
        """See ``FleetControl``."""
        return self._registry.certificates("claim_name NOTNULL")

    def revoke_claim(self, name_or_id: str) -> Sequence[Certificate]:
        """See ``FleetControl``."""
        hit = self._registry.certificates(
            "claim_name NOTNULL AND (claim_name = ?1 OR certificate_id = ?1)", (name_or_id,)
        )
        if not hit:
            raise FleetError(
                f"there is no claim certificate {name_or_id!r}",
                hint="milepost-cloud fleet claim list shows their names and ids",
            )
        return self._revoke(hit)

    def allow(self, vehicles: Sequence[AllowedVehicle]) -> None:
        """See ``FleetControl``."""
        with self._database.write() as connection:
            for one in vehicles:
                _allow(connection, one)

    def allowed(self) -> Sequence[AllowedVehicle]:
        """See ``FleetControl``."""
        rows = self._database.read(f"SELECT {ALLOWED_COLUMNS} ORDER BY a.serial_number")
        return [allowed_vehicle(row) for row in rows]

    def disallow(self, serial_number: str) -> AllowedVehicle:
        """See ``FleetControl``."""
        found = self._registry.find(serial_number)
        if found is None:
            raise FleetError(
                f"serial number {serial_number!r} is not on the allow list",
                hint="milepost-cloud fleet allow list shows it",
            )
        with self._database.write() as connection:
            connection.execute("DELETE FROM allow_list WHERE serial_number = ?", (serial_number,))
        return found

    def vehicles(self) -> Sequence[FleetVehicle]:
        """See ``FleetControl``."""
        with self._database.snapshot():
            rows = self._database.read(f"{_THINGS} ORDER BY vehicle_id")
            certificates: dict[str | None, list[Certificate]] = {}
            for one in self._registry.certificates("thing NOTNULL"):
                certificates.setdefault(one.thing, []).append(one)
        return [
            FleetVehicle(
                vehicle_id,
                vehicle_type,
                serial_number,
                bool(blocked),
                from_milliseconds(created_ms),
                certificates.get(vehicle_id, []),
            )
            for vehicle_id, vehicle_type, serial_number, blocked, created_ms in rows
        ]

    def describe(self, vehicle_id: str) -> FleetVehicle:
        """See ``FleetControl``."""
        found = [one for one in self.vehicles() if one.vehicle_id == vehicle_id]
        if not found:
            raise _unknown(vehicle_id)
        return found[0]

    def block(self, vehicle_id: str) -> None:
        """See ``FleetControl``."""
        self._set_blocked(vehicle_id, blocked=True)

    def unblock(self, vehicle_id: str) -> None:
        """See ``FleetControl``."""
        self._set_blocked(vehicle_id, blocked=False)

    def revoke(self, vehicle_id: str) -> Sequence[Certificate]:
        """See ``FleetControl``; the board may not register again before it is unblocked."""
        hit = self._registry.certificates("thing = ?", (vehicle_id,))
        if not hit:
            raise _unknown(vehicle_id)
        return self._revoke(hit, vehicle_id)

    def _set_blocked(self, vehicle_id: str, *, blocked: bool) -> None:
        with self._registry.change() as connection:
            changed = sum(
                connection.execute(
                    f"UPDATE {table} SET blocked = ? WHERE vehicle_id = ?",  # noqa: S608  a constant
                    (int(blocked), vehicle_id),
                ).rowcount
                for table in ("things", "allow_list")
            )
            if not changed:
                raise _unknown(vehicle_id)

    def _revoke(
        self, hit: Sequence[Certificate], vehicle_id: str | None = None
    ) -> Sequence[Certificate]:
        ids = [one.certificate_id for one in hit]
        with self._registry.change() as connection:
            set_status(connection, ids, CertificateStatus.REVOKED)
            connection.execute(
                "UPDATE allow_list SET blocked = 1 WHERE vehicle_id = ?", (vehicle_id,)
            )
        return [one for one in map(self._registry.certificate, ids) if one is not None]


def _allow(connection: sqlite3.Connection, one: AllowedVehicle) -> None:
    taken = connection.execute(
        "SELECT serial_number, vehicle_id FROM allow_list"
        " WHERE serial_number = ? OR vehicle_id = ?",
        (one.serial_number, one.vehicle_id),
    ).fetchone()
    if taken is not None:
        raise FleetError(
            f"serial number {taken[0]} is on the allow list already, as {taken[1]}",
            hint=f"to replace it: milepost-cloud fleet allow remove {taken[0]}",
        )
    connection.execute(
        "INSERT INTO allow_list (serial_number, vehicle_id, vehicle_type) VALUES (?, ?, ?)",
        (one.serial_number, one.vehicle_id, one.vehicle_type),
    )


def _unknown(vehicle_id: str) -> FleetError:
    return FleetError(
        f"there is no vehicle {vehicle_id!r}",
        hint="milepost-cloud fleet list shows the vehicles",
    )
