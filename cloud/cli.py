"""``milepost-cloud``: the command line of the cloud.

Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration. Everything slow is imported
by the command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class

from cloud.errors import CloudError, ConfigError

if TYPE_CHECKING:
    from cloud.pki import Authority
    from cloud.stores.queries import Queries

PROGRAM = "milepost-cloud"
DATA = click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("milepost-data"),
    show_default=True,
    help="Data directory of the one-machine cloud.",
)
PORT = click.IntRange(0, 65535)
INPUT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

MAIN_EPILOG = """\b
Examples:
  milepost-cloud serve
  milepost-cloud certs issue van-1 --out van-1-identity
  milepost-cloud report --json
"""

SERVE_EPILOG = """\b
Examples:
  milepost-cloud serve
  milepost-cloud serve --data /var/lib/milepost-cloud --host 0.0.0.0 --no-browser
  milepost-cloud serve --mqtt-port 0 --http-port 0   # free ports; serve.json names them
  milepost-cloud serve --fleet fleet.toml --areas areas.geojson

\b
A vehicle connects by MQTT 3.1.1 over TLS with a certificate of this cloud:
  milepost-cloud certs issue van-1 --out van-1-identity
"""

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
"""

LETTERS_EPILOG = """\b
Examples:
  milepost-cloud dead-letters
  milepost-cloud dead-letters --limit 5 --json
"""

COMPLETION_EPILOG = """\b
Examples:
  milepost-cloud completion bash > ~/.local/share/bash-completion/completions/milepost-cloud
  milepost-cloud completion zsh > ~/.zfunc/_milepost-cloud
  milepost-cloud completion fish > ~/.config/fish/completions/milepost-cloud.fish
"""


@click.group(epilog=MAIN_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="milepost", prog_name=PROGRAM)
def cli() -> None:
    """Milepost's cloud on one machine, and what it has stored."""


@cli.command(epilog=SERVE_EPILOG)
@DATA
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--mqtt-port", type=PORT, default=8883, show_default=True, help="0 takes a free one.")
@click.option("--http-port", type=PORT, default=8080, show_default=True, help="0 takes a free one.")
@click.option("--fleet", "fleet_file", type=INPUT_FILE, help="TOML file that names the vehicles.")
@click.option("--areas", "areas_file", type=INPUT_FILE, help="GeoJSON file of operating areas.")
@click.option(
    "--tiles/--no-tiles",
    default=True,
    show_default=True,
    help="Whether the map may load OpenStreetMap's tiles.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the map in a browser.")
def serve(
    *,
    data_dir: Path,
    host: str,
    mqtt_port: int,
    http_port: int,
    fleet_file: Path | None,
    areas_file: Path | None,
    tiles: bool,
    no_browser: bool,
) -> None:
    """Run broker, rules, functions, stores and live map until Ctrl-C."""
    from cloud.serve.serve import Settings  # noqa: PLC0415  slow
    from cloud.serve.serve import serve as run  # noqa: PLC0415  slow

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = Settings(
        data_dir=data_dir,
        host=host,
        mqtt_port=mqtt_port,
        http_port=http_port,
        fleet_file=fleet_file,
        areas_file=areas_file,
        tiles=tiles,
        open_browser=not no_browser,
    )
    run(settings, lambda line: print(line, flush=True))


@cli.group()
def certs() -> None:
    """Certificates of vehicles: issue, list, revoke."""


@certs.command("issue", epilog=ISSUE_EPILOG)
@click.argument("vehicle_id")
@DATA
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for ca.pem, certificate.pem and key.pem; files of these names are replaced.",
)
@click.option("--days", type=int, default=365, show_default=True, help="Validity.")
def certs_issue(vehicle_id: str, *, data_dir: Path, out: Path, days: int) -> None:
    """Make a key and certificate for VEHICLE_ID."""
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next

    authority = _authority(data_dir)
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
        _print_json(rows)
    else:
        _table(rows, "no certificate was issued yet")


