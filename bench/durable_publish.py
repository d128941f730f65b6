"""Durable publish to a real Mosquitto at QoS 1 over mutual TLS, one sample a publish.

A message counts when it was created (handed over), acknowledged by the broker and
forgotten by its store. The contenders take turns, several rounds in one run:

milepost       the agent's outbox, publisher and transport, token buckets opened wide
paho           a bare paho client, the same window in flight, no store; the faster of its
               two usual forms: loop_start() with a semaphore, and one thread that polls
persist-queue  persistqueue.SQLiteAckQueue and paho: put, get, publish, ack on the PUBACK
bridge         a local Mosquitto with persistence bridges to the broker; counts when the
               last message is there (the bridge keeps the newest in memory alone)

All are given the same payloads, encoded before; the second figure of milepost and paho
has the encoding of each sample by pydantic in it.

    python bench/durable_publish.py --messages 10000 --rounds 5
    python bench/durable_publish.py --only milepost,paho --json
"""

from __future__ import annotations

import getpass
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from _peers import (
    RUN_ID,
    VEHICLE_ID,
    SecuredBroker,
    arguments,
    free_port,
    open_delivery,
    progress,
    samples,
    scratch,
    secured_broker,
    show,
    spread,
)
from paho.mqtt.enums import CallbackAPIVersion
from persistqueue import SQLiteAckQueue

from agent.host import boottime_s
from agent.outbox import Kind, Message
from contract import Sample, encode

TOPIC = f"telemetry/{VEHICLE_ID}"
LEAD = 10
"""Windows that the creator may be ahead of the acknowledgements."""

Items = Sequence[bytes] | Sequence[Sample]


def payload_of(item: bytes | Sample) -> bytes:
    """Encode what is not encoded yet."""
    return item if isinstance(item, bytes) else encode(item)


# --- milepost ----------------------------------------------------------------------


def milepost(folder: Path, broker: SecuredBroker, window: int, items: Items) -> float:
    """Seconds from the first hand-over until nothing waits."""
    delivery = open_delivery(
        folder,
        broker,
        in_flight=window,
        max_publishes_per_s=100_000,
        max_bytes_per_s=1e9,
    )
    delivery.start()
    outbox, publisher = delivery.outbox, delivery.publisher
    try:
        while not publisher.connected:
            time.sleep(0.01)
        time.sleep(0.2)
        begun = time.perf_counter()
        for number, item in enumerate(items, start=1):
            message = Message(Kind.SAMPLE, RUN_ID, number, payload_of(item), 0, boottime_s())
            outbox.put(message)
            publisher.wake()
            if number % window == 0:
                while outbox.waiting() > LEAD * window:
                    time.sleep(0.0005)
        while outbox.waiting():
            time.sleep(0.0005)
        spent = time.perf_counter() - begun
        tally = outbox.tally()
        assert tally.acknowledged[Kind.SAMPLE] == len(items), tally
        assert not tally.dropped, tally
    finally:
        delivery.stop()
    return spent


# --- bare paho ---------------------------------------------------------------------


