"""What the commands of ``fleet`` share: how they reach the registry, what they show of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cloud.cli.registry import opened_registry
from cloud.errors import CloudError, ConfigError

if TYPE_CHECKING:
    from cloud.cli.place import Place
    from cloud.provisioning.ports import AllowedVehicle, Certificate, FleetControl, FleetVehicle

SHORT_ID: Final = 12
"""Characters of a certificate's id that tables show."""

YES = click.option("--yes", is_flag=True, help="Do not ask.")


@contextmanager
def fleet_control(place: Place, *, create: bool = False) -> Iterator[FleetControl]:
    """The registry that the operator means; made on first use with ``create``.

    Raises:
        ConfigError: there is none.
    """
    if place.aws:
        from cloud.clock import SystemClock  # noqa: PLC0415  with the next
        from cloud.stores.aws_fleet import fleet_of_stack  # noqa: PLC0415  slow

        yield fleet_of_stack(
            place.session(), place.stack, SystemClock(), lambda line: click.echo(line, err=True)
        )
        return
    from cloud.stores.sqlite_fleet import SqliteFleet  # noqa: PLC0415  slow

    with opened_registry(place.data_dir, create=create) as here:
        yield SqliteFleet(here.database, here.registry, here.authority, here.clock)


def now() -> datetime:
    """The moment of the command."""
    from cloud.clock import SystemClock  # noqa: PLC0415  with the others

    return SystemClock().utc()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone.

    Raises:
        ConfigError: nobody is there to be asked.
        click.Abort: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{question} Nobody is here to answer", hint="Say so with --yes.")
    click.confirm(question, abort=True)


def complete_vehicle(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[str]:
    """The vehicles of ``--data`` that begin so, for the shell."""
    data_dir = context.params.get("data_dir") or "milepost-data"
    try:
        with opened_registry(Path(data_dir)) as here:
            known = here.registry.vehicle_ids()
    except CloudError:
        return []
    return [one for one in known if one.startswith(incomplete)]


VEHICLE = click.argument("vehicle_id", metavar="VEHICLE", shell_complete=complete_vehicle)


def certificate_json(one: Certificate) -> dict[str, Any]:
    """A certificate for programs."""
    return {
        "certificate_id": one.certificate_id,
        "status": one.status.value,
        "origin": one.origin.value,
        "name": one.claim_name,
        "vehicle_id": one.thing,
        "serial": one.serial,
        "not_before": one.not_before.isoformat(),
        "not_after": one.not_after.isoformat(),
        "created_at": one.created_at.isoformat(),
        "connected_at": _iso(one.connected_at),
    }


def allowed_json(one: AllowedVehicle) -> dict[str, Any]:
    """A line of the allow list for programs."""
    return {
        "serial_number": one.serial_number,
        "vehicle_id": one.vehicle_id,
        "vehicle_type": one.vehicle_type,
        "state": allowed_state(one),
        "blocked": one.blocked,
        "certificate_id": one.certificate_id,
        "registered_at": _iso(one.registered_at),
    }


def vehicle_json(one: FleetVehicle, moment: datetime) -> dict[str, Any]:
    """A vehicle for programs."""
    return {
        "vehicle_id": one.vehicle_id,
        "vehicle_type": one.vehicle_type,
        "serial_number": one.serial_number,
        "state": vehicle_state(one, moment),
        "blocked": one.blocked,
        "created_at": one.created_at.isoformat(),
        "certificates": [certificate_json(certificate) for certificate in one.certificates],
    }


def allowed_state(one: AllowedVehicle) -> str:
    """What a line of the allow list allows."""
    if one.blocked:
        return "blocked"
    return "waiting" if one.certificate_id is None else "registered"


def certificate_state(one: Certificate, moment: datetime) -> str:
    """Whether a certificate connects, in a word."""
    if one.status != "ACTIVE":
        return one.status.value.lower().replace("_", " ")
    return "expired" if one.not_after < moment else "active"


def vehicle_state(one: FleetVehicle, moment: datetime) -> str:
    """Whether a vehicle can connect, in a word: as the best of its certificates can."""
    if one.blocked:
        return "blocked"
    states = [certificate_state(certificate, moment) for certificate in one.certificates]
    order = ("active", "expired", "inactive", "revoked", "pending activation")
    return min(states, key=order.index, default="no certificate")


def usable(one: FleetVehicle, moment: datetime) -> Certificate | None:
    """The certificate that connects longest."""
    active = [
        certificate
        for certificate in one.certificates
        if certificate_state(certificate, moment) == "active"
    ]
    return max(active, key=lambda certificate: certificate.not_after, default=None)


def day(moment: datetime | None) -> str | None:
    """A date for people."""
    return None if moment is None else f"{moment:%Y-%m-%d}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
