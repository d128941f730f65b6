"""``milepost-cloud shadow``: change a vehicle's settings, here and on AWS."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cloud.cli.common import AS_JSON, DATA, print_json, print_table
from cloud.cli.database import opened_database
from cloud.cli.shadow_view import (
    KeyState,
    Row,
    asked_for,
    assignments,
    concerns,
    flat,
    known_key,
    nested,
    rows,
)
from cloud.cli.vehicles import check_vehicle
from cloud.errors import ShadowError

if TYPE_CHECKING:
    from cloud.shadow.ports import Shadows

POLL_S: Final = 0.5

GET_EPILOG = """\b
Examples:
  milepost-cloud shadow get --vehicle van-1
  milepost-cloud shadow get --vehicle van-1 --json
  AWS_REGION=eu-central-1 milepost-cloud shadow get --aws --vehicle van-1
"""

SET_EPILOG = """\b
Examples:
  milepost-cloud shadow set --vehicle van-1 sampling.normal.interval_s=0.5
  milepost-cloud shadow set --vehicle van-1 delivery.batch_s=10 outbox.max_mb=64 --wait 30
  milepost-cloud shadow set --vehicle van-1 sampling.normal.interval_s=null   # the file's again

\b
docs/configuration.md marks the keys that a vehicle lets be changed. The vehicle checks the
values, applies them without a restart, and reports what it did; a vehicle that is not
connected does so when it connects.
"""

DIFF_EPILOG = """\b
Examples:
  milepost-cloud shadow diff --vehicle van-1 && echo "all applied"

\b
Exit code 0: everything asked for is applied; 1: something is not.
"""

DELETE_EPILOG = """\b
Examples:
  milepost-cloud shadow delete --vehicle van-1
"""

VEHICLE = click.option("--vehicle", "vehicle_id", required=True, help="The vehicle_id.")
AWS = click.option(
    "--aws",
    is_flag=True,
    help="Ask AWS IoT Core; account and region come from the environment (AWS_PROFILE, "
    "AWS_REGION). Without it, the one-machine cloud in --data.",
)


@click.group()
def shadow() -> None:
    """Settings of vehicles: what is asked for, what they use, what they refuse."""


@shadow.command("get", epilog=GET_EPILOG)
@VEHICLE
@DATA
@AWS
@AS_JSON
def shadow_get(*, vehicle_id: str, data_dir: Path, aws: bool, as_json: bool) -> None:
    """Show a vehicle's settings, and what became of those that were asked for."""
    with _shadows(data_dir, aws=aws) as shadows:
        document = shadows.get(vehicle_id)
    if as_json:
        print_json(document)
        return
    _print_rows(rows(document), "the vehicle has reported nothing yet")
    _print_refusals(document)


@shadow.command("diff", epilog=DIFF_EPILOG)
@VEHICLE
@DATA
@AWS
@AS_JSON
def shadow_diff(*, vehicle_id: str, data_dir: Path, aws: bool, as_json: bool) -> None:
    """Show what was asked for and is not applied."""
    with _shadows(data_dir, aws=aws) as shadows:
        document = shadows.get(vehicle_id)
    open_rows = [row for row in rows(document) if row.state in {KeyState.WAITING, KeyState.REFUSED}]
    if as_json:
        print_json([row._asdict() for row in open_rows])
    else:
        _print_rows(open_rows, "everything that was asked for is applied")
        _print_refusals(document)
    sys.exit(1 if open_rows else 0)