def paho_client(broker: SecuredBroker) -> mqtt.Client:
    """A client as the documentation has it, not connected."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=VEHICLE_ID)
    client.max_inflight_messages_set(0)
    identity = broker.identity
    client.tls_set(str(identity.ca_file), str(identity.certificate_file), str(identity.key_file))
    return client


def paho_threaded(_folder: Path, broker: SecuredBroker, window: int, items: Items) -> float:
    """``loop_start()``; a semaphore is the window."""
    client = paho_client(broker)
    slots, ready = threading.Semaphore(window), threading.Event()
    client.on_connect = lambda *_: ready.set()
    client.on_publish = lambda *_: slots.release()
    client.connect("localhost", broker.port)
    client.loop_start()
    try:
        assert ready.wait(10)
        begun = time.perf_counter()
        for item in items:
            slots.acquire()
            client.publish(TOPIC, payload_of(item), qos=1)
        for _ in range(window):
            slots.acquire()
        return time.perf_counter() - begun
    finally:
        client.disconnect()
        client.loop_stop()


def paho_polled(_folder: Path, broker: SecuredBroker, window: int, items: Items) -> float:
    """One thread: publish while the window is open, poll, read."""
    client = paho_client(broker)
    acknowledged = 0
    connected = False

    def on_connect(*_: Any) -> None:
        nonlocal connected
        connected = True

    def on_publish(*_: Any) -> None:
        nonlocal acknowledged
        acknowledged += 1

    client.on_connect = on_connect
    client.on_publish = on_publish
    client.connect("localhost", broker.port)
    try:
        while not connected:
            client.loop(0.1)
        sock: Any = client.socket()
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        begun = time.perf_counter()
        sent = 0
        while acknowledged < len(items):
            while sent < len(items) and sent - acknowledged < window:
                client.publish(TOPIC, payload_of(items[sent]), qos=1)
                sent += 1
            if client.want_write():
                client.loop_write()
            if not sock.pending():
                poll.poll(1000)
            client.loop_read()
        return time.perf_counter() - begun
    finally:
        client.disconnect()


# --- persist-queue and paho --------------------------------------------------------


def persist_queue(folder: Path, broker: SecuredBroker, window: int, items: Items) -> float:
    """Put by one thread; another gets, publishes and acknowledges."""
    queue = SQLiteAckQueue(str(folder / "queue"), multithreading=True)
    client = paho_client(broker)
    slots, ready = threading.Semaphore(window), threading.Event()
    done = threading.Semaphore(0)
    rows: dict[int, int] = {}
    acks: list[int] = []
    client.on_connect = lambda *_: ready.set()

    def on_publish(_client: Any, _userdata: Any, mid: int, *_: Any) -> None:
        acks.append(mid)
        slots.release()
        done.release()

    client.on_publish = on_publish
    client.connect("localhost", broker.port)
    client.loop_start()

    def settle() -> None:
        while acks and acks[0] in rows:
            queue.ack(id=rows.pop(acks.pop(0)))

    def deliver() -> None:
        for _ in items:
            row = queue.get(raw=True)
            slots.acquire()
            rows[client.publish(TOPIC, row["data"], qos=1).mid] = row["pqid"]
            settle()
        for _ in items:
            done.acquire()
        settle()

    try:
        assert ready.wait(10)
        begun = time.perf_counter()
        worker = threading.Thread(target=deliver, name="deliver")
        worker.start()
        for item in items:
            queue.put(payload_of(item))
        worker.join()
        spent = time.perf_counter() - begun
        assert queue.acked_count() == len(items)
        return spent
    finally:
        client.disconnect()
        client.loop_stop()
        queue.close()


# --- Mosquitto's bridge ------------------------------------------------------------

BRIDGE = """
listener {near} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
max_queued_messages 0
max_inflight_messages {window}
user {user}
log_type error
connection upstream
address localhost:{far}
remote_clientid {vehicle}
cleansession false
try_private false
notifications false
bridge_cafile {identity.ca_file}
bridge_certfile {identity.certificate_file}
bridge_keyfile {identity.key_file}
topic telemetry/# out 1
"""


def bridge(folder: Path, broker: SecuredBroker, window: int, items: Items) -> float:
    """Publish to the local broker; until a subscriber at the far one has the last."""
    near = free_port()
    config = folder / "bridge.conf"
    config.write_text(
        BRIDGE.format(
            near=near,
            far=broker.port,
            folder=folder,
            window=window,
            user=getpass.getuser(),
            vehicle=VEHICLE_ID,
            identity=broker.identity,
        ),
        encoding="utf-8",
    )
    listener = broker.pki.vehicle("listener")
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    subscriber = subprocess.Popen(
        ["mosquitto_sub", "-h", "localhost", "-p", str(broker.port), "-i", "listener", "-q", "0",
         "--cafile", str(listener.ca_file), "--cert", str(listener.certificate_file),
         "--key", str(listener.key_file), "-t", TOPIC, "-C", str(len(items) + 1)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    program = shutil.which("mosquitto", path=path)
    assert program is not None
    bridging = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="creator")
    client.max_inflight_messages_set(0)
    slots, ready = threading.Semaphore(window), threading.Event()
    client.on_connect = lambda *_: ready.set()
    client.on_publish = lambda *_: slots.release()
    try:
        time.sleep(1.0)  # the bridge dials when it starts
        client.connect("127.0.0.1", near)
        client.loop_start()
        assert ready.wait(10)
        client.publish(TOPIC, b"first", qos=1).wait_for_publish(10)
        time.sleep(0.5)
        begun = time.perf_counter()
        for item in items:
            slots.acquire()
            client.publish(TOPIC, payload_of(item), qos=1)
        subscriber.wait(60)
        return time.perf_counter() - begun
    finally:
        client.disconnect()
        client.loop_stop()
        for process in (subscriber, bridging):
            process.kill()
            process.wait(10)


# --- all of them -------------------------------------------------------------------

Contender = Callable[[Path, SecuredBroker, int, Items], float]


def main() -> None:
    """Measure and print."""
    parser = arguments(
        __doc__,
        messages=(10_000, "messages a round; a tenth for persist-queue"),
        rounds=(5, "rounds in which the contenders take turns"),
        window=(100, "publishes that may await their PUBACK"),
    )
    parser.add_argument("--only", default="", help="contenders to run, with commas between")
    words = parser.parse_args()
    ready = samples(words.messages)
    encoded = [encode(sample) for sample in ready]
    contenders: dict[str, Callable[[Path, SecuredBroker], float]] = {}

    def enter(name: str, run: Contender, items: Items) -> None:
        if not words.only or name.partition(" ")[0] in words.only.split(","):

            def rate(folder: Path, broker: SecuredBroker) -> float:
                return len(items) / run(folder, broker, words.window, items)

            contenders[name] = rate

    enter("milepost", milepost, encoded)
    enter("paho loop_start", paho_threaded, encoded)
    enter("paho polled", paho_polled, encoded)
    enter("milepost with encoding", milepost, ready)
    enter("paho loop_start with encoding", paho_threaded, ready)
    enter("persist-queue", persist_queue, encoded[: max(100, words.messages // 10)])
    enter("bridge", bridge, encoded)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    with scratch() as folder, secured_broker(folder, "max_queued_messages 0") as broker:
        for number in range(words.rounds):
            for name, run in contenders.items():
                state = folder / f"{name.replace(' ', '-')}-{number}"
                state.mkdir()
                rates[name].append(run(state, broker))
                progress(f"round {number + 1}: {name}: {rates[name][-1]:.0f} messages/s")
    medians = {name: spread(found)["median"] for name, found in rates.items()}
    best = max((name for name in medians if name in PAHO), key=lambda name: medians[name])
    figures: dict[str, Any] = {
        "benchmark": "durable_publish",
        "window": words.window,
        "payload_bytes": len(encoded[0]),
        "messages_per_s": {name: spread(found) for name, found in rates.items()},
        "bare_paho": best,
        "ratio_to_bare_paho": {
            name: round(median / medians[best], 2)
            for name, median in medians.items()
            if "encoding" not in name
        },
    }
    show(figures, as_json=words.json)


PAHO = ("paho loop_start", "paho polled")

if __name__ == "__main__":
    main()
