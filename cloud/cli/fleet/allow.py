"""``milepost-cloud fleet allow``: the allow list of boards."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cloud.cli.common import AS_JSON, print_json, print_table
from cloud.cli.fleet.common import (
    YES,
    allowed_json,
    allowed_state,
    confirm,
    day,
    fleet_control,
)
from cloud.cli.place import Place, with_place
from cloud.errors import ConfigError

EPILOG = """\b
Examples:
  milepost-cloud fleet allow add 10000000a1b2c3d4 van-1
  milepost-cloud fleet allow import boards.csv
  milepost-cloud fleet allow list
"""

ADD_EPILOG = """\b
Examples:
  milepost-cloud fleet allow add 10000000a1b2c3d4 van-1
  milepost-cloud fleet allow add 10000000a1b2c3d4 van-1 --type electric_van

\b
The serial number is the board's: `milepost-agent provision --dry-run` shows it, and on a
Raspberry Pi so does /proc/device-tree/serial-number.
"""

IMPORT_EPILOG = """\b
Examples:
  milepost-cloud fleet allow import boards.csv
  milepost-cloud fleet allow import - < boards.csv

\b
boards.csv:
  serial_number,vehicle_id,vehicle_type
  10000000a1b2c3d4,van-1,electric_van
  10000000e5f6a7b8,van-2,electric_van

\b
All of its lines are taken, or none. Lines that the list has already are no fault, so the
same file may be imported again when it has grown.
"""

LIST_EPILOG = """\b
Examples:
  milepost-cloud fleet allow list
  milepost-cloud fleet allow list --json

\b
waiting: the board may register. registered: it did, and may not again. blocked: neither.
"""

REMOVE_EPILOG = """\b
Examples:
  milepost-cloud fleet allow remove 10000000a1b2c3d4

\b
A vehicle that is registered keeps its certificate: `fleet revoke` or `fleet block` is for
that. Removed and added again, a board may register once more.
"""


@click.group(epilog=EPILOG)
def allow() -> None:
    """The allow list: boards that may register, and as which vehicle."""


@allow.command("add", epilog=ADD_EPILOG)
@click.argument("serial_number")
@click.argument("vehicle_id")
@click.option("--type", "vehicle_type", default="", help="Vehicle type, e.g. electric_van.")
@with_place
@AS_JSON
def allow_add(
    *, serial_number: str, vehicle_id: str, vehicle_type: str, place: Place, as_json: bool
) -> None:
    """Let the board SERIAL_NUMBER register, once, as VEHICLE_ID."""
    from cloud.provisioning.allow_list import allowed_vehicle  # noqa: PLC0415  slow

    one = allowed_vehicle(serial_number, vehicle_id, vehicle_type)
    with fleet_control(place, create=True) as fleet:
        fleet.allow([one])
    if as_json:
        print_json(allowed_json(one))
    else:
        print(f"{serial_number} may register as {vehicle_id}")


@allow.command("import", epilog=IMPORT_EPILOG)
@click.argument(
    "file", metavar="FILE.csv", type=click.Path(allow_dash=True, dir_okay=False, path_type=Path)
)
@with_place
@AS_JSON
def allow_import(*, file: Path, place: Place, as_json: bool) -> None:
    """Add every line of a CSV file, or none if one of them cannot be taken."""
    from cloud.provisioning.allow_list import parse_csv  # noqa: PLC0415  slow

    name = "standard input" if str(file) == "-" else str(file)
    text = _read(file, name)
    with fleet_control(place, create=True) as fleet:
        asked = parse_csv(text, fleet.allowed(), name)
        fleet.allow(asked.new)
    if asked.ignored_columns:
        print(f"left alone: column {', '.join(asked.ignored_columns)}", file=sys.stderr)
    if as_json:
        print_json({"added": [allowed_json(one) for one in asked.new], "known": asked.known})
    else:
        print(f"added: {len(asked.new)}, on the list already: {asked.known}")


@allow.command("list", epilog=LIST_EPILOG)
@with_place
@AS_JSON
def allow_list(*, place: Place, as_json: bool) -> None:
    """Show the allow list."""
    with fleet_control(place) as fleet:
        found = fleet.allowed()
    if as_json:
        print_json([allowed_json(one) for one in found])
        return
    rows = [
        {
            "serial number": one.serial_number,
            "vehicle": one.vehicle_id,
            "type": one.vehicle_type or None,
            "state": allowed_state(one),
            "registered": day(one.registered_at),
        }
        for one in found
    ]
    print_table(rows, "the allow list is empty; `fleet allow add` or `fleet allow import` fills it")


@allow.command("remove", epilog=REMOVE_EPILOG)
@click.argument("serial_number")
@YES
@with_place
@AS_JSON
def allow_remove(*, serial_number: str, yes: bool, place: Place, as_json: bool) -> None:
    """Take the board SERIAL_NUMBER off the allow list."""
    with fleet_control(place) as fleet:
        known = {one.serial_number: one for one in fleet.allowed()}
        one = known.get(serial_number)
        if one is not None and one.certificate_id is not None:
            confirm(
                f"{serial_number} is registered as {one.vehicle_id}. Added again, it could "
                "register once more. Remove it?",
                yes=yes,
            )
        removed = fleet.disallow(serial_number)
    if as_json:
        print_json(allowed_json(removed))
    else:
        print(f"removed: {serial_number} ({removed.vehicle_id})")


def _read(file: Path, name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{name}: no UTF-8, byte {error.start}", hint="Save it as CSV in UTF-8."
        ) from error
