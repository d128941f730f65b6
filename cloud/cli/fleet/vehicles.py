"""``milepost-cloud fleet list|describe|block|unblock|revoke|rotate``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cloud.cli.common import AS_JSON, print_json, print_table
from cloud.cli.fleet.common import (
    SHORT_ID,
    VEHICLE,
    YES,
    allowed_json,
    allowed_state,
    certificate_json,
    certificate_state,
    complete_vehicle,
    confirm,
    day,
    fleet_control,
    now,
    usable,
    vehicle_json,
    vehicle_state,
)
from cloud.cli.jobs import WAIT, create_job
from cloud.cli.place import Place, with_place
from cloud.errors import FleetError

if TYPE_CHECKING:
    from cloud.provisioning.ports import AllowedVehicle

LIST_EPILOG = """\b
Examples:
  milepost-cloud fleet list
  milepost-cloud fleet list --expires-within 30
  milepost-cloud fleet list --json | jq -r '.[] | select(.state == "blocked").vehicle_id'
"""

DESCRIBE_EPILOG = """\b
Examples:
  milepost-cloud fleet describe van-1
  milepost-cloud fleet describe van-1 --json
"""

BLOCK_EPILOG = """\b
Examples:
  milepost-cloud fleet block van-1      # stolen, or sends nonsense: look into it first
  milepost-cloud fleet unblock van-1

\b
Its connection ends within seconds, it is refused, and its board may not register. Its
certificate is kept; the vehicle keeps its data until it is let in again.
"""

UNBLOCK_EPILOG = """\b
Examples:
  milepost-cloud fleet unblock van-1
"""

REVOKE_EPILOG = """\b
Examples:
  milepost-cloud fleet revoke van-1
  milepost-cloud fleet revoke van-1 --yes

\b
For a vehicle that leaves the fleet, or whose key is known to others. Its board may not
register again before `fleet allow remove` and `fleet allow add`.
"""

ROTATE_EPILOG = """\b
Examples:
  milepost-cloud fleet rotate van-1 --wait 120
  milepost-cloud fleet rotate van-1 van-2 van-3

\b
A job: the vehicle makes a new key, gets a certificate for it and shows that it can connect
with it before the old one retires. `milepost-cloud jobs describe` tells how far it is.
"""


@click.command("list", epilog=LIST_EPILOG)
@click.option(
    "--expires-within",
    "days",
    type=click.IntRange(0),
    metavar="DAYS",
    help="Only vehicles that could not connect any more after so many days.",
)
@with_place
@AS_JSON
def fleet_list(*, days: int | None, place: Place, as_json: bool) -> None:
    """Show every vehicle and whether it can connect."""
    with fleet_control(place) as fleet:
        found = fleet.vehicles()
        waiting = sum(allowed_state(one) == "waiting" for one in fleet.allowed())
    moment = now()
    if days is not None:
        end = moment + timedelta(days=days)
        last = [(one, usable(one, moment)) for one in found]
        found = [one for one, held in last if held is None or held.not_after <= end]
    if as_json:
        print_json([vehicle_json(one, moment) for one in found])
        return
    rows = []
    for one in found:
        held = usable(one, moment)
        rows.append(
            {
                "vehicle": one.vehicle_id,
                "type": one.vehicle_type or None,
                "serial number": one.serial_number,
                "state": vehicle_state(one, moment),
                "certificate": held.certificate_id[:SHORT_ID] if held else None,
                "valid until": day(held.not_after) if held else None,
                "used since": day(held.connected_at) if held else None,
            }
        )
    print_table(rows, "no vehicle" if days is not None else "no vehicle has a certificate yet")
    if waiting and days is None:
        print(f"boards of the allow list that have not registered yet: {waiting}")


@click.command("describe", epilog=DESCRIBE_EPILOG)
@VEHICLE
@with_place
@AS_JSON
def fleet_describe(*, vehicle_id: str, place: Place, as_json: bool) -> None:
    """Show all that is known of a vehicle's identity."""
    with fleet_control(place) as fleet:
        try:
            one = fleet.describe(vehicle_id)
        except FleetError:
            board = {line.vehicle_id: line for line in fleet.allowed()}.get(vehicle_id)
            if board is None:
                raise
            _describe_board(board, as_json=as_json)
            return
    moment = now()
    if as_json:
        print_json(vehicle_json(one, moment))
        return
    print(f"vehicle        {one.vehicle_id}")
    print(f"type           {one.vehicle_type or '-'}")
    print(f"serial number  {one.serial_number or '-'}")
    print(f"state          {vehicle_state(one, moment)}")
    print(f"known since    {one.created_at:%Y-%m-%d %H:%M} UTC")
    print("certificates, the latest first:")
    rows = [
        {
            "certificate": certificate.certificate_id[:SHORT_ID],
            "state": certificate_state(certificate, moment),
            "by": certificate.origin.value.replace("_", " "),
            "made": day(certificate.created_at),
            "used since": day(certificate.connected_at),
            "valid until": day(certificate.not_after),
        }
        for certificate in one.certificates
    ]
    print_table(rows, "none")


