"""What is stored: ``report``, ``vehicles``, ``history`` and ``dead-letters``."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloud.cli.common import AS_JSON, DATA, print_json, print_table
from cloud.errors import ConfigError

if TYPE_CHECKING:
    from cloud.stores.queries import Queries

REPORT_EPILOG = """\b
Examples:
  milepost-cloud report
  milepost-cloud report --data /var/lib/milepost-cloud --json
"""

VEHICLES_EPILOG = """\b
Examples:
  milepost-cloud vehicles
  milepost-cloud vehicles --json
"""

HISTORY_EPILOG = """\b
Examples:
  milepost-cloud history --vehicle van-1
  milepost-cloud history --vehicle van-1 | tail -n 5
  milepost-cloud history --vehicle van-1 --full | jq .message.location
"""

LETTERS_EPILOG = """\b
Examples:
  milepost-cloud dead-letters
  milepost-cloud dead-letters --limit 5 --json
"""


@click.command(epilog=REPORT_EPILOG)
@DATA
@AS_JSON
def report(*, data_dir: Path, as_json: bool) -> None:
    """The account of what arrived: samples, losses, duplicates, latency, alerts."""
    with _queries(data_dir) as queries:
        account = queries.report()
    if as_json:
        print_json(account)
        return
    rows = [
        {
            "vehicle": one["vehicle_id"],
            "samples": one["samples_stored"],
            "events": one["events_stored"],
            "missing": one["account"]["missing"],
            "unexplained": one["account"]["unexplained"],
            "late": one["account"]["late"],
            "duplicated": one["account"]["duplicates"],
            "bytes": one["bytes_received"],
            "state": one["state"],
            "backlog": one["backlog_messages"],
        }
        for one in account["vehicles"]
    ]
    print_table(rows, "no vehicle has reported yet")
    latency = account["latency_ms"]
    figures = ", ".join(
        f"{name} {latency[name]:.0f} ms" for name in ("p50", "p95", "p99") if latency[name]
    )
    print(f"Latency to the stored position: {figures or 'none measured'}")
    is_open = sum(alert["resolved_at"] is None for alert in account["alerts"])
    print(f"Alerts: {len(account['alerts'])}, {is_open} of them open")
    print(f"Archive: {account['archive_rows']} rows. Dead letters: {account['dead_letters']}.")


@click.command(epilog=VEHICLES_EPILOG)
@DATA
@AS_JSON
def vehicles(*, data_dir: Path, as_json: bool) -> None:
    """Every vehicle as it is now."""
    with _queries(data_dir) as queries:
        known = queries.vehicles()
        for one in known:
            one["account"] = queries.account(one["vehicle_id"])
    if as_json:
        print_json(known)
        return
    rows = [
        {
            "vehicle": one["vehicle_id"],
            "state": one["state"],
            "mode": one["mode"],
            "backlog": one["backlog_messages"],
            "received": one["account"]["received"],
            "missing": one["account"]["missing"],
            "unexplained": one["account"]["unexplained"],
            "position": _place(one["position"]),
            "at": (one["position"] or {}).get("timestamp"),
            "alerts": len(one["open_alerts"]),
        }
        for one in known
    ]
    print_table(rows, "no vehicle has reported yet")


@click.command(epilog=HISTORY_EPILOG)
@DATA
@click.option("--vehicle", "vehicle_id", required=True, help="The vehicle_id.")
@click.option("--full", is_flag=True, help="With each the whole message, as it was sent.")
def history(*, data_dir: Path, vehicle_id: str, full: bool) -> None:
    """What is stored of one vehicle, as JSON lines, by run and sequence."""
    with _queries(data_dir) as queries:
        known = [one["vehicle_id"] for one in queries.vehicles()]
        if vehicle_id not in known:
            raise ConfigError(
                f"nothing is stored of a vehicle {vehicle_id!r}",
                hint=f"known: {', '.join(known) or 'none yet'}",
            )
        for row in queries.history(vehicle_id):
            if not full:
                del row["message"]
            print(json.dumps(row))


@click.command("dead-letters", epilog=LETTERS_EPILOG)
@DATA
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@AS_JSON
def dead_letters(*, data_dir: Path, limit: int, as_json: bool) -> None:
    """What could not be taken, with the reason, newest first."""
    with _queries(data_dir) as queries:
        letters = queries.dead_letters(limit)
    if as_json:
        print_json(
            [
                {
                    **{key: value for key, value in letter.items() if key != "payload"},
                    "base64_payload": base64.b64encode(letter["payload"]).decode(),
                }
                for letter in letters
            ]
        )
        return
    for letter in letters:
        print(f"{letter['received_at']} {letter['topic'] or '-'}")
        print(f"    {letter['field']}: {letter['reason']}")
        print(f"    {letter['payload'][:200]!r}")
    if not letters:
        print("no dead letters")


@contextmanager
def _queries(data_dir: Path) -> Iterator[Queries]:
    from cloud.stores.queries import Queries  # noqa: PLC0415  slow

    queries = Queries.open(data_dir)
    try:
        yield queries
    finally:
        queries.close()


def _place(position: dict[str, Any] | None) -> str | None:
    return None if position is None else f"{position['lat']:.5f},{position['lon']:.5f}"
