"""A gpsd-protocol TCP server that replays a trace: one timeline, any number of clients.

As with gpsd, a client says ``?WATCH={"enable":true,"json":true}`` and from then on gets
every report; ``?POLL;`` gives the newest at any time. A client that does not read is
dropped, never waited for. One thread serves everything.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from contextlib import suppress
from datetime import datetime
from enum import Enum
from typing import Final

from simulator import gpsd_reports as reports
from simulator.clock import WallClock, format_utc, monotonic_s, utc_now
from simulator.epoch import Epoch
from simulator.errors import ServerError
from simulator.gps_faults import CLEAR_SKY, Sky
from simulator.gpsd_client import Client
from simulator.gpsd_commands import BadCommand, Command
from simulator.schedule import Schedule
from simulator.trace import Trace

logger = logging.getLogger(__name__)

MAX_CLIENTS: Final = 64
_IDLE_WAIT_S: Final = 1.0
_SEND_BUFFER_BYTES: Final = 64 * 1024


class Stamp(Enum):
    """Which time the reports carry."""

    ORIGINAL = "original"
    """The receiver's, as logged; none where the log has no date."""

    PRESENT = "present"
    """The moment of sending, for every epoch that had a time of day."""


class Begin(Enum):
    """When the replay begins."""

    FIRST_WATCHER = "first-watcher"
    """With the first client that enables watching, as gpsd opens its device then."""

    AT_ONCE = "at-once"
    """With ``start``; who comes later misses what went by."""


