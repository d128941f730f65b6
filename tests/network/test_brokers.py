"""Brokers that behave badly, and a vehicle that is not let in."""

import dataclasses
import socket
import struct
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.host import SystemClock
from agent.publisher import BackoffSettings, PublisherLimits
from agent.transport.credentials import Credentials
from agent.transport.endpoint import Endpoint, Will
from agent.transport.paho_transport import PahoTransport
from tests.fakes.mosquitto import MosquittoSub
from tests.fakes.mqtt_peer import MqttPeer, acknowledge
from tests.fakes.network_scene import (
    BACKOFF,
    QUICK,
    VEHICLE,
    Scene,
    check,
    identities,
    most_attempts,
    wait,
)
from tests.fakes.pki import Pki

pytestmark = pytest.mark.timeout(600)
"""A long form takes two minutes, and so does isolating several messages on a busy machine."""

mosquitto = pytest.mark.needs("mosquitto", "mosquitto_sub")


class Witnesses:
    """Several, one after the other."""

    def __init__(self, *listeners):
        self._listeners = listeners

    @property
    def messages(self):
        return [message for one in self._listeners for message in one.messages]


# --- real brokers ------------------------------------------------------------------


@mosquitto
def test_a_broker_that_keeps_its_sessions_is_restarted_and_nothing_is_lost(
    make_broker, vehicle, listener_identity, tmp_path
):
    keeping = f"persistence true\npersistence_location {tmp_path}/kept/\nautosave_interval 1"
    (tmp_path / "kept").mkdir()
    with (
        make_broker(keeping) as broker,
        MosquittoSub(listener_identity, broker.port, keeps_session=True) as listener,
        Scene(tmp_path / "state", broker.port, vehicle, witness=listener) as scene,
    ):
        scene.wait_connected()
        scene.wait_progress()
        broker.end()
        wait(lambda: not scene.connected, "the loss was not noticed")
        scene.record(50)
        broker.start()
        scene.wait_progress(60)
        # the broker passes on again what its subscriber had not acknowledged to it
        scene.end(broker_repeats=True)


@mosquitto
def test_a_broker_that_forgets_everything_is_killed_and_only_what_it_had_acknowledged_is_lost(
    make_broker, vehicle, listener_identity, tmp_path
):
    with (
        make_broker() as broker,
        MosquittoSub(listener_identity, broker.port) as listener,
        Scene(tmp_path / "state", broker.port, vehicle, witness=listener) as scene,
    ):
        acknowledged = set()
        settle = scene.delivery.outbox.acknowledge

        def noted(messages):
            acknowledged.update((one.run_id, one.sequence) for one in messages)
            settle(messages)

        scene.delivery.outbox.acknowledge = noted
        scene.wait_connected()
        scene.wait_progress()
        broker.kill()
        wait(lambda: not scene.connected, "the loss was not noticed")
        before = set(acknowledged)
        scene.become("cut")  # the witness comes back first
        broker.start()
        with MosquittoSub(listener_identity, broker.port) as second:
            scene.witness = Witnesses(listener, second)
            scene.become()
            scene.wait_progress(20)
            scene.end(lost_by_broker=before)


@mosquitto
def test_two_clients_with_one_id_push_each_other_out_without_a_storm_and_no_sample_is_blamed(
    listener, vehicle, tmp_path, full, caplog
):
    stealing = threading.Event()
    stolen = []

    def steal():
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=VEHICLE, reconnect_on_failure=False
        )
        client.tls_set(vehicle["ca_file"], vehicle["certificate_file"], vehicle["key_file"])
        client.on_connect = lambda *_: stolen.append(1)
        while not stealing.wait(0.1):
            client.connect("127.0.0.1", listener.port)
            while client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS and not stealing.is_set():
                pass
        client.disconnect()

    for_s = 120 if full else 4
    limits = dataclasses.replace(QUICK, trial_after_s=10.0)
    with Scene(tmp_path, listener.port, vehicle, witness=listener, limits=limits) as scene:
        scene.wait_progress()
        before = scene.attempts
        thief = threading.Thread(target=steal, name="thief")
        thief.start()
        try:
            time.sleep(for_s)
            made = scene.attempts - before
        finally:
            stealing.set()
            thief.join()
        assert len(stolen) >= 3
        assert 2 <= made <= most_attempts(BACKOFF, for_s)
        assert "another client may use this vehicle's id" in caplog.text
        scene.end()


