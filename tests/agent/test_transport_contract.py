"""One contract for both transports, against a real Mosquitto with mutual TLS."""

import json
import logging
import subprocess
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import awscrt.mqtt5
import paho.mqtt.client
import pytest

from agent.errors import IdentityError
from agent.host import SystemClock, system_utc
from agent.ports import PublishOutcome
from agent.transport import Credentials, check_credentials
from agent.transport.credentials import Pkcs11Key
from agent.transport.crt_transport import CrtTransport
from agent.transport.endpoint import Endpoint, Will
from agent.transport.paho_transport import PahoTransport
from contract import TimeQuality
from contract.json_codec import MAX_MESSAGE_BYTES
from tests.fakes.clock import FakeClock
from tests.fakes.mosquitto import LISTENER, Mosquitto, MosquittoSub, mosquitto_pub
from tests.fakes.pki import Pki
from tests.fakes.relay import Relay

pytestmark = pytest.mark.needs("mosquitto")

only_paho = pytest.mark.parametrize("kind", [PahoTransport], ids=["paho"])
only_awscrt = pytest.mark.parametrize("kind", [CrtTransport], ids=["awscrt"])
TELEMETRY, STATUS = "telemetry/van-1", "status/van-1"


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


@pytest.fixture(params=[PahoTransport, CrtTransport], ids=["paho", "awscrt"])
def kind(request):
    return request.param


@pytest.fixture
def make(kind):
    """A function that makes a transport that is closed at the end, and what it hears."""
    made = []

    def build(port, identity, *, host="localhost", vehicle_id="van-1", **changes):
        heard = Heard()
        transport = kind(
            clock=changes.pop("clock", None) or SystemClock(),
            endpoint=Endpoint(host, port, vehicle_id, 60),
            credentials=credentials(identity, **{"server_name": host, **changes}),
            make_will=lambda: Will(f"status/{vehicle_id}", b'{"state":"offline"}', retain=True),
        )
        transport.start(heard)
        made.append(transport)
        return transport, heard

    yield build
    for transport in made:
        transport.close()


@pytest.fixture
def dial(make):
    """The same, and it dials."""

    def build(*args, **kwargs):
        transport, heard = make(*args, **kwargs)
        transport.connect()
        return transport, heard

    return build