@certs.command("revoke", epilog=REVOKE_EPILOG)
@click.argument("vehicle_or_serial")
@DATA
def certs_revoke(vehicle_or_serial: str, *, data_dir: Path) -> None:
    """Revoke every certificate of a vehicle, or the one with this serial number."""
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next

    authority = _authority(data_dir, create=False)
    for one in authority.revoke(vehicle_or_serial, SystemClock().utc()):
        print(f"revoked: {one.vehicle_id} {one.serial}")


@cli.command(epilog=REPORT_EPILOG)
@DATA
@AS_JSON
def report(*, data_dir: Path, as_json: bool) -> None:
    """The account of what arrived: samples, losses, duplicates, latency, alerts."""
    with _queries(data_dir) as queries:
        account = queries.report()
    if as_json:
        _print_json(account)
        return
    rows = [
        {
            "vehicle": one["vehicle_id"],
            "samples": one["samples_stored"],
            "events": one["events_stored"],
            "missing": sum(one["missing"].values()),
            "duplicated": one["samples_duplicated"],
            "bytes": one["bytes_received"],
            "state": one["state"],
            "backlog": one["backlog_messages"],
        }
        for one in account["vehicles"]
    ]
    _table(rows, "no vehicle has reported yet")
    latency = account["latency_ms"]
    figures = ", ".join(
        f"{name} {latency[name]:.0f} ms" for name in ("p50", "p95", "p99") if latency[name]
    )
    print(f"Latency to the stored position: {figures or 'none measured'}")
    is_open = sum(alert["resolved_at"] is None for alert in account["alerts"])
    print(f"Alerts: {len(account['alerts'])}, {is_open} of them open")
    print(f"Archive: {account['archive_rows']} rows. Dead letters: {account['dead_letters']}.")


@cli.command(epilog=VEHICLES_EPILOG)
@DATA
@AS_JSON
def vehicles(*, data_dir: Path, as_json: bool) -> None:
    """Every vehicle as it is now."""
    with _queries(data_dir) as queries:
        known = queries.vehicles()
    if as_json:
        _print_json(known)
        return
    rows = [
        {
            "vehicle": one["vehicle_id"],
            "state": one["state"],
            "mode": one["mode"],
            "backlog": one["backlog_messages"],
            "position": _place(one["position"]),
            "at": (one["position"] or {}).get("timestamp"),
            "alerts": len(one["open_alerts"]),
        }
        for one in known
    ]
    _table(rows, "no vehicle has reported yet")


@cli.command(epilog=HISTORY_EPILOG)
@DATA
@click.option("--vehicle", "vehicle_id", required=True, help="The vehicle_id.")
def history(*, data_dir: Path, vehicle_id: str) -> None:
    """What is stored of one vehicle, as JSON lines, by run and sequence."""
    with _queries(data_dir) as queries:
        for row in queries.history(vehicle_id):
            print(json.dumps(row))


@cli.command("dead-letters", epilog=LETTERS_EPILOG)
@DATA
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@AS_JSON
def dead_letters(*, data_dir: Path, limit: int, as_json: bool) -> None:
    """What could not be taken, with the reason, newest first."""
    with _queries(data_dir) as queries:
        letters = queries.dead_letters(limit)
    if as_json:
        _print_json(
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


@cli.command(epilog=COMPLETION_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"no completion for {shell}")
    print(kind(cli, {}, PROGRAM, "_MILEPOST_CLOUD_COMPLETE").source())


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit."""
    try:
        code = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(1)
    except CloudError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        if error.hint:
            print(f"{PROGRAM}: {error.hint}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except BrokenPipeError:
        sys.stderr.close()  # `milepost-cloud history | head` is no error
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


def _authority(data_dir: Path, *, create: bool = True) -> Authority:
    from cloud.clock import SystemClock  # noqa: PLC0415  with the next
    from cloud.pki import Authority  # noqa: PLC0415  slow

    if not create and not (data_dir / "pki" / "ca").is_dir():
        raise ConfigError(
            f"there is no certificate authority in {data_dir}",
            hint="give the directory that `milepost-cloud serve --data` uses",
        )
    return Authority.open_or_create(data_dir / "pki", SystemClock().utc())


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


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _table(rows: list[dict[str, Any]], empty: str) -> None:
    if not rows:
        print(empty)
        return
    texts = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(rows[0]))]
    for line in texts:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
