"""The paho transport against a real Mosquitto: mutual TLS, refusals, half-open links."""

import logging
import threading
import time
from datetime import timedelta

import pytest

from agent.errors import IdentityError
from agent.host import SystemClock, system_utc
from agent.ports import PublishOutcome
from agent.transport import Credentials, PahoTransport, check_credentials
from agent.transport.endpoint import Endpoint, Will
from contract import TimeQuality
from tests.fakes.clock import FakeClock
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub, mosquitto_pub
from tests.fakes.pki import Pki
from tests.fakes.relay import Relay

pytestmark = pytest.mark.needs("mosquitto")


class Heard:
    """Collects what the transport reports."""

    def __init__(self):
        self.changed = threading.Condition()
        self.connected = 0
        self.failures = []
        self.outcomes = {}
        self.answers = {}
        self.messages = []

    def on_connected(self):
        with self.changed:
            self.connected += 1
            self.changed.notify_all()

    def on_disconnected(self, reason, *, unauthorised):
        with self.changed:
            self.failures.append((reason, unauthorised))
            self.changed.notify_all()

    def on_outcome(self, token, outcome):
        with self.changed:
            assert token not in self.outcomes, "an outcome came twice"
            self.outcomes[token] = outcome
            self.changed.notify_all()

    def on_subscribed(self, topic_filter, refusal):
        with self.changed:
            self.answers[topic_filter] = refusal
            self.changed.notify_all()

    def on_message(self, topic, payload):
        with self.changed:
            self.messages.append((topic, payload))
            self.changed.notify_all()

    def wait(self, condition, timeout_s=15):
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), (self.failures, self.outcomes)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def vehicle(pki):
    return pki.vehicle("van-1")


@pytest.fixture(scope="module")
def broker_identity(pki):
    return pki.broker()


@pytest.fixture
def broker(tmp_path, broker_identity, free_port):
    with Mosquitto(tmp_path / "broker", broker_identity, free_port()) as running:
        yield running


@pytest.fixture
def dial():
    made = []

    def make(
        port, identity, *, ca_file=None, server_name="localhost", clock=None, vehicle_id="van-1"
    ):
        transport = PahoTransport(
            clock=clock or SystemClock(),
            endpoint=Endpoint("127.0.0.1", port, vehicle_id, 60),
            credentials=Credentials(
                ca_file or identity.ca_file,
                identity.certificate_file,
                identity.key_file,
                server_name,
            ),
            make_will=lambda: Will(f"status/{vehicle_id}", b'{"state":"offline"}', retain=True),
        )
        heard = Heard()
        transport.start(heard)
        transport.connect()
        made.append(transport)
        return transport, heard

    yield make
    for transport in made:
        transport.close()