@pytest.fixture
def online(broker, vehicle, dial):
    """One that is connected, and what it hears."""
    transport, heard = dial(broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    return transport, heard


def credentials(identity, **changes):
    files = {
        "ca_file": identity.ca_file,
        "certificate_file": identity.certificate_file,
        "key_file": identity.key_file,
        "server_name": "localhost",
    }
    return Credentials(**{**files, **changes})


def running_threads():
    """Ids and names of all threads that belong to a transport, the libraries' own too."""
    found = {(one.native_id, one.name) for one in threading.enumerate()}
    ours = {(number, name) for number, name in found if name.startswith("mqtt-")}
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text(encoding="utf-8").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name.startswith("Aws"):
            ours.add((int(task.name), name))
    return ours


def until(condition, what, timeout_s=15):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_each_message_is_acknowledged_by_its_own_token(online):
    transport, heard = online
    for token in range(1, 201):
        transport.publish(token, TELEMETRY, b"x" * 500)
    heard.wait(lambda: len(heard.outcomes) == 200)
    assert set(heard.outcomes) == set(range(1, 201))
    assert set(heard.outcomes.values()) == {PublishOutcome.ACKNOWLEDGED}


@pytest.mark.needs("mosquitto_sub")
def test_what_it_publishes_arrives_whole_and_in_order_and_is_retained_where_asked(
    broker, pki, online
):
    transport, heard = online
    payloads = [bytes([number % 251]) * (1 + number * 997) for number in range(120)]
    with MosquittoSub(pki.vehicle(LISTENER), broker.port) as listener:
        for token, payload in enumerate(payloads):
            transport.publish(token, TELEMETRY, payload)
        transport.publish(1000, STATUS, b"kept", retain=True)
        transport.publish(1001, "events/van-1", b"not kept")
        heard.wait(lambda: len(heard.outcomes) == len(payloads) + 2)
        assert listener.wait_for(TELEMETRY, len(payloads)) == payloads
    with MosquittoSub(pki.vehicle(LISTENER), broker.port) as late:
        assert late.wait_for(STATUS, 1) == [b"kept"]
        assert late.messages == [(STATUS, b"kept")]


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


def test_a_publish_while_disconnected_is_reported_lost_and_never_sent(broker, online):
    transport, heard = online
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
            transport.publish(token, TELEMETRY, payload)
        time.sleep(0.5)
        assert heard.outcomes == {}
        relay.thaw()
        heard.wait(lambda: len(heard.outcomes) == len(payloads))
        assert set(heard.outcomes.values()) == {PublishOutcome.ACKNOWLEDGED}
        assert listener.wait_for(TELEMETRY, len(payloads)) == payloads


def test_a_message_above_128_kb_is_refused_and_the_connection_lives(online):
    transport, heard = online
    transport.publish(1, "telemetry/van-1", b"x" * (MAX_MESSAGE_BYTES + 1))
    transport.publish(2, "telemetry/van-1", b"x" * MAX_MESSAGE_BYTES)
    heard.wait(lambda: len(heard.outcomes) == 2)
    assert heard.outcomes[1] is PublishOutcome.REFUSED
    assert heard.outcomes[2] is PublishOutcome.ACKNOWLEDGED


def test_it_hears_what_it_subscribed_to_and_again_only_after_it_subscribed_again(
    online,
):
    transport, heard = online
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
    broker, pki, online, caplog
):
    transport, heard = online
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


def test_a_broker_with_another_name_is_named_as_the_cause(tmp_path, dial, free_port):
    pki = Pki(tmp_path / "named")
    named = pki.broker(names=("broker.example",), addresses=())
    with Mosquitto(tmp_path / "broker", named, free_port()) as broker:
        reason, unauthorised = failure_of(dial(broker.port, pki.vehicle("van-1"))[1])
    assert "is for another name than 'localhost'" in reason
    assert "broker.server_name" in reason
    assert unauthorised


@only_paho
def test_with_paho_the_name_to_check_may_differ_from_the_host_that_is_dialled(
    tmp_path, dial, free_port
):
    identity = Pki(tmp_path / "named")
    named = identity.broker(names=("broker.example",), addresses=())
    with Mosquitto(tmp_path / "broker", named, free_port()) as broker:
        client = identity.vehicle("van-1")
        _, heard = dial(broker.port, client, server_name="broker.example")
        heard.wait(lambda: heard.connected)


@only_paho  # the words are shared
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


def test_a_key_of_another_certificate_is_refused(broker, vehicle, pki, dial):
    mixed = type(vehicle)(vehicle.ca_file, vehicle.certificate_file, pki.vehicle("van-3").key_file)
    reason, _ = failure_of(dial(broker.port, mixed)[1])
    assert "broker.certificate_file and broker.key_file cannot be used together" in reason


def test_a_name_that_does_not_exist_is_named_as_the_cause(vehicle, dial):
    reason, unauthorised = failure_of(dial(8883, vehicle, host="no-such-host.invalid")[1])
    assert "the broker's name cannot be resolved" in reason
    assert not unauthorised


def test_a_broker_that_goes_and_comes_back_is_dialled_only_when_asked_to(broker, online):
    transport, heard = online
    broker.kill()
    heard.wait(lambda: heard.failures)
    assert heard.failures == [("the broker or the network ended the connection", False)]
    broker.start()
    time.sleep(1.0)
    assert heard.connected == 1
    transport.connect()
    heard.wait(lambda: heard.connected == 2)
    transport.publish(1, TELEMETRY, b"1")
    heard.wait(lambda: heard.outcomes == {1: PublishOutcome.ACKNOWLEDGED})
    assert len(heard.failures) == 1


