"""Messages a second through the embedded broker, beside amqtt holding the socket itself.

``python bench/broker.py [--json] [--messages N]``: one paho client, QoS 1 over mutual TLS,
500-byte samples, 1, 20 and 100 in flight, the median of three rounds. "gate" is what
``milepost-cloud serve`` runs up to the PUBACK: checks, rules and the durable append are
done before it. "amqtt" acknowledges what it has in memory. Decision 0002 uses the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import resource
import statistics
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import amqtt.broker
import paho.mqtt.client as mqtt

from cloud.cli.registry import opened_registry
from cloud.clock import SystemClock
from cloud.pki import Authority
from cloud.serve.broker import Broker
from cloud.serve.dispatcher import Dispatcher
from cloud.serve.ingest import Ingest
from cloud.serve.sockets import bind
from cloud.serve.stream import Stream
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import DATABASE_NAME
from cloud.stores.sqlite_registry import SqliteRegistry
from cloud.template import load_rules

ROUNDS = 3
WINDOWS = (1, 20, 100)
VEHICLE = "van-1"


def cpu_s() -> float:
    """CPU time of this process, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def answer(pipe: Connection, port: int) -> None:
    """Tell the port, then this process's CPU time whenever asked, until told to end."""
    pipe.send(port)
    while (await asyncio.to_thread(pipe.recv)) != "end":
        pipe.send(cpu_s())


async def run_gate(folder: Path, pipe: Connection) -> None:
    """The broker of ``milepost-cloud serve``."""
    clock = SystemClock()
    authority = Authority.open_or_create(folder / "pki", clock.utc())
    database = Database(folder / DATABASE_NAME, MIGRATIONS, create=False)
    stream = Stream(folder / "stream.db")
    ingest = Ingest(stream, Dispatcher(load_rules(), "DeadLetterQueue").route, clock)
    ingest.start(asyncio.get_running_loop())
    broker = Broker(
        ca_file=authority.certificate_file,
        server_file=authority.server_file([], clock.utc()),
        registry=SqliteRegistry(database, clock),
        ingest=ingest,
        clock=clock,
    )
    listener = bind("127.0.0.1", 0, purpose="MQTT", option="--mqtt-port")
    await broker.start(listener)
    await answer(pipe, listener.getsockname()[1])
    await broker.stop()
    await ingest.close()
    stream.close()
    database.close()


async def run_amqtt(folder: Path, pipe: Connection) -> None:
    """The library as it comes, with its own TLS listener."""
    probe = bind("127.0.0.1", 0, purpose="MQTT", option="--mqtt-port")
    port = probe.getsockname()[1]
    probe.close()
    pki = folder / "pki"
    listener = {
        "type": "tcp",
        "bind": f"127.0.0.1:{port}",
        "ssl": True,
        "cafile": str(pki / "ca" / "certificate.pem"),
        "certfile": str(pki / "server.pem"),
        "keyfile": str(pki / "server.pem"),
    }
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = amqtt.broker.Broker({"listeners": {"default": listener}, "plugins": plugins})
    await broker.start()
    await answer(pipe, port)
    await broker.shutdown()


def child(kind: str, folder: str, pipe: Connection) -> None:
    """The broker's process."""
    logging.disable(logging.CRITICAL)
    asyncio.run({"gate": run_gate, "amqtt": run_amqtt}[kind](Path(folder), pipe))


def publish(folder: Path, port: int, messages: int, window: int) -> float:
    """Publish and wait for every acknowledgement; seconds."""
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=VEHICLE, protocol=mqtt.MQTTv311
    )
    client.tls_set(str(folder / "ca.pem"), str(folder / "certificate.pem"), str(folder / "key.pem"))
    client.max_inflight_messages_set(window)
    connected, slots = threading.Event(), threading.Semaphore(window)
    client.on_connect = lambda *_: connected.set()
    client.on_publish = lambda *_: slots.release()
    client.connect("localhost", port)
    client.loop_start()
    assert connected.wait(10)
    payload = json.dumps({"vehicle_id": VEHICLE, "sequence": 1, "filling": "x" * 450})
    begin = time.perf_counter()
    for _ in range(messages):
        slots.acquire()
        client.publish(f"telemetry/{VEHICLE}", payload, 1)
    for _ in range(window):
        assert slots.acquire(timeout=30)
    spent = time.perf_counter() - begin
    client.disconnect()
    client.loop_stop()
    return spent


def measure(kind: str, folder: Path, messages: int) -> dict[str, dict[str, int]]:
    """All windows on one broker."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=child, args=(kind, str(folder), there)
    )
    process.start()
    port = here.recv()
    publish(folder / VEHICLE, port, 500, 20)
    figures = {}
    for window in WINDOWS:
        rates, costs = [], []
        for _ in range(ROUNDS):
            here.send("cpu")
            before_s = here.recv()
            spent_s = publish(folder / VEHICLE, port, messages, window)
            here.send("cpu")
            after_s = here.recv()
            rates.append(messages / spent_s)
            costs.append((after_s - before_s) / messages * 1e6)
        figures[f"{window}_in_flight"] = {
            "messages_per_s": round(statistics.median(rates)),
            "cpu_us_per_message": round(statistics.median(costs)),
        }
    here.send("end")
    process.join(30)
    return figures


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--messages", type=int, default=2_000)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with opened_registry(folder, create=True) as here:
            now = here.clock.utc()
            here.authority.server_file([], now)
            made = here.authority.issue(VEHICLE, now)
            made.write_to(folder / VEHICLE)
            here.registry.add_vehicle(VEHICLE, made.certificate_pem)
        for kind in ("gate", "amqtt"):
            results[kind] = measure(kind, folder, options.messages)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for kind, figures in results.items():
        print(kind)
        for name, figure in figures.items():
            print(f"  {name}: {figure}")


if __name__ == "__main__":
    main()
