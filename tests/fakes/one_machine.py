"""The one-machine cloud for tests: its broker alone in a thread, or all of it as a process."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt

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

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE_S = 20.0
DEAD_LETTERS = "DeadLetterQueue"
TELEMETRY = "TelemetryStream"
STATUS = "VehicleStatusTable"


def wait_until(condition, what, deadline_s=DEADLINE_S):
    """Poll until ``condition()`` is true and give what it gave."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f"waited {deadline_s:.0f} s in vain for {what}")


def authority_in(folder):
    return Authority.open_or_create(folder, SystemClock().utc())


def identity(authority, vehicle_id, folder, *, registry=None, **options):
    """Certificate files for a vehicle, in a registry or nowhere written down; the folder."""
    now = options.pop("now", None) or SystemClock().utc()
    credentials = authority.issue(vehicle_id, now, **options)
    credentials.write_to(folder)
    if registry is not None:
        registry.add_vehicle(vehicle_id, credentials.certificate_pem)
    return folder


class Vehicle:
    """A paho client that never reconnects by itself."""

    def __init__(
        self, port, folder, client_id, *, certificate=True, will=None, keep_alive_s=60, clean=True
    ):
        self.connack = None
        self.disconnected = threading.Event()
        self.acked = []
        self.received = []
        self.subscribed = []
        self._port = port
        self._keep_alive_s = keep_alive_s
        self._answered = threading.Event()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv311,
            clean_session=clean,
            reconnect_on_failure=False,
        )
        own = {}
        if certificate:
            own = {"certfile": folder / "certificate.pem", "keyfile": folder / "key.pem"}
        self.client.connect_timeout = DEADLINE_S
        self.client.tls_set(folder / "ca.pem", **own)
        if will is not None:
            topic, payload = will
            self.client.will_set(topic, payload, qos=1, retain=True)
        self.client.on_connect = self._on_connect
        self.client.on_connect_fail = lambda *_: self._answered.set()
        self.client.on_disconnect = self._on_disconnect
        self.client.on_publish = lambda _c, _u, mid, _r, _p: self.acked.append(mid)
        self.client.on_message = lambda _c, _u, message: self.received.append(message)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.subscribed.extend(codes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def connect(self):
        """Connect; whether the broker accepted."""
        try:
            self.client.connect("localhost", self._port, self._keep_alive_s)
        except OSError:
            return False
        self.client.loop_start()
        assert self._answered.wait(DEADLINE_S), "the broker neither answered nor hung up"
        return self.connack == 0

    def publish(self, topic, payload, *, qos=1, retain=False):
        return self.client.publish(topic, payload, qos=qos, retain=retain).mid

    def publish_acked(self, topic, payload, **options):
        mid = self.publish(topic, payload, **options)
        wait_until(lambda: mid in self.acked, f"the acknowledgement of {topic}")

    def subscribe(self, topic_filter):
        """Subscribe; the reason codes."""
        self.subscribed = []
        self.client.subscribe(topic_filter, 1)
        return [code.value for code in wait_until(lambda: self.subscribed, "the SUBACK")]

    def vanish(self):
        """Cut the connection without a word."""
        self.client.socket().close()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _client, _userdata, _flags, reason, _properties):
        self.connack = reason.value
        self._answered.set()

    def _on_disconnect(self, *_):
        self.disconnected.set()
        self._answered.set()


class RunningBroker:
    """Broker, ingest and rules in a thread, on a stream that the test can read."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.authority = authority_in(folder / "pki")
        self.database = Database(folder / DATABASE_NAME, MIGRATIONS, create=True)
        self.registry = options.pop(
            "registry", SqliteRegistry(self.database, options.get("clock", SystemClock()))
        )
        self.clock = options.pop("clock", SystemClock())
        self.stream = Stream(folder / "stream.db")
        self.rules = Dispatcher(load_rules(), DEAD_LETTERS)
        self.appender = options.pop("appender", self.stream)
        self._options = options
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="broker")

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self.stream.close()
        self.database.close()

    def identity(self, vehicle_id, **options):
        folder = options.pop("folder", self.folder / vehicle_id)
        return identity(self.authority, vehicle_id, folder, registry=self.registry, **options)

    def vehicle(self, vehicle_id="van-1", *, client_id=None, folder=None, **options):
        folder = folder or self.identity(vehicle_id)
        return Vehicle(self.port, folder, client_id or vehicle_id, **options)

    def records(self, stream=TELEMETRY):
        reader = self.stream.reader(stream, f"test-{stream}")
        try:
            return reader.read(100_000)
        finally:
            reader.close()

    def documents(self, stream=TELEMETRY):
        return [json.loads(record.data) for record in self.records(stream)]

    async def _main(self):
        clock = self.clock
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ingest = Ingest(self.appender, self.rules.route, clock)
        ingest.start(self._loop)
        self.broker = Broker(
            ca_file=self.authority.certificate_file,
            server_file=self.authority.server_file([], clock.utc()),
            registry=self.registry,
            ingest=ingest,
            clock=clock,
            **self._options,
        )
        listener = bind("127.0.0.1", 0, purpose="MQTT", option="--mqtt-port")
        self.port = listener.getsockname()[1]
        await self.broker.start(listener)
        self._ready.set()
        await self._stop.wait()
        await self.broker.stop()
        await ingest.close()


class CloudProcess:
    """``milepost-cloud serve`` as a process of its own."""

    def __init__(self, data_dir, *arguments):
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cloud", "serve", "--data", str(data_dir)),
                    *("--mqtt-port", "0", "--http-port", "0", "--files-port", "0"),
                    *("--no-browser", *arguments),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def wait_ready(self):
        ready = self.data_dir / "serve.json"

        def document():
            assert self.process.poll() is None, self.log.read_text()
            try:
                described = json.loads(ready.read_text())
            except FileNotFoundError:
                return None
            # A killed one leaves its file behind.
            return described if described.get("pid") == self.process.pid else None

        described = wait_until(document, "serve.json", 60)
        self.port, self.url = described["mqtt_port"], described["http_url"]
        return self

    def stop(self, number=signal.SIGTERM):
        """Ask it to stop; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait(10)


@contextmanager
def running_cloud(data_dir, *arguments):
    """A cloud that is ready; killed at the end when the test did not stop it."""
    cloud = CloudProcess(data_dir, *arguments)
    try:
        yield cloud.wait_ready()
    finally:
        if cloud.process.poll() is None:
            cloud.kill()


def milepost_cloud(*arguments, timeout_s=60):
    """Run a command of ``milepost-cloud`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cloud", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def issued_identity(data_dir, vehicle_id, folder):
    """Certificate files as the operator's command makes them, for a cloud at work; the folder."""
    done = milepost_cloud("certs", "issue", vehicle_id, "--data", data_dir, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def sample_json(vehicle_id="van-1", sequence=1, run_id="0a1b2c3d", **extra):
    """A valid telemetry message."""
    moment = SystemClock().utc()
    return json.dumps(
        {
            "schema_version": 1,
            "vehicle_id": vehicle_id,
            "run_id": run_id,
            "sequence": sequence,
            "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
            "time_quality": "ntp",
            "location": {"lat": 50.11 + sequence * 1e-5, "lon": 8.68},
            **extra,
        }
    )


def status_json(vehicle_id="van-1", state="online", run_id="0a1b2c3d", **extra):
    """A valid status."""
    return json.dumps(
        {
            "schema_version": 1,
            "vehicle_id": vehicle_id,
            "run_id": run_id,
            "state": state,
            "timestamp": "2026-01-15T14:32:18.123Z",
            "time_quality": "gps",
            **extra,
        }
    )