@shadow.command("set", epilog=SET_EPILOG)
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE...")
@VEHICLE
@DATA
@AWS
@click.option(
    "--if-version",
    type=click.IntRange(0),
    help="Only if the shadow still has this version; `get --json` tells it.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=0,
    help="Seconds to wait for the vehicle's answer; exit code 1 if it refuses or none comes.",
)
def shadow_set(
    *,
    changes: tuple[str, ...],
    vehicle_id: str,
    data_dir: Path,
    aws: bool,
    if_version: int | None,
    wait_s: float,
) -> None:
    """Ask a vehicle to use other settings; KEY=null returns to its config file's."""
    wanted = assignments(changes)
    with _shadows(data_dir, aws=aws) as shadows:
        before = _existing(shadows, vehicle_id)
        if before is None and not aws:
            check_vehicle(data_dir, vehicle_id)
        for key in wanted:
            if before and (guess := known_key(before, key)):
                print(f"{vehicle_id} reports no key {key}{guess}", file=sys.stderr)
        if before and asked_for(before, wanted):
            version = 0
            print(f"{vehicle_id}: asked for already")
        else:
            request: dict[str, Any] = {"state": {"desired": nested(wanted)}}
            if if_version is not None:
                request["version"] = if_version
            version = shadows.update(vehicle_id, request)["version"]
            print(f"{vehicle_id}: asked for, version {version}")
        if not wait_s:
            print(f"See what became of it: milepost-cloud shadow get --vehicle {vehicle_id}")
            return
        _wait(lambda: shadows.get(vehicle_id), set(wanted), version, wait_s)


@shadow.command("delete", epilog=DELETE_EPILOG)
@VEHICLE
@DATA
@AWS
def shadow_delete(*, vehicle_id: str, data_dir: Path, aws: bool) -> None:
    """Delete a vehicle's shadow; at its next connection it returns to its config file."""
    with _shadows(data_dir, aws=aws) as shadows:
        shadows.delete(vehicle_id)
    print(f"{vehicle_id}: deleted")


def _wait(get: Callable[[], dict[str, Any]], keys: set[str], version: int, wait_s: float) -> None:
    """Until the vehicle has answered to this version; ends the command."""
    from cloud.clock import SystemClock  # noqa: PLC0415  with the others

    clock = SystemClock()
    deadline_s = clock.monotonic_s() + wait_s
    print(f"Waiting up to {wait_s:g} s for the vehicle.", flush=True)
    while True:
        document = get()
        reported = document.get("state", {}).get("reported", {})
        mine = [row for row in rows(document) if concerns(row, keys)]
        answered = reported.get("desired_version", 0) >= version
        if answered or clock.monotonic_s() >= deadline_s:
            break
        clock.sleep_s(POLL_S)
    _print_rows(mine, "nothing is asked for any more")
    if not answered:
        raise ShadowError(
            404,
            "the vehicle has not answered",
            hint="It applies this when it connects; `milepost-cloud vehicles` shows its state.",
        )
    _print_refusals(document)
    sys.exit(1 if any(row.state is KeyState.REFUSED for row in mine) else 0)


def _print_rows(shown: list[Row], empty: str) -> None:
    print_table(
        [
            {
                "key": row.key,
                "desired": "-" if row.desired is None else json.dumps(row.desired),
                "vehicle": "-" if row.reported is None else json.dumps(row.reported),
                "state": row.state.value,
            }
            for row in shown
        ],
        empty,
    )


def _print_refusals(document: dict[str, Any]) -> None:
    refused = document.get("state", {}).get("reported", {}).get("refused", {})
    for section, reason in flat(refused).items():
        print(f"refused, {section}: {reason}")


def _existing(shadows: Shadows, vehicle_id: str) -> dict[str, Any] | None:
    try:
        return shadows.get(vehicle_id)
    except ShadowError as error:
        if error.code == 404:
            return None
        raise


@contextmanager
def _shadows(data_dir: Path, *, aws: bool) -> Iterator[Shadows]:
    if aws:
        from cloud.stores.aws_shadows import aws_shadows  # noqa: PLC0415  slow

        yield aws_shadows()
        return
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next
    from cloud.stores.sqlite_shadows import SqliteShadows  # noqa: PLC0415  slow

    with opened_database(data_dir) as database:
        yield SqliteShadows(database, SystemClock())
