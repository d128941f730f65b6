"""``milepost-cloud fleet allow``: the allow list of boards."""

from __future__ import annotations

from pathlib import Path

import click

from cloud.cli.common import AS_JSON, DATA, print_json
from cloud.cli.fleet.common import allowed_json, fleet_control

ADD_EPILOG = """\b
Examples:
  milepost-cloud fleet allow add 10000000a1b2c3d4 van-1
  milepost-cloud fleet allow add 10000000a1b2c3d4 van-1 --type electric_van

\b
The serial number is the board's: `milepost-agent provision --dry-run` shows it, and on a
Raspberry Pi so does /proc/device-tree/serial-number.
"""


@click.group()
def allow() -> None:
    """The allow list: boards that may register, and as which vehicle."""


@allow.command("add", epilog=ADD_EPILOG)
@click.argument("serial_number")
@click.argument("vehicle_id")
@click.option("--type", "vehicle_type", default="", help="Vehicle type, e.g. electric_van.")
@DATA
@AS_JSON
def allow_add(
    *, serial_number: str, vehicle_id: str, vehicle_type: str, data_dir: Path, as_json: bool
) -> None:
    """Let the board SERIAL_NUMBER register, once, as VEHICLE_ID."""
    from cloud.provisioning.allow_list import allowed_vehicle  # noqa: PLC0415  slow

    one = allowed_vehicle(serial_number, vehicle_id, vehicle_type)
    with fleet_control(data_dir, create=True) as fleet:
        fleet.allow([one])
    if as_json:
        print_json(allowed_json(one))
    else:
        print(f"{serial_number} may register as {vehicle_id}")