@click.command("block", epilog=BLOCK_EPILOG)
@VEHICLE
@with_place
@AS_JSON
def fleet_block(*, vehicle_id: str, place: Place, as_json: bool) -> None:
    """Refuse a vehicle until it is unblocked."""
    with fleet_control(place) as fleet:
        fleet.block(vehicle_id)
    _tell(as_json=as_json, vehicle_id=vehicle_id, state="blocked")


@click.command("unblock", epilog=UNBLOCK_EPILOG)
@VEHICLE
@with_place
@AS_JSON
def fleet_unblock(*, vehicle_id: str, place: Place, as_json: bool) -> None:
    """Let a blocked vehicle in again."""
    with fleet_control(place) as fleet:
        fleet.unblock(vehicle_id)
    _tell(as_json=as_json, vehicle_id=vehicle_id, state="unblocked")


@click.command("revoke", epilog=REVOKE_EPILOG)
@VEHICLE
@YES
@with_place
@AS_JSON
def fleet_revoke(*, vehicle_id: str, yes: bool, place: Place, as_json: bool) -> None:
    """Revoke every certificate of a vehicle, for good."""
    with fleet_control(place) as fleet:
        fleet.describe(vehicle_id)  # a mistyped name is told before the question
        confirm(f"Revoke every certificate of {vehicle_id}, for good?", yes=yes)
        revoked = fleet.revoke(vehicle_id)
    if as_json:
        print_json([certificate_json(one) for one in revoked])
        return
    for one in revoked:
        print(f"revoked: {vehicle_id}, certificate {one.certificate_id}")


@click.command("rotate", epilog=ROTATE_EPILOG)
@click.argument(
    "vehicle_ids",
    nargs=-1,
    required=True,
    metavar="VEHICLE...",
    shell_complete=complete_vehicle,
)
@WAIT
@with_place
@AS_JSON
def fleet_rotate(
    *, vehicle_ids: tuple[str, ...], wait_s: float, place: Place, as_json: bool
) -> None:
    """Have vehicles get a new key and certificate."""
    from contract.jobs import JobDocument, OperationName  # noqa: PLC0415  slow

    document = JobDocument(OperationName.ROTATE.value, {})
    create_job(document, vehicle_ids, place=place, wait_s=wait_s, as_json=as_json)


def _describe_board(board: AllowedVehicle, *, as_json: bool) -> None:
    if as_json:
        print_json({**allowed_json(board), "certificates": []})
        return
    state = "is blocked" if board.blocked else "has not registered yet"
    print(f"{board.vehicle_id} has no certificate: its board {board.serial_number} {state}")


def _tell(*, as_json: bool, **facts: str) -> None:
    if as_json:
        print_json(facts)
    else:
        print(f"{facts['state']}: {facts['vehicle_id']}")
