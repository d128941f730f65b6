"""What the commands of ``fleet`` share: how they reach the registry, and its certificates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cloud.cli.registry import opened_registry

if TYPE_CHECKING:
    from cloud.provisioning.ports import AllowedVehicle, Certificate, FleetControl

SHORT_ID: Final = 12


@contextmanager
def fleet_control(data_dir: Path, *, create: bool = False) -> Iterator[FleetControl]:
    """The registry that the operator means."""
    from cloud.stores.sqlite_fleet import SqliteFleet  # noqa: PLC0415  slow

    with opened_registry(data_dir, create=create) as here:
        yield SqliteFleet(here.database, here.registry, here.authority, here.clock)


def certificate_json(one: Certificate) -> dict[str, Any]:
    """A certificate for programs."""
    return {
        "certificate_id": one.certificate_id,
        "status": one.status.value,
        "origin": one.origin.value,
        "name": one.claim_name,
        "vehicle_id": one.thing,
        "serial": one.serial,
        "not_after": one.not_after.isoformat(),
        "created_at": one.created_at.isoformat(),
        "connected_at": None if one.connected_at is None else one.connected_at.isoformat(),
    }


def allowed_json(one: AllowedVehicle) -> dict[str, Any]:
    """A line of the allow list for programs."""
    return {
        "serial_number": one.serial_number,
        "vehicle_id": one.vehicle_id,
        "vehicle_type": one.vehicle_type,
        "blocked": one.blocked,
        "certificate_id": one.certificate_id,
        "registered_at": None if one.registered_at is None else one.registered_at.isoformat(),
    }