def test_from_the_next_dial_on_it_shows_the_credentials_that_it_was_given_last(broker, pki, online):
    transport, heard = online
    transport.present(credentials(pki.vehicle("van-2")))
    transport.publish(1, TELEMETRY, b"1")
    heard.wait(lambda: heard.outcomes == {1: PublishOutcome.ACKNOWLEDGED})
    transport.disconnect()
    transport.connect()
    heard.wait(lambda: heard.connected == 2)
    assert "u'van-1'" in broker.log()
    assert broker.log().count("u'van-2'") == 1
    transport.disconnect()
    transport.present(credentials(pki.vehicle("van-3", valid_days=(-3, -1))))
    transport.connect()
    heard.wait(lambda: len(heard.failures) == 3, 60)
    reason, unauthorised = heard.failures[2]
    assert "expired" in reason
    assert unauthorised


@pytest.mark.needs("mosquitto_sub")
def test_one_that_leaves_has_what_is_in_flight_acknowledged_and_no_last_will(
    broker, pki, vehicle, dial
):
    with MosquittoSub(pki.vehicle("listener"), broker.port) as listener:
        transport, heard = dial(broker.port, vehicle)
        heard.wait(lambda: heard.connected)
        for token in range(1, 21):
            transport.publish(token, TELEMETRY, b"%d" % token)
        transport.leave()
        heard.wait(lambda: heard.failures)
        assert set(heard.outcomes.values()) == {PublishOutcome.ACKNOWLEDGED}
        assert len(heard.outcomes) == 20
        assert heard.failures == [("closed", False)]
        transport.connect()
        heard.wait(lambda: heard.connected == 2)
        transport.publish(21, TELEMETRY, b"21")
        listener.wait_for(TELEMETRY, 21)
        assert listener.on(STATUS) == []


def test_leaving_while_there_is_no_connection_does_nothing(broker, vehicle, make):
    transport, heard = make(broker.port, vehicle)
    transport.leave()
    transport.connect()
    heard.wait(lambda: heard.connected)
    assert heard.failures == []


def test_nothing_is_done_before_start_and_nothing_heard_before_connect(broker, vehicle, kind, make):
    unstarted = kind(
        clock=SystemClock(),
        endpoint=Endpoint("localhost", broker.port, "van-1", 60),
        credentials=credentials(vehicle),
        make_will=lambda: Will(STATUS, b"{}", retain=True),
    )
    with pytest.raises(RuntimeError, match="start"):
        unstarted.connect()
    unstarted.close()
    transport, heard = make(broker.port, vehicle)
    transport.subscribe([TELEMETRY])
    transport.disconnect()
    assert (heard.connected, heard.failures, heard.answers) == (0, [], {})
    transport.publish(1, TELEMETRY, b"")
    assert heard.outcomes == {1: PublishOutcome.CONNECTION_LOST}


def test_closing_is_idempotent_and_leaves_no_thread(vehicle, broker, make):
    others = running_threads()
    transport, heard = make(broker.port, vehicle)
    transport.close()
    transport.close((STATUS, b"{}"))
    transport.disconnect()
    transport.connect()
    heard.wait(lambda: heard.connected)
    assert "mqtt-1" in {name for _, name in running_threads() - others}
    transport.close((STATUS, b"{}"))
    transport.close()
    assert [reason for reason, _ in heard.failures] == ["closed"]
    until(lambda: running_threads() <= others, "threads are still running")


@pytest.fixture
def library(kind):
    return paho.mqtt.client.Client if kind is PahoTransport else awscrt.mqtt5.Client


