"""The whole delivery against a real Mosquitto, an independent listener and a bad network."""

import dataclasses
import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import awscrt.mqtt5
import paho.mqtt.client
import pytest

from agent.account import imbalance
from agent.config import DeliverySettings, TransportKind
from agent.delivery import Delivery
from agent.engine.rate import Rate
from agent.publisher import BackoffSettings, PublisherLimits
from contract import (
    Event,
    Mode,
    VehicleState,
    decode_batch,
    decode_event,
    decode_sample,
    decode_status,
)
from tests.fakes.delivering_vehicle import RealTime, make_delivery, make_sample
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub
from tests.fakes.pki import Pki
from tests.fakes.relay import Relay

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_sub")

QUICK = PublisherLimits(
    ack_timeout_s=1.0, backoff=BackoffSettings(base_s=0.05, cap_s=0.3, least_gap_s=0.0)
)
TELEMETRY, BATCH, EVENTS, STATUS = (
    "telemetry/van-1",
    "telemetry/van-1/batch",
    "events/van-1",
    "status/van-1",
)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def vehicle(pki):
    return {name: str(path) for name, path in dataclasses.asdict(pki.vehicle("van-1")).items()}


@pytest.fixture(scope="module")
def broker_identity(pki):
    return pki.broker()


@pytest.fixture(scope="module")
def listener_identity(pki):
    return pki.vehicle(LISTENER)


@pytest.fixture
def broker(tmp_path, broker_identity, free_port):
    with Mosquitto(tmp_path / "broker", broker_identity, free_port()) as running:
        yield running


@pytest.fixture
def deliveries():
    started = []

    def start(first, *args, **kwargs):
        given = isinstance(first, Delivery)
        delivery = first if given else make_delivery(first, *args, **kwargs)
        delivery.start()
        started.append(delivery)
        return delivery

    yield start
    for delivery in started:
        delivery.stop(0)


def record(delivery, first, count, *, run_id="0000000a", pause_s=0.0):
    clock = RealTime()
    for sequence in range(first, first + count):
        delivery.record_sample(make_sample(sequence, clock, run_id))
        if pause_s:
            time.sleep(pause_s)


