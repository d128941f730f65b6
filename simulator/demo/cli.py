"""``milepost-sim demo``: the command line."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from simulator.demo.cloud import is_free_port, require_free_port
from simulator.demo.outages import Outage, outage
from simulator.demo.plan import Plan, built_in_plan, plan_of
from simulator.demo.run import Demo, DemoOptions
from simulator.demo.screen import Screen
from simulator.demo.signals import is_synthetic, parse_signal
from simulator.durations import duration
from simulator.schedule import require_speed

FILE: Final = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
DEFAULT_PORT: Final = 8080
BUILT_IN_SPEED: Final = 5.0


@click.command(
    epilog="""\b
Examples:
  milepost-sim demo
  milepost-sim demo --outage 20s:30s --speed 10
  milepost-sim demo --trace drive.nmea --speed 10 --for 60s --report report.json
  milepost-sim demo --trace a.nmea --trace b.nmea --no-browser --port 0
  milepost-sim demo --can car.candump --dbc car.dbc --signal motion.speed_kmh=Speed
"""
)
@click.option(
    "--trace",
    "traces",
    type=FILE,
    multiple=True,
    help="NMEA log of a drive; repeatable: one vehicle each. Without any, the built-in "
    "drive is repeated until Ctrl-C.",
)
@click.option(
    "--can",
    "cans",
    type=FILE,
    multiple=True,
    help="candump log; the first belongs to the first trace, and so on. Needs --dbc, unless "
    "milepost-sim synth made it.",
)
@click.option("--dbc", "dbcs", type=FILE, multiple=True, help="DBC of the CAN logs; repeatable.")
@click.option(
    "--signal",
    "signals",
    multiple=True,
    metavar="FIELD=SIGNAL[*SCALE][?VALID]",
    help="Field of the contract that a CAN signal fills, times SCALE, while the signal VALID is "
    "not zero; e.g. location.lat=Latitude?PositionValid; repeatable. Signals that are not named "
    "come under their own names.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True, max=1000),
    help="Cover the route so many times as fast. [default: 1; 5 for the built-in drive]",
)
@click.option("--for", "duration_s", type=duration, help="End after this, e.g. 60s or 2m.")
@click.option(
    "--outage",
    "outages",
    type=outage,
    multiple=True,
    metavar="START:LENGTH",
    help="Cut the network to the broker, e.g. 20s:60s in real time from the drive's beginning; "
    "repeatable. START:LENGTH:FAULT takes any fault of milepost-sim network, e.g. "
    "20s:60s:half-open or 20s:60s:rate=1KB/s.",
)
@click.option("--loop/--no-loop", default=None, help="Repeat the logs. [default: built-in only]")
@click.option(
    "--max-gap",
    "max_gap_s",
    type=duration,
    help="Shorten longer pauses of the logs to this, in the logs' time.",
)
@click.option(
    "--areas",
    type=FILE,
    help="GeoJSON of operating areas and geofences. [default: the built-in drive's, or none]",
)
@click.option("--browser/--no-browser", default=True, help="Open the map.  [default: browser]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Of the map; 0 takes any. [default: {DEFAULT_PORT}, or any when that is taken]",
)
@click.option(
    "--tiles/--no-tiles",
    default=True,
    help="Street map from OpenStreetMap, or a plain grid and no word to the internet. "
    " [default: tiles]",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-data"),
    show_default=True,
    help="Where everything is kept; emptied of the demo before.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report there too (JSON). [default: DATA/report.json only]",
)
def demo(
    *,
    traces: tuple[Path, ...],
    cans: tuple[Path, ...],
    dbcs: tuple[Path, ...],
    signals: tuple[str, ...],
    speed: float | None,
    duration_s: float | None,
    outages: tuple[Outage, ...],
    loop: bool | None,
    max_gap_s: float | None,
    areas: Path | None,
    browser: bool,
    port: int | None,
    tiles: bool,
    data: Path,
    report: Path | None,
) -> None:
    """Run the whole system on this desk: vehicles, agents, cloud and a live map.

    A recorded drive is replayed to the real agent, which delivers it over mutual TLS to
    the one-machine cloud. At the end it is counted what was created, what was
    acknowledged and what is stored. Exit code 0: nothing was lost.
    """
    built_in = not traces and not cans
    _check(built_in=built_in, cans=cans, dbcs=dbcs, signals=signals)
    for one in outages:
        if duration_s is not None and one.start_s >= duration_s:
            raise click.BadParameter(
                f"begins after {one.start_s:g} s, but the run ends after {duration_s:g} s",
                param_hint="--outage",
            )
    if report is not None and not report.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {report.parent}", param_hint="--report")
    speed = speed if speed is not None else BUILT_IN_SPEED if built_in else 1.0
    require_speed(speed)
    plan = built_in_plan() if built_in else _plan(traces, cans, dbcs, signals)
    options = DemoOptions(
        plan=plan if areas is None else replace(plan, areas=areas),
        data=data,
        report=report,
        speed=speed,
        duration_s=duration_s,
        outages=outages,
        browser=browser and may_open_browser(),
        tiles=tiles,
        loop=built_in if loop is None else loop,
        http_port=_port(port),
        max_gap_s=max_gap_s,
    )
    with Screen() as screen:
        code = Demo(options, screen).run()
    sys.exit(code)


def may_open_browser() -> bool:
    """Whether there is a screen for one."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _check(
    *, built_in: bool, cans: tuple[Path, ...], dbcs: tuple[Path, ...], signals: tuple[str, ...]
) -> None:
    if not dbcs and not all(map(is_synthetic, cans)):
        raise click.UsageError("--can needs the DBC that describes the bus: give --dbc FILE")
    if not cans and (dbcs or signals):
        needless = "--dbc" if dbcs else "--signal"
        where = "; the built-in drive has its own" if built_in else ""
        raise click.UsageError(f"{needless} belongs to a CAN log: give --can FILE{where}")


def _plan(
    traces: tuple[Path, ...],
    cans: tuple[Path, ...],
    dbcs: tuple[Path, ...],
    signals: tuple[str, ...],
) -> Plan:
    try:
        wanted = dict(parse_signal(text) for text in signals)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--signal") from error
    return plan_of(traces, cans, dbcs, wanted)


def _port(port: int | None) -> int:
    if port is None:
        return DEFAULT_PORT if is_free_port(DEFAULT_PORT) else 0
    require_free_port(port)
    return port