def test_a_library_that_hangs_is_left_behind_and_the_next_connection_works(
    library, online, monkeypatch
):
    transport, heard = online
    reached, freed = threading.Event(), threading.Event()

    def hang(*_args, **_kwargs):
        reached.set()
        freed.wait(60)
        raise ValueError("hung")

    with monkeypatch.context() as patch:
        patch.setattr(library, "publish", hang)
        transport.publish(1, TELEMETRY, b"1")
        transport.publish(2, TELEMETRY, b"2")
        assert reached.wait(15)
        transport.disconnect()
    assert heard.outcomes == dict.fromkeys((1, 2), PublishOutcome.CONNECTION_LOST)
    assert heard.failures == [("dropped by the agent", False)]
    transport.connect()
    heard.wait(lambda: heard.connected == 2)
    transport.publish(3, TELEMETRY, b"3")
    heard.wait(lambda: heard.outcomes.get(3) is PublishOutcome.ACKNOWLEDGED)
    freed.set()


def test_a_thread_that_ends_without_a_word_is_told_and_the_next_connection_works(
    library, online, monkeypatch
):
    transport, heard = online
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)

    def end(*_args, **_kwargs):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(library, "publish", end)
        transport.publish(1, TELEMETRY, b"1")
        heard.wait(lambda: heard.failures == [("the MQTT thread ended", False)])
    assert heard.outcomes == {1: PublishOutcome.CONNECTION_LOST}
    transport.connect()
    heard.wait(lambda: heard.connected == 2)
    transport.publish(2, TELEMETRY, b"2")
    heard.wait(lambda: heard.outcomes.get(2) is PublishOutcome.ACKNOWLEDGED)


def test_one_that_was_given_up_while_it_dialled_never_connects(broker, vehicle, make):
    with Relay(broker.port) as relay:
        relay.freeze()
        transport, heard = make(relay.port, vehicle)
        transport.connect()
        until(lambda: relay.connections == 1, "it did not dial")
        transport.disconnect()
        time.sleep(0.3)
        relay.thaw()
        transport.connect()
        heard.wait(lambda: heard.connected)
        transport.publish(1, TELEMETRY, b"1")
        heard.wait(lambda: heard.outcomes)
        time.sleep(0.5)
    assert heard.connected == 1
    assert heard.outcomes == {1: PublishOutcome.ACKNOWLEDGED}
    assert broker.log().count("New client connected") == 1