@mosquitto
def test_a_revoked_certificate_is_tried_rarely_and_a_new_one_is_used_without_a_restart(
    pki, make_broker, listener_identity, tmp_path, caplog
):
    old = pki.vehicle(VEHICLE)
    revoked = pki.revoke(old)
    mine = {}
    for name, path in dataclasses.asdict(old).items():
        mine[name] = str(tmp_path / name)
        Path(mine[name]).write_bytes(path.read_bytes())
    backoff = BackoffSettings(
        base_s=0.05, cap_s=0.2, least_gap_s=0.05, refused_base_s=1.0, refused_cap_s=2.0
    )
    limits = PublisherLimits(backoff=backoff)
    with (
        make_broker(f"crlfile {revoked}") as broker,
        MosquittoSub(listener_identity, broker.port) as listener,
        Scene(tmp_path / "state", broker.port, mine, witness=listener, limits=limits) as scene,
    ):
        time.sleep(4)
        # 1 s, then 2 s, half of it at least: 0, 0.5, 1.5, 2.5, 3.5
        assert 1 <= scene.attempts <= 6
        assert not scene.connected
        assert "this vehicle's certificate was revoked" in caplog.text
        renewed = pki.vehicle(VEHICLE)
        for name, path in dataclasses.asdict(renewed).items():
            Path(mine[name]).write_bytes(path.read_bytes())
        scene.wait_progress()
        assert scene.end().duplicated == 0


@mosquitto
def test_a_certificate_of_a_foreign_authority_is_tried_rarely_and_costs_nothing(
    pki, broker, listener, tmp_path, caplog
):
    foreign = Pki(tmp_path / "foreign", name="Foreign CA").vehicle(VEHICLE)
    mine = {name: str(path) for name, path in dataclasses.asdict(foreign).items()}
    mine["ca_file"] = str(pki.ca_file)
    backoff = dataclasses.replace(BACKOFF, refused_base_s=1.0, refused_cap_s=1.0)
    limits = PublisherLimits(backoff=backoff)
    with Scene(tmp_path / "state", broker.port, mine, witness=listener, limits=limits) as scene:
        time.sleep(3)
        assert 2 <= scene.attempts <= 7
        assert "does not know the CA" in caplog.text
        waiting = scene.delivery.outbox.waiting()
        assert waiting == len(scene.created) or waiting + 1 == len(scene.created)
        good = pki.vehicle(VEHICLE)
        foreign.certificate_file.write_bytes(good.certificate_file.read_bytes())
        foreign.key_file.write_bytes(good.key_file.read_bytes())
        scene.wait_progress()
        scene.end()


@mosquitto
def test_a_name_that_cannot_be_resolved_is_tried_again_until_it_can(
    listener, vehicle, tmp_path, monkeypatch, caplog
):
    """The resolver is the one thing that is fake: its answer, not the error's handling."""
    resolve, known, asked = socket.getaddrinfo, [], []

    def answer(host, *rest, **more):
        if host != "localhost":
            return resolve(host, *rest, **more)
        asked.append(time.monotonic())
        if not known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with Scene(tmp_path, listener.port, vehicle, witness=listener) as scene:
        time.sleep(3)
        assert 2 <= len(asked) <= most_attempts(BACKOFF, 3)
        assert "name cannot be resolved" in caplog.text
        assert scene.attempts == 0
        known.append(True)
        scene.wait_progress()
        scene.end()


# --- a scripted one, for what Mosquitto cannot be made to do -----------------------


@pytest.fixture
def play(broker_identity, vehicle, tmp_path):
    """A vehicle and a scripted broker, which is the witness too."""
    peers = []

    def start(*, limits=QUICK, rate=50, **script):
        peer = MqttPeer(broker_identity, **script)
        peers.append(peer)
        return peer, Scene(
            tmp_path / "state", peer.port, vehicle, witness=peer, limits=limits, rate=rate
        )

    yield start
    for peer in peers:
        peer.close()


def mend(peer):
    peer.connack, peer.answer, peer.on_connect = 0, acknowledge, lambda _: None