def test_each_message_is_acknowledged_by_its_own_token(broker, vehicle, dial):
    transport, heard = dial(broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    for token in range(1, 201):
        transport.publish(token, "telemetry/van-1", b"x" * 500)
    heard.wait(lambda: len(heard.outcomes) == 200)
    assert set(heard.outcomes) == set(range(1, 201))
    assert set(heard.outcomes.values()) == {PublishOutcome.ACKNOWLEDGED}


@pytest.mark.needs("mosquitto_sub")
def test_the_last_will_fires_when_the_connection_is_dropped_and_not_after_a_farewell(
    broker, vehicle, pki, dial
):
    with MosquittoSub(pki.vehicle(LISTENER), broker.port) as listener:
        transport, heard = dial(broker.port, vehicle)
        heard.wait(lambda: heard.connected)
        transport.disconnect()
        assert heard.failures == [("dropped by the agent", False)]
        assert listener.wait_for("status/van-1", 1) == [b'{"state":"offline"}']
        transport.connect()
        heard.wait(lambda: heard.connected == 2)
        transport.close(("status/van-1", b'{"state":"gone"}'))
        assert listener.wait_for("status/van-1", 2)[1:] == [b'{"state":"gone"}']
        time.sleep(0.3)
        assert len(listener.on("status/van-1")) == 2


def test_a_publish_while_disconnected_is_reported_lost_and_never_sent(broker, vehicle, dial):
    transport, heard = dial(broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    broker.kill()
    heard.wait(lambda: heard.failures)
    transport.publish(7, "telemetry/van-1", b"late")
    assert heard.outcomes == {7: PublishOutcome.CONNECTION_LOST}


@pytest.mark.needs("mosquitto_sub")
def test_what_was_in_flight_at_a_cut_is_reported_lost_once_and_not_sent_by_the_client_itself(
    broker, vehicle, pki, dial
):
    with Relay(broker.port) as relay, MosquittoSub(pki.vehicle(LISTENER), broker.port) as listener:
        transport, heard = dial(relay.port, vehicle)
        heard.wait(lambda: heard.connected)
        relay.freeze()
        for token in (1, 2, 3):
            transport.publish(token, "telemetry/van-1", b"%d" % token)
        time.sleep(0.3)
        assert heard.outcomes == {}
        transport.disconnect()
        assert set(heard.outcomes.values()) == {PublishOutcome.CONNECTION_LOST}
        relay.cut()
        relay.thaw()
        relay.mend()
        transport.connect()
        heard.wait(lambda: heard.connected == 2)
        transport.publish(4, "telemetry/van-1", b"4")
        heard.wait(lambda: 4 in heard.outcomes)
        assert listener.wait_for("telemetry/van-1", 1) == [b"4"]


@pytest.mark.needs("mosquitto_sub")
def test_a_burst_that_the_network_does_not_take_at_once_arrives_whole_and_in_order(
    broker, vehicle, pki, dial
):
    payloads = [bytes([number]) * 100_000 for number in range(120)]
    with Relay(broker.port) as relay, MosquittoSub(pki.vehicle(LISTENER), broker.port) as listener:
        transport, heard = dial(relay.port, vehicle)
        heard.wait(lambda: heard.connected)
        relay.freeze()
        for token, payload in enumerate(payloads):
            transport.publish(token, "telemetry/van-1", payload)
        time.sleep(0.5)
        assert heard.outcomes == {}
        relay.thaw()
        heard.wait(lambda: len(heard.outcomes) == len(payloads))
        assert set(heard.outcomes.values()) == {PublishOutcome.ACKNOWLEDGED}
        assert listener.wait_for("telemetry/van-1", len(payloads)) == payloads


def test_a_message_above_128_kb_is_refused_and_the_connection_lives(broker, vehicle, dial):
    transport, heard = dial(broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    transport.publish(1, "telemetry/van-1", b"x" * (128 * 1024 + 1))
    transport.publish(2, "telemetry/van-1", b"x" * 128 * 1024)
    heard.wait(lambda: len(heard.outcomes) == 2)
    assert heard.outcomes[1] is PublishOutcome.REFUSED
    assert heard.outcomes[2] is PublishOutcome.ACKNOWLEDGED


def test_it_hears_what_it_subscribed_to_and_again_only_after_it_subscribed_again(
    broker, vehicle, dial
):
    transport, heard = dial(broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    filters = ("$aws/things/van-1/a/+", "$aws/things/van-1/b")
    transport.subscribe(filters)
    heard.wait(lambda: len(heard.answers) == 2)
    assert heard.answers == dict.fromkeys(filters)
    transport.publish(1, "$aws/things/van-1/a/x", b"1")
    transport.publish(2, "$aws/things/van-1/b", b"2")
    heard.wait(lambda: len(heard.messages) == 2)
    assert sorted(heard.messages) == [
        ("$aws/things/van-1/a/x", b"1"),
        ("$aws/things/van-1/b", b"2"),
    ]
    transport.disconnect()
    transport.connect()
    heard.wait(lambda: heard.connected == 2)
    transport.publish(3, "$aws/things/van-1/b", b"3")
    heard.wait(lambda: 3 in heard.outcomes)
    assert len(heard.messages) == 2


@pytest.mark.needs("mosquitto_pub")
def test_an_incoming_message_above_128_kb_is_dropped_and_the_next_is_heard(
    broker, vehicle, pki, dial, caplog
):
    transport, heard = dial(broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    topic = "$aws/things/van-1/large"
    transport.subscribe([topic])
    heard.wait(lambda: heard.answers)
    sender = pki.vehicle(LISTENER)
    mosquitto_pub(sender, broker.port, topic, b"x" * (128 * 1024 + 1))
    mosquitto_pub(sender, broker.port, topic, b"x" * 128 * 1024)
    heard.wait(lambda: heard.messages)
    assert [len(payload) for _, payload in heard.messages] == [128 * 1024]
    assert f"131073 bytes on {topic}" in caplog.text


def failure_of(heard):
    heard.wait(lambda: heard.failures)
    assert heard.connected == 0
    return heard.failures[0]


def test_an_expired_vehicle_certificate_is_named_as_the_cause(broker, pki, dial):
    expired = pki.vehicle("van-old", valid_days=(-9, -1))
    reason, unauthorised = failure_of(dial(broker.port, expired, vehicle_id="van-old")[1])
    assert "this vehicle's certificate has expired" in reason
    assert "issue a new one" in reason
    assert unauthorised


def test_a_vehicle_certificate_of_a_foreign_ca_is_named_as_the_cause(broker, pki, tmp_path, dial):
    foreign = Pki(tmp_path / "foreign", name="Foreign CA").vehicle("van-1")
    reason, unauthorised = failure_of(dial(broker.port, foreign, ca_file=pki.ca_file)[1])
    assert "does not know the CA that signed this vehicle's certificate" in reason
    assert unauthorised


def test_a_broker_of_a_foreign_ca_is_named_as_the_cause(broker, vehicle, tmp_path, dial):
    other_ca = Pki(tmp_path / "foreign", name="Foreign CA").ca_file
    reason, unauthorised = failure_of(dial(broker.port, vehicle, ca_file=other_ca)[1])
    assert "was not signed by the CA in broker.ca_file" in reason
    assert unauthorised


def test_a_broker_with_another_name_is_named_as_the_cause(broker, vehicle, dial):
    reason, _ = failure_of(dial(broker.port, vehicle, server_name="broker.example")[1])
    assert "is for another name than 'broker.example'" in reason
    assert "broker.server_name" in reason


def test_the_name_to_check_may_differ_from_the_host_that_is_dialled(
    tmp_path, pki, vehicle, dial, free_port
):
    identity = Pki(tmp_path / "named")
    named = identity.broker(names=("broker.example",), addresses=())
    with Mosquitto(tmp_path / "broker", named, free_port()) as broker:
        client = identity.vehicle("van-1")
        _, heard = dial(broker.port, client, server_name="broker.example")
        heard.wait(lambda: heard.connected)


@pytest.mark.parametrize(
    "case",
    [
        ((-9, -1), TimeQuality.UNSYNCED, 0, "this board's clock is not set", False),
        ((1, 9), TimeQuality.UNSYNCED, 0, "this board's clock is not set", False),
        ((-9, -1), TimeQuality.GPS, 0, "the broker's certificate has expired", True),
        ((1, 9), TimeQuality.NTP, 0, "the broker's certificate is not valid yet", True),
        ((-9, -1), TimeQuality.GPS, 5, "system clock is 5.0 days ahead (gps says so)", False),
        ((1, 9), TimeQuality.GPS, -5, "system clock is 5.0 days behind (gps says so)", False),
    ],
)
def test_a_broker_certificate_out_of_date_is_told_apart_from_a_clock_that_is_wrong(
    case, tmp_path, dial, free_port
):
    valid_days, quality, clock_off_days, expected, unauthorised = case
    pki = Pki(tmp_path / "pki")
    out_of_date = pki.broker(valid_days=valid_days)
    with Mosquitto(tmp_path / "broker", out_of_date, free_port()) as broker:
        trusted = system_utc() - timedelta(days=clock_off_days)
        clock = FakeClock(start=trusted, quality=quality)
        heard = dial(broker.port, pki.vehicle("van-1"), clock=clock)[1]
        reason, was_unauthorised = failure_of(heard)
    assert expected in reason
    assert was_unauthorised is unauthorised


def test_nobody_listening_is_named_as_the_cause(vehicle, dial, free_port):
    reason, unauthorised = failure_of(dial(free_port(), vehicle)[1])
    assert "nothing listens" in reason
    assert not unauthorised


def test_a_missing_certificate_file_is_a_failure_that_names_the_key_of_the_config(
    broker, vehicle, tmp_path, dial
):
    missing = type(vehicle)(vehicle.ca_file, tmp_path / "none.pem", vehicle.key_file)
    reason, unauthorised = failure_of(dial(broker.port, missing)[1])
    assert reason.startswith("broker.certificate_file: there is no file")
    assert unauthorised


def credentials(identity, **changes):
    files = {
        "ca_file": identity.ca_file,
        "certificate_file": identity.certificate_file,
        "key_file": identity.key_file,
    }
    return Credentials(**{**files, **changes}, server_name="localhost")


def test_a_key_that_others_can_read_is_warned_of(pki, caplog):
    identity = pki.vehicle("van-open")
    identity.key_file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        check_credentials(credentials(identity))
    assert f"chmod 600 {identity.key_file}" in caplog.text


def test_a_file_that_is_not_pem_is_refused(vehicle, tmp_path):
    der = tmp_path / "key.der"
    der.write_bytes(b"\x30\x82")
    with pytest.raises(IdentityError, match=r"broker\.key_file.*is not a PEM file"):
        check_credentials(credentials(vehicle, key_file=der))


def test_a_key_of_another_certificate_is_refused(broker, vehicle, pki, dial):
    mixed = type(vehicle)(vehicle.ca_file, vehicle.certificate_file, pki.vehicle("van-3").key_file)
    reason, _ = failure_of(dial(broker.port, mixed)[1])
    assert "broker.certificate_file and broker.key_file cannot be used together" in reason


def test_closing_is_idempotent_and_safe_before_connecting(vehicle, free_port):
    transport = PahoTransport(
        clock=SystemClock(),
        endpoint=Endpoint("127.0.0.1", free_port(), "van-1", 60),
        credentials=credentials(vehicle),
        make_will=lambda: Will("status/van-1", b"{}", retain=True),
    )
    transport.start(Heard())
    transport.close()
    transport.close(("status/van-1", b"{}"))
    transport.disconnect()