@only_awscrt
def test_with_mqtt_5_a_topic_that_the_broker_denies_is_told_apart_from_a_bad_message(
    broker, vehicle, dial
):
    transport, heard = dial(broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    transport.publish(1, "telemetry/van-2", b"1")
    transport.publish(2, "telemetry/+", b"2")
    transport.publish(3, TELEMETRY, b"3")
    heard.wait(lambda: len(heard.outcomes) == 3)
    assert heard.outcomes == {
        1: PublishOutcome.DENIED,
        2: PublishOutcome.REFUSED,
        3: PublishOutcome.ACKNOWLEDGED,
    }


@pytest.fixture
def strict_broker(tmp_path, broker_identity, free_port):
    """A Mosquitto that lets van-1 do everything but subscribe to forbidden/#."""
    plugins = sorted(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
    if not plugins:
        pytest.skip("this mosquitto has no dynamic security plugin")
    everything = {"publishClientSend": True, "publishClientReceive": True, "unsubscribe": True}
    rules = {
        "defaultACLAccess": {**everything, "subscribe": True},
        "roles": [
            {
                "rolename": "vehicle",
                "acls": [{"acltype": "subscribePattern", "topic": "forbidden/#", "allow": False}],
            }
        ],
        "clients": [{"username": "van-1", "roles": [{"rolename": "vehicle"}]}],
    }
    config = tmp_path / "rules.json"
    config.write_text(json.dumps(rules), encoding="utf-8")
    config.chmod(0o666)
    extra = f"plugin {plugins[0]}\nplugin_opt_config_file {config}"
    with Mosquitto(tmp_path / "strict", broker_identity, free_port(), extra) as running:
        yield running


def test_a_refused_subscription_is_told_with_its_filter_and_the_others_are_granted(
    strict_broker, vehicle, dial
):
    transport, heard = dial(strict_broker.port, vehicle)
    heard.wait(lambda: heard.connected)
    transport.subscribe(["forbidden/x", "allowed/x", "forbidden/y"])
    heard.wait(lambda: len(heard.answers) == 3)
    assert heard.answers["allowed/x"] is None
    assert heard.answers["forbidden/x"]
    assert heard.answers["forbidden/y"]
    transport.publish(1, "allowed/x", b"1")
    heard.wait(lambda: heard.messages == [("allowed/x", b"1")])


def test_a_filter_that_mqtt_does_not_know_is_refused_and_the_connection_lives(online):
    transport, heard = online
    transport.subscribe(["a/#/b"])
    heard.wait(lambda: heard.answers)
    assert heard.answers["a/#/b"]
    transport.publish(1, TELEMETRY, b"1")
    heard.wait(lambda: heard.outcomes == {1: PublishOutcome.ACKNOWLEDGED})


PIN = "4321"


@pytest.fixture
def token(tmp_path, vehicle, monkeypatch):
    """The vehicle's key in a SoftHSM token, as a function of what to get wrong."""
    store = tmp_path / "tokens"
    store.mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {store}\nlog.level = ERROR\n", encoding="utf-8")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    new = ["--init-token", "--free", "--label", "van", "--so-pin", "1234", "--pin", PIN]
    key = ["--token", "van", "--label", "vehicle-key", "--id", "01", "--pin", PIN]
    for arguments in (new, ["--import", str(vehicle.key_file), *key]):
        subprocess.run(["softhsm2-util", *arguments], check=True, capture_output=True, timeout=30)
    pin_file = tmp_path / "pin"
    pin_file.write_text(PIN + "\n", encoding="utf-8")
    pin_file.chmod(0o600)
    module = next(Path("/usr/lib").rglob("libsofthsm2.so"))
    return Pkcs11Key(module, "van", "vehicle-key", pin_file)


@pytest.mark.needs("softhsm2-util")
@only_awscrt
def test_a_key_that_never_leaves_its_token_authenticates_the_vehicle(broker, vehicle, token, dial):
    _, heard = dial(broker.port, vehicle, key_file=None, pkcs11=token)
    heard.wait(lambda: heard.connected)


@pytest.mark.needs("softhsm2-util")
@pytest.mark.parametrize("wrong", ["token_label", "key_label", "pin_file", "module_file"])
@only_awscrt
def test_a_token_that_cannot_be_used_is_named_as_the_cause(wrong, vehicle, token, dial):
    other = token.pin_file.with_name("other")
    other.write_text("no", encoding="utf-8")
    changed = replace(token, **{wrong: other if wrong.endswith("_file") else "other"})
    _, heard = dial(8883, vehicle, key_file=None, pkcs11=changed)
    reason, unauthorised = failure_of(heard)
    assert "broker.pkcs11" in reason
    assert unauthorised


@pytest.mark.needs("softhsm2-util")
@only_awscrt
def test_with_a_key_in_a_token_a_broker_of_a_foreign_ca_is_named_as_the_cause(
    broker, vehicle, token, dial, tmp_path
):
    other_ca = Pki(tmp_path / "foreign", name="Foreign CA").ca_file
    _, heard = dial(broker.port, vehicle, key_file=None, pkcs11=token, ca_file=other_ca)
    assert "was not signed by the CA in broker.ca_file" in failure_of(heard)[0]


@pytest.mark.needs("softhsm2-util")
@only_paho
def test_paho_says_which_transport_a_key_in_a_token_needs(broker, vehicle, token, dial):
    _, heard = dial(broker.port, vehicle, key_file=None, pkcs11=token)
    assert 'Set broker.transport = "awscrt"' in failure_of(heard)[0]


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