class GpsdServer:
    """Replays ``trace`` on ``host``:``port``; port 0 takes a free one.

    ``start`` binds and returns; ``stop`` may be called at any time, more than once.
    ``max_gap_s`` (in the log's time) shortens pauses of the log that are longer.
    ``finished`` is set when the last epoch was sent; clients stay connected.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        stamp: Stamp = Stamp.PRESENT,
        loop: bool = False,
        max_gap_s: float | None = None,
        begin: Begin = Begin.FIRST_WATCHER,
        wall_clock: WallClock = utc_now,
    ) -> None:
        self.trace = trace
        self.path = f"replay://{trace.name}"
        self.begun = threading.Event()
        self.finished = threading.Event()
        self.epochs_replayed = 0
        self.fixes_replayed = 0
        """Epochs with a fix that were sent to whoever was watching."""
        self.clients_dropped = 0
        """Clients that did not read what they had asked for."""
        self._address = (host, port)
        self._schedule = Schedule(
            trace.epochs, speed=speed, interval_s=trace.interval_s, loop=loop, max_gap_s=max_gap_s
        )
        self._stamp = stamp
        self._begin = begin
        self._now = wall_clock
        self._sky_now = CLEAR_SKY
        self._activated = ""
        self.began_at: datetime | None = None
        """The wall time of the log's first moment, once it has begun."""
        self._began_at_s = 0.0
        self._tpv = reports.unknown_fix(self.path)
        self._sky = reports.unknown_sky(self.path)
        self._clients: set[Client] = set()
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._waker, self._wakened = socket.socketpair()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The TCP port; the real one after ``start``."""
        return self._address[1]

    @property
    def progress(self) -> float:
        """How much of the trace was sent, 0 to 1; of the current pass, when looping."""
        count = len(self.trace.epochs)
        done = self.epochs_replayed
        if done == 0:
            return 0.0
        return ((done - 1) % count + 1) / count

    def become(self, sky: Sky) -> None:
        """What the receiver makes of the drive from now on; from any thread."""
        self._sky_now = sky

    def start(self) -> None:
        """Listen and serve.

        Raises:
            ServerError: the address cannot be bound.
        """
        host, port = self._address
        try:
            self._listener = socket.create_server((host, port), backlog=MAX_CLIENTS)
        except OSError as error:
            raise ServerError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                hint="another gpsd may hold the port: choose one with --gpsd-port, or 0 for any",
            ) from error
        self._address = (host, self._listener.getsockname()[1])
        self._listener.settimeout(0)
        self._wakened.settimeout(0)
        self._activated = format_utc(self._now())
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wakened, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="sim-gpsd", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and the port."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread is not None:
            self._waker.send(b"x")
            self._thread.join()
        for client in list(self._clients):
            self._close(client)
        for ended in (self._listener, self._waker, self._wakened, self._selector):
            if ended is not None:
                ended.close()

    def _run(self) -> None:
        if self._begin is Begin.AT_ONCE:
            self._begin_replay()
        while not self._stopping.is_set():
            for key, events in self._selector.select(self._wait_s()):
                if key.fileobj is self._listener:
                    self._accept(self._listener)
                elif isinstance(key.data, Client):
                    self._serve(key.data, events)
            self._replay_due()

    def _begin_replay(self) -> None:
        if not self.begun.is_set():
            self._began_at_s = monotonic_s()
            self.began_at = self._now()
            self.begun.set()

    def _wait_s(self) -> float:
        due_s = self._schedule.due_s(self.epochs_replayed) if self.begun.is_set() else None
        if due_s is None:
            return _IDLE_WAIT_S
        return min(max(self._began_at_s + due_s - monotonic_s(), 0.0), _IDLE_WAIT_S)

    def _replay_due(self) -> None:
        if not self.begun.is_set() or self.finished.is_set() or self._stopping.is_set():
            return
        due_s = self._schedule.due_s(self.epochs_replayed)
        if due_s is not None and self._began_at_s + due_s <= monotonic_s():
            self._broadcast(self.trace.epochs[self.epochs_replayed % len(self.trace.epochs)])
        if self._schedule.due_s(self.epochs_replayed) is None:
            self.finished.set()

    def _broadcast(self, epoch: Epoch) -> None:
        sky_now = self._sky_now
        self.epochs_replayed += 1
        if sky_now.frozen:
            # as gpsd does when the receiver says the same again and again
            self._send_to_watchers(reports.encode(self._tpv))
            return
        epoch = sky_now.seen(epoch)
        time = self._time(epoch)
        self._tpv = reports.tpv(epoch, self.path, time)
        data = reports.encode(self._tpv)
        sky = reports.sky(epoch, self.path, time)
        if sky is not None:
            self._sky = sky
            data += reports.encode(sky)
        self._send_to_watchers(data)
        self.fixes_replayed += epoch.has_fix

    def _send_to_watchers(self, data: bytes) -> None:
        for client in list(self._clients):
            if client.watching and client.json_on:
                self._send(client, data)

    def _time(self, epoch: Epoch) -> str | None:
        if self._stamp is Stamp.ORIGINAL:
            return None if epoch.time is None else format_utc(epoch.time)
        return None if epoch.time_of_day_ms is None else format_utc(self._now())

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, peer = listener.accept()
        except OSError:
            # The peer went away between select and accept.
            return
        if len(self._clients) >= MAX_CLIENTS:
            connection.close()
            logger.warning("refused a client: %d are connected", MAX_CLIENTS)
            return
        connection.settimeout(0)
        # The kernel would grow this to megabytes, and a client that sleeps be noticed late.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        client = Client(connection, f"{peer[0]}:{peer[1]}")
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)
        self._send(client, reports.encode(reports.version()))

    def _serve(self, client: Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(client, b"")
        if events & selectors.EVENT_READ and client in self._clients:
            commands = client.receive()
            if commands is None:
                self._close(client)
                return
            for command in commands:
                self._send(client, b"".join(map(reports.encode, self._answer(client, command))))

    def _send(self, client: Client, data: bytes) -> None:
        if client not in self._clients:
            return
        if not client.send(data):
            if client.too_slow:
                self.clients_dropped += 1
                logger.warning("dropped %s: it does not read", client.name)
            self._close(client)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        self._selector.modify(client.connection, wanted, client)

    def _close(self, client: Client) -> None:
        self._clients.discard(client)
        with suppress(KeyError, ValueError):
            self._selector.unregister(client.connection)
        client.connection.close()

    def _answer(self, client: Client, command: Command | BadCommand) -> list[reports.Report]:
        if isinstance(command, BadCommand):
            return [reports.error(command.message)]
        device = reports.device(self.path, self._activated, self.trace.interval_s)
        match command.name:
            case "VERSION":
                return [reports.version()]
            case "DEVICES":
                return [reports.devices([device])]
            case "DEVICE":
                # A recording has one rate; the answer says what it is, whatever was asked.
                return [self._unknown_device(command) or device]
            case "WATCH":
                wrong = self._unknown_device(command) or client.set_policy(command.argument or {})
                if wrong is not None:
                    return [wrong]
                if client.watching:
                    self._begin_replay()
                policy = reports.watch(enable=client.watching, json_on=client.json_on)
                return [reports.devices([device]), policy]
            case "POLL":
                return [reports.poll(format_utc(self._now()), self._tpv, self._sky)]
        return [reports.error(f"Unrecognized request '?{command.name}'")]

    def _unknown_device(self, command: Command) -> reports.Report | None:
        """An ERROR when the command names a device that is not this one."""
        key = "device" if command.name == "WATCH" else "path"
        path = (command.argument or {}).get(key, self.path)
        if path == self.path:
            return None
        return reports.error(f"Invalid {command.name}: no such device as {str(path)[:60]!r}")
