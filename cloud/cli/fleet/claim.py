"""``milepost-cloud fleet claim``: certificates that can be used for provisioning alone."""

from __future__ import annotations

from pathlib import Path

import click

from cloud.cli.common import AS_JSON, print_json, print_table
from cloud.cli.fleet.common import (
    SHORT_ID,
    YES,
    certificate_json,
    certificate_state,
    confirm,
    day,
    fleet_control,
    now,
)
from cloud.cli.place import Place, with_place
from cloud.cli.registry import check_key_folder, write_credentials

EPILOG = """\b
Examples:
  milepost-cloud fleet claim create spring-batch --out claim
  milepost-cloud fleet claim list
  milepost-cloud fleet claim revoke spring-batch    # when the boards are provisioned
"""

CREATE_EPILOG = """\b
Examples:
  milepost-cloud fleet claim create --out claim
  milepost-cloud fleet claim create spring-batch --days 30 --out claim
  milepost-cloud fleet claim create --out claim --aws --region eu-central-1

\b
Copy ca.pem, certificate.pem and key.pem to /etc/milepost/claim on each board, or into the
image of its SD card. Whoever has the key can register the boards of the allow list, and
nothing else. The key is not kept here.
"""

LIST_EPILOG = """\b
Examples:
  milepost-cloud fleet claim list
  milepost-cloud fleet claim list --json
"""

REVOKE_EPILOG = """\b
Examples:
  milepost-cloud fleet claim revoke spring-batch
  milepost-cloud fleet claim revoke 5f0c6a2b… --yes    # the whole id, of `claim list --json`

\b
Boards that have their own certificate already stay as they are.
"""


@click.group(epilog=EPILOG)
def claim() -> None:
    """Claim certificates: what a new board shows to get its own."""


@claim.command("create", epilog=CREATE_EPILOG)
@click.argument("name", default="claim")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for ca.pem, certificate.pem and key.pem.",
)
@click.option(
    "--days",
    type=int,
    help="Validity on one machine, 90 without it. AWS IoT's own are valid to the end of 2049.",
)
@click.option("--force", is_flag=True, help="Replace a key that is in the folder already.")
@with_place
@AS_JSON
def claim_create(
    *, out: Path, name: str, days: int | None, force: bool, place: Place, as_json: bool
) -> None:
    """Make a claim certificate and its key; NAME is for you to know it by."""
    with fleet_control(place, create=True) as fleet:
        check_key_folder(out, force=force)
        made = fleet.create_claim(name, days)
        write_credentials(made.credentials, out)
    if as_json:
        print_json(certificate_json(made.certificate))
        return
    print(f"{out}: ca.pem, certificate.pem and key.pem of claim {name!r}")
    print(f"certificate {made.certificate.certificate_id}")
    print(f"valid until {made.certificate.not_after:%Y-%m-%d %H:%M} UTC")
    print("Next: milepost-cloud fleet allow add SERIAL_NUMBER VEHICLE_ID")


@claim.command("list", epilog=LIST_EPILOG)
@with_place
@AS_JSON
def claim_list(*, place: Place, as_json: bool) -> None:
    """Show every claim certificate."""
    with fleet_control(place) as fleet:
        found = fleet.claims()
    if as_json:
        print_json([certificate_json(one) for one in found])
        return
    moment = now()
    rows = [
        {
            "claim": one.claim_name,
            "certificate": one.certificate_id[:SHORT_ID],
            "state": certificate_state(one, moment),
            "made": day(one.created_at),
            "valid until": day(one.not_after),
        }
        for one in found
    ]
    print_table(rows, "there is no claim certificate; `fleet claim create` makes one")


@claim.command("revoke", epilog=REVOKE_EPILOG)
@click.argument("name_or_id", metavar="NAME")
@YES
@with_place
@AS_JSON
def claim_revoke(*, name_or_id: str, yes: bool, place: Place, as_json: bool) -> None:
    """Revoke the claim certificates called NAME, or the one with this id, for good."""
    with fleet_control(place) as fleet:
        confirm(f"Revoke claim {name_or_id!r}? No board can use it any more.", yes=yes)
        revoked = fleet.revoke_claim(name_or_id)
    if as_json:
        print_json([certificate_json(one) for one in revoked])
        return
    for one in revoked:
        print(f"revoked: claim {one.claim_name!r}, certificate {one.certificate_id}")
