"""``milepost-cloud fleet claim``: certificates that can be used for provisioning alone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from cloud.cli.common import AS_JSON, DATA, print_json
from cloud.cli.fleet.common import certificate_json, fleet_control
from cloud.cli.registry import check_key_folder, write_credentials

CLAIM_DAYS: Final = 90

CREATE_EPILOG = """\b
Examples:
  milepost-cloud fleet claim create --out claim
  milepost-cloud fleet claim create --name spring-batch --days 30 --out claim

\b
Copy ca.pem, certificate.pem and key.pem to /etc/milepost/claim on each board, or into the
image of its SD card. Whoever has the key can register the boards of the allow list, and
nothing else. The key is not kept here.
"""


@click.group()
def claim() -> None:
    """Claim certificates: what a new board shows to get its own."""


@claim.command("create", epilog=CREATE_EPILOG)
@DATA
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for ca.pem, certificate.pem and key.pem.",
)
@click.option("--name", default="claim", show_default=True, help="What you call it.")
@click.option("--days", type=int, default=CLAIM_DAYS, show_default=True, help="Validity.")
@click.option("--force", is_flag=True, help="Replace a key that is in the folder already.")
@AS_JSON
def claim_create(
    *, data_dir: Path, out: Path, name: str, days: int, force: bool, as_json: bool
) -> None:
    """Make a claim certificate and its key."""
    with fleet_control(data_dir, create=True) as fleet:
        check_key_folder(out, force=force)
        made = fleet.create_claim(name, days)
        write_credentials(made.credentials, out)
    if as_json:
        print_json(certificate_json(made.certificate))
        return
    print(f"{out}: ca.pem, certificate.pem and key.pem of claim {name!r}")
    print(f"certificate {made.certificate.certificate_id}")
    print(f"valid until {made.certificate.not_after:%Y-%m-%d %H:%M} UTC ({days} days)")
    print("Next: milepost-cloud fleet allow add SERIAL_NUMBER VEHICLE_ID")
