"""``milepost-cloud certs``: certificates of vehicles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud.cli.common import AS_JSON, DATA, print_json, print_table
from cloud.errors import ConfigError

if TYPE_CHECKING:
    from cloud.pki import Authority

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
    """Certificates of vehicles: issue, list, revoke."""


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
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next

    authority = _authority(data_dir)
    near = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        # told before a certificate is made that nobody would have the key of
        raise ConfigError(f"cannot write to {out}", hint="name another folder by --out")
    if (out / "key.pem").exists() and not force:
        raise ConfigError(
            f"{out} holds a key already, perhaps the only copy",
            hint="name another folder by --out, or replace it with --force",
        )
    credentials = authority.issue(vehicle_id, SystemClock().utc(), days)
    try:
        credentials.write_to(out)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {out}: {error.strerror or error}", hint="name another folder by --out"
        ) from error
    print(f"{out}: ca.pem, certificate.pem and key.pem of {vehicle_id}, valid for {days} days")


@certs.command("list", epilog=LIST_EPILOG)
@DATA
@AS_JSON
def certs_list(*, data_dir: Path, as_json: bool) -> None:
    """Show every certificate that was issued."""
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next

    issued = _authority(data_dir, create=False).issued()
    now = SystemClock().utc()
    rows = [
        {
            "vehicle_id": one.vehicle_id,
            "serial": one.serial,
            "not_before": one.not_before.isoformat(),
            "not_after": one.not_after.isoformat(),
            "state": "revoked"
            if one.revoked_at
            else ("expired" if one.not_after < now else "valid"),
        }
        for one in issued
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
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next

    authority = _authority(data_dir, create=False)
    for one in authority.revoke(vehicle_or_serial, SystemClock().utc()):
        print(f"revoked: {one.vehicle_id} {one.serial}")


def _authority(data_dir: Path, *, create: bool = True) -> Authority:
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next
    from cloud.pki import Authority  # noqa: PLC0415  slow

    if not create and not (data_dir / "pki" / "ca").is_dir():
        raise ConfigError(
            f"there is no certificate authority in {data_dir}",
            hint="give the directory that `milepost-cloud serve --data` uses",
        )
    return Authority.open_or_create(data_dir / "pki", SystemClock().utc())
