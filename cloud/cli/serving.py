"""``milepost-cloud serve``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import click

from cloud.cli.common import DATA

PORT: Final = click.IntRange(0, 65535)
INPUT_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)

SERVE_EPILOG = """\b
Examples:
  milepost-cloud serve
  milepost-cloud serve --data /var/lib/milepost-cloud --host 0.0.0.0 --name telemetry.example.com
  milepost-cloud serve --mqtt-port 0 --http-port 0   # free ports; serve.json names them
  milepost-cloud serve --fleet fleet.toml --areas areas.geojson

\b
A vehicle connects by MQTT 3.1.1 over TLS with a certificate of this cloud:
  milepost-cloud certs issue van-1 --out van-1-identity
"""


@click.command(epilog=SERVE_EPILOG)
@DATA
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on for vehicles, which need a certificate.",
)
@click.option(
    "--map-host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on for the map, which has no login.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="DNS name or address that vehicles are given, if it is not this machine's host name: "
    "the server's certificate must say it. Repeatable.",
)
@click.option("--mqtt-port", type=PORT, default=8883, show_default=True, help="0 takes a free one.")
@click.option("--http-port", type=PORT, default=8080, show_default=True, help="0 takes a free one.")
@click.option(
    "--files-port",
    type=PORT,
    help="HTTPS for files of jobs. Default: the one after --mqtt-port, or a free one where that "
    "is 0.",
)
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
    map_host: str,
    names: tuple[str, ...],
    mqtt_port: int,
    http_port: int,
    files_port: int | None,
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
        map_host=map_host,
        names=names,
        mqtt_port=mqtt_port,
        http_port=http_port,
        files_port=files_port,
        fleet_file=fleet_file,
        areas_file=areas_file,
        tiles=tiles,
        open_browser=not no_browser,
    )
    run(settings, lambda line: print(line, flush=True))
