"""``milepost-cloud serve``: everything is put together here, its consumers in ``consumers``.

Data directory::

    pki/            the certificate authority (cloud.pki)
    stream.db       messages between broker and functions (cloud.serve.stream)
    milepost.db     history, positions, alerts (cloud.stores)
    archive/        Parquet
    artifacts/, uploads/  files of jobs (cloud.file_store)
    serve.json      where the running cloud listens
    serve.lock      held by the running cloud

Start: lock, ports, stores, map, consumers, broker, ``serve.json``. Stop, the other way
round: ``serve.json``, broker, ingest, consumers when they have caught up, map, stores.
What a consumer did not get done in time is in the stream and comes at the next start.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloud.areas import NO_AREAS, Areas, load_areas
from cloud.clock import Clock, SystemClock
from cloud.file_store import FileStore
from cloud.fleet_file import Fleet, load_fleet
from cloud.pki import Authority
from cloud.serve.broker import Broker
from cloud.serve.consumers import build_consumers, finish
from cloud.serve.dispatcher import Dispatcher
from cloud.serve.file_server import asks_for_file, file_server
from cloud.serve.files import DataLock, remove_ready, write_ready
from cloud.serve.housekeeping import Housekeeping
from cloud.serve.http import HttpServer
from cloud.serve.ingest import Ingest
from cloud.serve.jobs_service import JobsService
from cloud.serve.provisioning_service import ProvisioningService
from cloud.serve.shadow_service import ShadowService
from cloud.serve.sockets import bind
from cloud.serve.stream import Stream
from cloud.serve.tls import server_context
from cloud.stores.queries import Queries
from cloud.stores.registry import open_registry
from cloud.stores.sqlite import SqliteStores
from cloud.template import load_consumers, load_rule_functions, load_rules

if TYPE_CHECKING:
    from fastapi import FastAPI

STATUS_S: Final = 10.0
MAX_OPEN_FILES: Final = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The command's options."""

    data_dir: Path
    host: str = "127.0.0.1"
    map_host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    """By which vehicles reach it, beside this machine's own; its certificate says them."""
    mqtt_port: int = 8883
    http_port: int = 8080
    files_port: int | None = None
    """``None``: the one after ``mqtt_port``, or a free one where that is 0."""
    fleet_file: Path | None = None
    areas_file: Path | None = None
    tiles: bool = True
    open_browser: bool = True


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``say`` takes lines for the person who started it.

    Raises:
        ConfigError: it could not be started; nothing is left running.
    """
    with DataLock(settings.data_dir):
        remove_ready(settings.data_dir)
        _allow_connections()
        asyncio.run(_serve(settings, say))


async def _serve(settings: Settings, say: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def request_stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)  # a second Ctrl-C ends at once
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, request_stop)
    async with one_machine_cloud(settings, SystemClock()) as cloud:
        # what was loaded stays; else a full collection walks all of it every few events
        gc.freeze()
        say(f"Map:   {cloud.http_url}")
        say(f"MQTT:  {settings.host}:{cloud.mqtt_port}, for vehicles that provision themselves,")
        say(f"       milepost-cloud fleet claim create --data {settings.data_dir} --out DIR")
        say(f"       milepost-cloud fleet allow add SERIAL VEHICLE_ID --data {settings.data_dir}")
        say("       or that get their certificate by hand,")
        say(f"       milepost-cloud certs issue VEHICLE_ID --data {settings.data_dir} --out DIR")
        say(f"Files: {settings.host}:{cloud.files_port}, HTTPS with the same certificates")
        if not _is_local(settings.map_host):
            say("Anybody who can reach this machine can see the map: it has no login.")
        say("Stop with Ctrl-C.")
        if settings.open_browser and _has_screen():
            await asyncio.to_thread(webbrowser.open, cloud.http_url)
        reporter = asyncio.create_task(_report(cloud, say), name="status")
        await stop.wait()
        reporter.cancel()
        say("Stopping: no new messages, the rest is being finished.")
    say("Stopped.")


@dataclass(frozen=True, slots=True)
class Running:
    """A cloud at work."""

    mqtt_port: int
    http_url: str
    files_port: int
    broker: Broker
    stream: Stream
    dispatcher: Dispatcher


@asynccontextmanager
async def one_machine_cloud(settings: Settings, clock: Clock) -> AsyncIterator[Running]:
    """Everything started in order, and stopped in the opposite one."""
    async with AsyncExitStack() as stack:
        fleet = load_fleet(settings.fleet_file) if settings.fleet_file else Fleet()
        areas = load_areas(settings.areas_file) if settings.areas_file else NO_AREAS
        mqtt_listener = stack.enter_context(
            bind(settings.host, settings.mqtt_port, purpose="MQTT", option="--mqtt-port")
        )
        http_listener = stack.enter_context(
            bind(settings.map_host, settings.http_port, purpose="HTTP", option="--http-port")
        )
        files_listener = stack.enter_context(
            bind(settings.host, _files_port(settings), purpose="files", option="--files-port")
        )
        mqtt_port, http_port, files_port = (
            one.getsockname()[1] for one in (mqtt_listener, http_listener, files_listener)
        )
        authority = Authority.open_or_create(settings.data_dir / "pki", clock.utc())
        rules, functions = load_rules(), load_consumers()
        dispatcher = Dispatcher(rules, dead_letters=functions[0].on_failure)
        stores = SqliteStores.open(settings.data_dir, areas=areas, register=fleet, clock=clock)
        stack.callback(stores.close)
        registry = open_registry(stores.database, settings.data_dir, clock)
        stream = Stream(settings.data_dir / "stream.db")
        stack.callback(stream.close)

        queries = Queries.open(settings.data_dir, register=fleet)
        stack.callback(queries.close)
        http = HttpServer(http_listener, lambda: _map(queries, areas, tiles=settings.tiles))
        stack.push_async_callback(asyncio.to_thread, http.stop)
        await asyncio.to_thread(http.start)

        consumers = build_consumers(rules, functions, load_rule_functions(), stream, stores)
        stack.push_async_callback(finish, consumers, stream)
        for consumer in consumers:
            consumer.start()

        housekeeping = Housekeeping(dispatcher, stores, stream, registry, clock)
        stack.push_async_callback(housekeeping.stop)
        housekeeping.start()

        ingest = Ingest(stream, dispatcher.route, clock)
        ingest.start(asyncio.get_running_loop())
        stack.push_async_callback(ingest.close)
        files = FileStore(settings.data_dir)
        files.remove_drafts()
        server_file = authority.server_file(_names(settings), clock.utc())
        exchange = file_server(
            files_listener,
            server_context(authority.certificate_file, server_file),
            files,
            registry,
            asks_for_file(stores.jobs),
        )
        stack.push_async_callback(asyncio.to_thread, exchange.stop)
        await asyncio.to_thread(exchange.start)
        broker = Broker(
            ca_file=authority.certificate_file,
            server_file=server_file,
            registry=registry,
            ingest=ingest,
            clock=clock,
            services=[
                ShadowService(stores.shadows, clock),
                JobsService(stores.job_executions, clock),
            ],
            private_services=[ProvisioningService(authority, registry, clock)],
        )
        stack.push_async_callback(broker.stop)
        await broker.start(mqtt_listener)

        running = Running(
            mqtt_port, _url(settings.map_host, http_port), files_port, broker, stream, dispatcher
        )
        write_ready(
            settings.data_dir,
            mqtt_port=mqtt_port,
            http_url=running.http_url,
            files_port=files_port,
        )
        stack.callback(remove_ready, settings.data_dir)
        yield running


def _map(queries: Queries, areas: Areas, *, tiles: bool) -> FastAPI:
    from cloud.web.app import create_app  # noqa: PLC0415  seconds; in the map's thread

    return create_app(queries, areas=areas, tiles=tiles)


async def _report(cloud: Running, say: Callable[[str], None]) -> None:
    last = ""
    while True:
        await asyncio.sleep(STATUS_S)
        vehicles = cloud.broker.connected()
        line = (
            f"{len(vehicles)} vehicles connected, {cloud.dispatcher.messages} messages received, "
            f"{cloud.broker.refused} connections refused"
        )
        if line != last:
            say(line)
        last = line


def _allow_connections() -> None:
    """Each connection is an open file, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MAX_OPEN_FILES:
        wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _names(settings: Settings) -> list[str]:
    wildcard = {"", "0.0.0.0", "::"}  # noqa: S104  compared, not bound
    names = [socket.gethostname(), *settings.names]
    return [*names, settings.host] if settings.host not in wildcard else names


def _files_port(settings: Settings) -> int:
    if settings.files_port is not None:
        return settings.files_port
    return settings.mqtt_port and settings.mqtt_port + 1


def _url(host: str, port: int) -> str:
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104  compared, not bound
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_screen() -> bool:
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    )