@pytest.mark.parametrize("kicks", ["at once", "at the first publish"])
def test_a_broker_that_accepts_and_then_kicks_is_not_stormed(play, kicks, full):
    def kick(connection, _=None):
        connection.close()

    for_s = 120 if full else 4
    script = {"on_connect": kick} if kicks == "at once" else {"answer": kick}
    peer, scene = play(**script)
    with scene:
        time.sleep(for_s)
        assert 2 <= len(peer.connects_s) <= most_attempts(BACKOFF, for_s)
        mend(peer)
        scene.end()


def test_a_connack_that_never_comes_is_not_waited_for_for_ever(play):
    peer, scene = play(connack=None)
    with scene:
        time.sleep(4)
        assert 2 <= len(peer.connects_s) <= most_attempts(BACKOFF, 4)
        mend(peer)
        assert scene.end().duplicated == 0


def test_a_broker_that_refuses_by_its_connack_is_tried_rarely(play, caplog):
    backoff = dataclasses.replace(BACKOFF, refused_base_s=1.0, refused_cap_s=1.0)
    peer, scene = play(connack=5, limits=PublisherLimits(backoff=backoff))
    with scene:
        time.sleep(3)
        assert 2 <= len(peer.connects_s) <= 7
        assert "Not authorized" in caplog.text
        mend(peer)
        assert scene.end().duplicated == 0


def test_acknowledgements_out_of_order_settle_the_messages_they_belong_to(play):
    def backwards(connection, publish):
        connection.held.append(publish)
        if len(connection.held) == 4 or publish.topic.startswith("status/"):
            while connection.held:
                connection.puback(connection.held.pop())

    peer, scene = play(answer=backwards)
    with scene:
        scene.wait_connected()
        scene.wait_progress(50)
        mend(peer)
        scene.end()


@pytest.mark.parametrize("withheld", [{20}, {20, 21, 33}], ids=["one", "several"])
def test_messages_that_never_get_their_puback_are_set_aside_and_do_not_hold_up_the_rest(
    play, withheld, caplog
):
    def answer(connection, publish):
        # alone or in a batch
        inside = {n for _, n in identities([(publish.topic, publish.payload)])}
        if not inside & withheld:
            acknowledge(connection, publish)

    peer, scene = play(answer=answer, rate=20)
    with scene:
        wait(
            lambda: scene.delivery.account()["dropped_messages"] == {"refused": len(withheld)},
            lambda: f"{scene.delivery.account()}",
            100,
        )
        scene.wait_progress(20)
        scene._stop_recording()
        wait(lambda: scene.delivery.outbox.waiting() == 0, "not delivered")
        verdict = check(scene.created, peer.messages, scene.delivery.account())
    assert verdict.missing == set()
    assert verdict.duplicates <= scene.voided
    assert "the broker does not acknowledge it" in caplog.text


# --- how a refusal and a bad network are told apart ---------------------------------


class Ending:
    def __init__(self):
        self.ended = threading.Event()

    def on_connected(self):
        raise AssertionError("it was not accepted")

    def on_disconnected(self, reason, *, unauthorised):
        self.reason, self.unauthorised = reason, unauthorised
        self.ended.set()


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed in order", "reset"])
def test_only_a_broker_that_closes_in_order_before_its_connack_has_refused_the_vehicle(
    broker_identity, pki, abruptly
):
    class Peer(MqttPeer):
        def _take(self, connection, stream):
            stream.read(1)
            if abruptly:
                connection.tls.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            else:
                connection.tls.shutdown(socket.SHUT_WR)
                while connection.tls.recv(1000):  # closing with bytes unread would be a reset
                    pass
            return False

    mine = pki.vehicle(VEHICLE)
    ending = Ending()
    with Peer(broker_identity) as peer:
        transport = PahoTransport(
            clock=SystemClock(),
            endpoint=Endpoint("127.0.0.1", peer.port, VEHICLE, 60),
            credentials=Credentials(
                mine.ca_file, mine.certificate_file, mine.key_file, "localhost"
            ),
            make_will=lambda: Will(f"status/{VEHICLE}", b"{}", retain=True),
        )
        transport.start(ending)
        transport.connect()
        try:
            assert ending.ended.wait(20)
        finally:
            transport.close()
    assert ending.unauthorised is not abruptly, ending.reason