def wait(condition, what, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def sequences_heard(listener):
    """Every (run_id, sequence) that the listener heard, with repetitions."""
    samples = [decode_sample(payload) for payload in listener.on(TELEMETRY)]
    for payload in listener.on(BATCH):
        samples.extend(decode_batch(payload))
    return [(sample.run_id, sample.sequence) for sample in samples]


def test_the_listener_sees_the_seed_message_shape_events_and_the_status(
    broker, vehicle, listener_identity, tmp_path, deliveries
):
    with MosquittoSub(listener_identity, broker.port) as listener:
        delivery = deliveries(tmp_path / "state", broker.port, vehicle)
        delivery.set_rate(Rate(Mode.NORMAL, 1.0, Mode.NORMAL))
        clock = RealTime()
        delivery.record_sample(make_sample(1, clock, "0000000a"))
        delivery.record_event(
            Event(
                vehicle_id="van-1",
                run_id="0000000a",
                sequence=2,
                timestamp=clock.utc(),
                time_quality=clock.quality(),
                event_type="trip_started",
            )
        )
        seen = json.loads(listener.wait_for(TELEMETRY, 1)[0])
        assert seen["vehicle_id"] == "van-1"
        assert seen["schema_version"] == 1
        assert seen["time_quality"] == "gps"
        assert set(seen["location"]) == {"lat", "lon", "accuracy"}
        assert set(seen["motion"]) == {"speed_kmh", "heading"}
        assert seen["timestamp"].endswith("Z")
        assert decode_event(listener.wait_for(EVENTS, 1)[0]).event_type == "trip_started"
        first = decode_status(listener.wait_for(STATUS, 1)[0])
        assert (first.state, first.mode) == (VehicleState.ONLINE, Mode.NORMAL)
        wait(lambda: delivery.outbox.waiting() == 0, "not acknowledged")
        account = delivery.account()
        assert account["samples_acknowledged"] == 1
        assert account["events_acknowledged"] == 1
        assert account["first_publish_s"] > 0
        assert imbalance(account) == 0
        delivery.stop(5)
        last = decode_status(listener.wait_for(STATUS, 2)[-1])
        assert last.state is VehicleState.OFFLINE
        assert last.last_sequence == 2
    with sqlite3.connect(tmp_path / "state" / "outbox.db") as db:
        assert db.execute("SELECT count(*) FROM samples").fetchone() == (0,)


def test_a_broker_that_is_killed_and_comes_back_costs_no_sample(
    broker, vehicle, listener_identity, tmp_path, deliveries
):
    with Relay(broker.port) as relay:
        delivery = deliveries(
            tmp_path / "state", relay.port, vehicle, limits=QUICK, flush_interval_s=0.1
        )
        with MosquittoSub(listener_identity, broker.port) as listener:
            wait(lambda: delivery.publisher.connected, "not connected")
            record(delivery, 1, 50, pause_s=0.01)
            wait(lambda: len(sequences_heard(listener)) >= 40, "40 samples are not heard")
            broker.kill()
            wait(lambda: not delivery.publisher.connected, "the loss was not noticed")
            # what it acknowledged and had not yet passed on died with it
            acknowledged = delivery.account()["samples_acknowledged"]
        record(delivery, 51, 100, pause_s=0.01)
        relay.cut()
        broker.start()
        with MosquittoSub(listener_identity, broker.port) as listener:
            relay.mend()
            record(delivery, 151, 50, pause_s=0.01)
            wait(lambda: delivery.outbox.waiting() == 0, "the backlog was not drained")
            wait(
                lambda: len({n for _, n in sequences_heard(listener)}) >= 200 - acknowledged,
                "a sample is missing",
            )
            assert set(range(51, 201)) <= {n for _, n in sequences_heard(listener)}
            assert listener.on(BATCH)
    account = delivery.account()
    assert account["samples_acknowledged"] == 200
    assert imbalance(account) == 0


def test_a_half_open_link_is_found_by_the_missing_puback_and_nothing_is_lost(
    broker, vehicle, listener_identity, tmp_path, deliveries
):
    with Relay(broker.port) as relay, MosquittoSub(listener_identity, broker.port) as listener:
        delivery = deliveries(
            tmp_path / "state", relay.port, vehicle, limits=QUICK, flush_interval_s=0.2
        )
        record(delivery, 1, 10, pause_s=0.01)
        wait(lambda: delivery.outbox.waiting() == 0, "not connected")
        relay.freeze()
        record(delivery, 11, 100, pause_s=0.02)
        wait(lambda: not delivery.publisher.connected, "the dead link was not noticed")
        relay.cut()
        relay.thaw()
        relay.mend()
        wait(lambda: delivery.outbox.waiting() == 0, "not drained after the link came back")
        wait(
            lambda: {n for _, n in sequences_heard(listener)} == set(range(1, 111)),
            "a sample is missing",
        )
        assert imbalance(delivery.account()) == 0


def test_a_vehicle_cannot_write_on_the_topics_of_another(
    broker, pki, vehicle, tmp_path, deliveries
):
    other = pki.vehicle("van-2")
    listener_identity = pki.vehicle(LISTENER)
    identity = {name: str(path) for name, path in dataclasses.asdict(other).items()}
    with MosquittoSub(listener_identity, broker.port) as listener:
        impostor = deliveries(tmp_path / "impostor", broker.port, identity)
        record(impostor, 1, 3)
        wait(lambda: impostor.outbox.waiting() == 0, "no answer")
        impostor.stop(1)
        honest = deliveries(tmp_path / "honest", broker.port, vehicle, run_id="0000000b")
        record(honest, 1, 3, run_id="0000000b")
        listener.wait_for(TELEMETRY, 3)
        assert {run for run, _ in sequences_heard(listener)} == {"0000000b"}


def test_live_batches_reach_the_listener_and_decode(
    broker, vehicle, listener_identity, tmp_path, deliveries
):
    with MosquittoSub(listener_identity, broker.port) as listener:
        delivery = deliveries(
            tmp_path / "state", broker.port, vehicle, delivery=DeliverySettings(batch_s=0.5)
        )
        wait(lambda: delivery.publisher.connected, "not connected")
        record(delivery, 1, 100)
        wait(lambda: len(sequences_heard(listener)) >= 100, "not all heard")
        delivery.stop(5)
        assert sorted(n for _, n in sequences_heard(listener)) == list(range(1, 101))
        assert listener.on(BATCH)
        # a sample that is alone when its batch is due goes as JSON
        assert len(listener.on(BATCH)) + len(listener.on(TELEMETRY)) <= 5


class Echo:
    """A feature that asks on each connect and notes the answers."""

    def __init__(self, exchange):
        self.connects, self.answers = 0, []
        self.channel = exchange.register(["$aws/things/van-1/echo/+"], self)

    def connected(self):
        self.connects += 1
        assert self.channel.send(f"$aws/things/van-1/echo/{self.connects}", b"{}")

    def disconnected(self):
        self.answers.append("disconnected")

    def received(self, topic, _payload):
        self.answers.append(topic.rpartition("/")[2])


def test_a_feature_asks_and_is_answered_on_each_connection_while_samples_go(
    broker, vehicle, tmp_path, deliveries
):
    delivery = make_delivery(tmp_path / "state", broker.port, vehicle, limits=QUICK)
    echo = Echo(delivery.exchange)
    deliveries(delivery)
    record(delivery, 1, 50)
    wait(lambda: echo.answers == ["1"], "no answer")
    broker.kill()
    wait(lambda: echo.answers == ["1", "disconnected"], "the loss was not told")
    assert not echo.channel.send("$aws/things/van-1/echo/x", b"{}")
    record(delivery, 51, 50)
    broker.start()
    wait(lambda: echo.answers == ["1", "disconnected", "2"], "no answer after the restart")
    wait(lambda: delivery.outbox.waiting() == 0, "not drained")
    assert delivery.account()["samples_acknowledged"] == 100
    assert imbalance(delivery.account()) == 0


LIBRARIES = {
    TransportKind.PAHO: paho.mqtt.client.Client,
    TransportKind.AWSCRT: awscrt.mqtt5.Client,
}


@pytest.fixture
def start(broker, vehicle, tmp_path, deliveries):
    """A function that starts the vehicle's delivery at the broker."""
    return lambda **more: deliveries(tmp_path / "state", broker.port, vehicle, limits=QUICK, **more)


@pytest.fixture
def listener(broker, listener_identity):
    with MosquittoSub(listener_identity, broker.port) as running:
        yield running


@pytest.mark.parametrize("library", list(LIBRARIES))
def test_a_client_that_is_stuck_in_its_library_is_rebuilt_and_no_sample_is_lost(
    library, start, listener, monkeypatch
):
    reached, freed = threading.Event(), threading.Event()

    def hang(*_args, **_kwargs):
        reached.set()
        freed.wait(60)
        raise ValueError("hung")

    delivery = start(mqtt_library=library)
    record(delivery, 1, 20)
    wait(lambda: delivery.outbox.waiting() == 0, "not connected")
    with monkeypatch.context() as patch:
        patch.setattr(LIBRARIES[library], "publish", hang)
        record(delivery, 21, 20)
        assert reached.wait(20)
        wait(lambda: not delivery.publisher.connected, "the hang was not noticed")
    record(delivery, 41, 20)
    wait(lambda: delivery.outbox.waiting() == 0, "not delivered after the hang")
    wait(
        lambda: {n for _, n in sequences_heard(listener)} == set(range(1, 61)),
        "a sample is missing",
    )
    freed.set()
    assert imbalance(delivery.account()) == 0


KEPT_AFTER_S = 1.5
"""What was recorded so long before a kill is on disk: the flush interval, and a slow disk."""


def run_and_kill(state_dir, port, vehicle, run_id, after_s):
    """Start a recording process, kill -9 it ``after_s`` after its 20th sample.

    Gives ``{sequence: recorded_s}`` and the time of the kill.
    """
    given = {"state_dir": str(state_dir), "port": port, "run_id": run_id, "rate": 100, **vehicle}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.delivering_vehicle", json.dumps(given)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    try:
        first = "".join(process.stdout.readline() for _ in range(20))
        time.sleep(after_s)
    finally:
        killed_s = time.monotonic()  # before: nothing recorded later may count as old
        process.kill()
        rest = process.communicate()[0]
    lines = [line.split() for line in (first + rest).splitlines()]
    return {int(line[0]): float(line[1]) for line in lines if len(line) == 2}, killed_s


def rows(state_dir):
    with sqlite3.connect(state_dir / "outbox.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return set(db.execute("SELECT run_id, sequence FROM samples"))


@pytest.mark.parametrize("after_s", [1.6, 2.2])
def test_killed_while_offline_it_keeps_all_but_the_last_flush_interval(
    after_s, vehicle, tmp_path, free_port
):
    recorded, killed_s = run_and_kill(tmp_path, free_port(), vehicle, "0000000a", after_s)
    kept = rows(tmp_path)
    old = {n for n, at_s in recorded.items() if at_s < killed_s - KEPT_AFTER_S}
    assert len(old) >= 20
    assert {("0000000a", n) for n in old} <= kept


def test_killed_again_and_again_while_online_nothing_is_lost_but_the_last_interval(
    broker, vehicle, listener_identity, tmp_path, deliveries
):
    state = tmp_path / "state"
    wanted, everything = set(), set()
    with Relay(broker.port) as relay, MosquittoSub(listener_identity, broker.port) as listener:
        for number in range(4):
            run_id = f"0000000{number}"
            if number == 2:
                relay.cut()
            recorded, killed_s = run_and_kill(
                state, relay.port, vehicle, run_id, 1.1 + 0.23 * number
            )
            relay.mend()
            everything |= {(run_id, n) for n in recorded}
            wanted |= {
                (run_id, n) for n, at_s in recorded.items() if at_s < killed_s - KEPT_AFTER_S
            }
        last = deliveries(state, relay.port, vehicle, run_id="0000000f", limits=QUICK)
        wait(lambda: last.outbox.waiting() == 0, "not drained")
        wait(lambda: wanted <= set(sequences_heard(listener)), "a sample is missing")
        heard = set(sequences_heard(listener))
        # one more than was told may have been recorded
        assert {(run, n - 1) for run, n in heard if n > 1} <= everything
        assert imbalance(last.account()) == 0

        def mine():
            statuses = [decode_status(payload) for payload in listener.on(STATUS)]
            return [status for status in statuses if status.run_id == "0000000f"]

        wait(mine, "no status heard")
        assert mine()[0].previous_run.run_id == "00000003"
