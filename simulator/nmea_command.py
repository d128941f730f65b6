"""``milepost-sim nmea``: a receiver on a serial port."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from simulator.gpsd_server import Begin, Stamp
from simulator.nmea_player import NmeaPlayer
from simulator.progress import ProgressBars
from simulator.receiver_log import read_receiver_log
from simulator.schedule import require_speed
from simulator.stopping import stop_on_signals

_REFRESH_S: Final = 0.2
_LAST_BYTES_S: Final = 0.5

EPILOG: Final = """\b
Examples:
  milepost-sim nmea drive.nmea --link /tmp/gps0
  milepost-sim nmea drive.nmea --baud 115200 --speed 10 --loop --link /tmp/gps0
  milepost-sim nmea ublox.nmea --baud 4800 --stamp original --begin at-once

\b
Read it with the agent:
  [gps]
  source = "serial"
  [gps.serial]
  device = "/tmp/gps0"

\b
With gpsd, which leaves such a port at the 38400 baud that the kernel gives it:
  milepost-sim nmea drive.nmea --baud 38400 --link /tmp/gps0
  gpsd -N -n -b -S 2948 /tmp/gps0

\b
Or by hand; at another baud rate there is only noise, as on a real line:
  stty -F /tmp/gps0 raw 9600 && cat /tmp/gps0

\b
Unplug it: stop the command. Plug it in again: start it with the same --link.
"""


@click.command(epilog=EPILOG)
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--baud",
    type=click.IntRange(300, 4_000_000),
    default=9_600,
    show_default=True,
    help="Bits per second; ten make a byte.",
)
@click.option(
    "--link",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A name for the port, e.g. /tmp/gps0; without it the one that the kernel gives.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times as fast as recorded; the line gets as much faster.",
)
@click.option(
    "--stamp",
    type=click.Choice([stamp.value for stamp in Stamp]),
    default=Stamp.PRESENT.value,
    show_default=True,
    help="Times and dates in the sentences: as in the log, or the moment of sending.",
)
@click.option(
    "--begin",
    type=click.Choice([begin.value for begin in Begin]),
    default=Begin.FIRST_WATCHER.value,
    show_default=True,
    help="Wait until a program opens the port, or go at once; unread bytes are lost.",
)
@click.option(
    "--max-gap",
    "max_gap_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Shorten longer pauses of the log to this, in the log's time.",
)
@click.option("--loop", is_flag=True, help="Start again at the end, until Ctrl-C.")
def nmea(
    *,
    log: Path,
    baud: int,
    link: Path | None,
    speed: float,
    stamp: str,
    begin: str,
    max_gap_s: float | None,
    loop: bool,
) -> None:
    """Replay an NMEA log, to the byte, on a serial port that the kernel makes up.

    Bad checksums, vendors' sentences and garbage go over the line as they were recorded.
    """
    try:
        require_speed(speed)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from error
    player = NmeaPlayer(
        read_receiver_log(log),
        baud=baud,
        link=link,
        speed=speed,
        stamp=Stamp(stamp),
        begin=Begin(begin),
        max_gap_s=max_gap_s,
        loop=loop,
    )
    if player.falls_behind:
        click.echo(
            f"{baud} baud carry {baud // 10} bytes/s, this log has up to "
            f"{player.log.longest_burst_bytes} every {player.log.interval_s:g} s: it falls behind",
            err=True,
        )
    player.start()
    try:
        with stop_on_signals() as stopping, ProgressBars() as bars:
            click.echo(f"NMEA at {baud} baud on {player.line.port}")
            bars.track("GPS", lambda: player.progress, lambda: f"{player.bursts_sent} epochs")
            while not (stopping.is_set() or player.finished.is_set()):
                player.finished.wait(_REFRESH_S)
                bars.refresh()
            # what the reader has not taken yet is gone with the port
            stopping.wait(_LAST_BYTES_S)
    finally:
        player.stop()
    lost = f", {player.line.bytes_lost} lost that nobody read" if player.line.bytes_lost else ""
    click.echo(f"{player.bursts_sent} epochs, {player.line.bytes_sent} bytes sent{lost}")
