"""``milepost-cloud certs``: certificates of vehicles."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud.cli.common import AS_JSON, DATA, print_json, print_table
from cloud.cli.registry import check_key_folder, opened_registry, write_credentials

if TYPE_CHECKING:
    from cloud.provisioning.ports import Certificate

ISSUE_EPILOG = """\b
Examples:
  milepost-cloud certs issue van-1 --out van-1-identity
  milepost-cloud certs issue van-1 --out van-1-identity --days 90

\b
Copy ca.pem, certificate.pem and key.pem to the vehicle. The key is not kept here.
"""

REVOKE_EPILOG = """\b
Examples:
  milepost-cloud certs revoke van-1
  milepost-cloud certs revoke 5f0c6a2b9d3e   # one serial number of `certs list`

\b
A running cloud disconnects the vehicle within seconds.
"""

LIST_EPILOG = """\b
Examples:
  milepost-cloud certs list
  milepost-cloud certs list --json
"""


@click.group()
def certs() -> None:
    """Certificates of vehicles: issue by hand, list, revoke. See also `fleet`."""


@certs.command("issue", epilog=ISSUE_EPILOG)
@click.argument("vehicle_id")
@DATA
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for ca.pem, certificate.pem and key.pem.",
)
@click.option("--days", type=int, default=365, show_default=True, help="Validity.")
@click.option("--force", is_flag=True, help="Replace a key that is in the folder already.")
def certs_issue(vehicle_id: str, *, data_dir: Path, out: Path, days: int, force: bool) -> None:
    """Make a key and certificate for VEHICLE_ID."""
    with opened_registry(data_dir, create=True) as here:
        check_key_folder(out, force=force)
        credentials = here.authority.issue(vehicle_id, here.clock.utc(), days)
        write_credentials(credentials, out)
        here.registry.add_vehicle(vehicle_id, credentials.certificate_pem)
    print(f"{out}: ca.pem, certificate.pem and key.pem of {vehicle_id}, valid for {days} days")


@certs.command("list", epilog=LIST_EPILOG)
@DATA
@AS_JSON
def certs_list(*, data_dir: Path, as_json: bool) -> None:
    """Show every certificate of a vehicle."""
    with opened_registry(data_dir) as here:
        found = here.registry.certificates("thing NOTNULL")
        now = here.clock.utc()
    rows = [
        {
            "vehicle_id": one.thing,
            "serial": one.serial,
            "not_before": one.not_before.isoformat(),
            "not_after": one.not_after.isoformat(),
            "state": _state(one, now),
        }
        for one in sorted(found, key=lambda one: (one.thing or "", one.not_before))
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, "no certificate was issued yet")


@certs.command("revoke", epilog=REVOKE_EPILOG)
@click.argument("vehicle_or_serial")
@DATA
def certs_revoke(vehicle_or_serial: str, *, data_dir: Path) -> None:
    """Revoke every certificate of a vehicle, or the one with this serial number."""
    with opened_registry(data_dir) as here:
        for one in here.registry.revoke(vehicle_or_serial):
            print(f"revoked: {one.thing} {one.serial}")


def _state(one: Certificate, now: datetime) -> str:
    if one.status != "ACTIVE":
        return one.status.lower()
    return "expired" if one.not_after < now else "valid"
