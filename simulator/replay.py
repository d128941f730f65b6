"""``milepost-sim replay``: one log or two, until they end or somebody stops it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from simulator.can_log import CanLogCounts
from simulator.can_player import CanPlayer
from simulator.gpsd_server import Begin, GpsdServer, Stamp
from simulator.progress import ProgressBars
from simulator.stopping import Stopping, stop_on_signals
from simulator.trace import Trace, read_trace

_REFRESH_S: Final = 0.2
_BAD_LINES_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What to replay and how; at least one of ``nmea`` and ``can``."""

    nmea: Path | None = None
    gpsd_host: str = "127.0.0.1"
    gpsd_port: int = 0
    stamp: Stamp = Stamp.PRESENT
    begin: Begin = Begin.FIRST_WATCHER
    can: Path | None = None
    interface: str = "udp_multicast"
    channel: str = "239.74.163.2"
    can_options: Mapping[str, Any] = field(default_factory=dict)
    log_channel: str | None = None
    speed: float = 1.0
    max_gap_s: float | None = None
    loop: bool = False


def parse_option(text: str) -> tuple[str, int | float | bool | str]:
    """``NAME=VALUE``, the value as the number or truth value that it looks like.

    Raises:
        ValueError: there is no name or no ``=``.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    if value in {"true", "false"}:
        return name, value == "true"
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def run_replay(wanted: Replay) -> None:
    """Replay, telling on stderr what happens; the address of the server on stdout.

    Raises:
        SimulatorError: a log, the port or the bus cannot be used, or the bus was lost.
    """
    server = _server(wanted)
    player = _player(wanted)
    try:
        with stop_on_signals() as stopping, ProgressBars() as bars:
            if server is not None:
                server.start()
                click.echo(f"gpsd protocol on {wanted.gpsd_host}:{server.port}")
                bars.track("GPS", lambda: server.progress, lambda: f"{server.fixes_replayed} fixes")
            if player is not None:
                if server is not None:
                    # Both logs tell of one drive: they start together.
                    _wait(stopping, server.begun, bars)
                if not stopping.is_set():
                    player.start()
                    _tell_can_log(player.surveyed)
                    bars.track(
                        "CAN", lambda: player.progress, lambda: f"{player.frames_sent} frames"
                    )
            for part in (server, player):
                if part is not None:
                    _wait(stopping, part.finished, bars)
    finally:
        for part in (player, server):
            if part is not None:
                part.stop()
    _sum_up(server, player)


def _server(wanted: Replay) -> GpsdServer | None:
    if wanted.nmea is None:
        return None
    trace = read_trace(wanted.nmea)
    _tell_trace(trace)
    return GpsdServer(
        trace,
        host=wanted.gpsd_host,
        port=wanted.gpsd_port,
        speed=wanted.speed,
        stamp=wanted.stamp,
        loop=wanted.loop,
        max_gap_s=wanted.max_gap_s,
        begin=wanted.begin,
    )


def _player(wanted: Replay) -> CanPlayer | None:
    if wanted.can is None:
        return None
    return CanPlayer(
        wanted.can,
        interface=wanted.interface,
        channel=wanted.channel,
        options=wanted.can_options,
        speed=wanted.speed,
        loop=wanted.loop,
        log_channel=wanted.log_channel,
        max_gap_s=wanted.max_gap_s,
    )


def _wait(stopping: Stopping, until: threading.Event, bars: ProgressBars) -> None:
    while not (stopping.is_set() or until.is_set()):
        until.wait(_REFRESH_S)
        bars.refresh()


def _tell_trace(trace: Trace) -> None:
    counts = trace.counts
    click.echo(
        f"{trace.name}: {counts.fixes} fixes and {counts.no_fix} epochs without one "
        f"in {trace.duration_s:.0f} s, {len(trace.gaps)} gaps",
        err=True,
    )
    for bad in trace.bad_lines[:_BAD_LINES_SHOWN]:
        click.echo(f"  line {bad.number} not used: {bad.reason}", err=True)
    _tell_more(counts.bad_lines)


def _tell_can_log(counts: CanLogCounts) -> None:
    click.echo(f"CAN log: {counts.frames} frames", err=True)
    for bad in counts.bad[:_BAD_LINES_SHOWN]:
        click.echo(f"  line {bad.number} not used: no candump frame: {bad.text}", err=True)
    _tell_more(counts.bad_lines)


def _tell_more(bad_lines: int) -> None:
    if bad_lines > _BAD_LINES_SHOWN:
        click.echo(f"  and {bad_lines - _BAD_LINES_SHOWN} more lines not used", err=True)


def _sum_up(server: GpsdServer | None, player: CanPlayer | None) -> None:
    if server is not None:
        click.echo(f"{server.fixes_replayed} fixes replayed")
    if player is not None:
        click.echo(f"{player.frames_sent} frames sent, {player.frames_refused} refused by the bus")
        if player.error is not None:
            raise player.error
