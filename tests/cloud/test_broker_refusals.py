"""Who is turned away, and that nothing they sent got in."""

import socket
import ssl
import subprocess
from datetime import timedelta

import pytest

from cloud.clock import SystemClock
from cloud.errors import StoreError
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_registry import SqliteRegistry
from tests.conftest import program
from tests.fakes.one_machine import (
    RunningBroker,
    Vehicle,
    authority_in,
    identity,
    sample_json,
    wait_until,
)


@pytest.fixture
def broker(tmp_path):
    with RunningBroker(tmp_path) as running:
        yield running


def refusals(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def await_reason(caplog, words):
    """A client may learn of its refusal a moment before the log does."""
    wait_until(lambda: any(words in text for text in refusals(caplog)), f"a line with {words!r}")


def test_a_vehicle_with_its_own_certificate_is_let_in(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish_acked("telemetry/van-1", sample_json())
    assert [document["sequence"] for document in broker.documents()] == [1]


def test_a_client_without_a_certificate_is_refused(broker, caplog):
    with broker.vehicle(certificate=False) as van:
        assert not van.connect()
    await_reason(caplog, "no certificate")
    assert broker.broker.connected() == []


def test_a_certificate_of_another_authority_is_refused(broker, tmp_path, caplog):
    foreign = identity(authority_in(tmp_path / "foreign-pki"), "van-1", tmp_path / "foreign")
    (foreign / "ca.pem").write_bytes(broker.authority.certificate_file.read_bytes())
    with broker.vehicle(folder=foreign) as van:
        assert not van.connect()
    await_reason(caplog, "not accepted")
    assert broker.broker.connected() == []


def test_an_expired_certificate_is_refused(broker, caplog):
    long_ago = SystemClock().utc() - timedelta(days=40)
    folder = broker.identity("van-1", now=long_ago, days=30)
    with broker.vehicle(folder=folder) as van:
        assert not van.connect()
    await_reason(caplog, "expired")


def test_a_revoked_certificate_is_refused(broker, caplog):
    folder = broker.identity("van-1")
    broker.registry.revoke("van-1")
    renewed = broker.identity("van-1", folder=broker.folder / "renewed")
    with broker.vehicle(folder=folder) as van:
        assert not van.connect()
    await_reason(caplog, "is revoked")
    with broker.vehicle(folder=renewed) as van:
        assert van.connect()


def test_revoking_ends_a_connection_that_is_open(broker):
    with broker.vehicle() as van:
        assert van.connect()
        broker.registry.revoke("van-1")
        assert van.disconnected.wait(10)


class BreakableRegistry(SqliteRegistry):
    broken = False

    def revision(self):
        if self.broken:
            raise StoreError("the disk is gone")
        return super().revision()

    def principal(self, certificate_id):
        self.revision()
        return super().principal(certificate_id)


def test_without_its_registry_the_broker_lets_nobody_in_and_keeps_who_is_there(tmp_path, caplog):
    database = Database(tmp_path / "registry.db", MIGRATIONS, create=True)
    registry = BreakableRegistry(database, SystemClock())
    with (
        RunningBroker(tmp_path, registry=registry) as broker,
        broker.vehicle("van-1") as first,
        broker.vehicle("van-2") as second,
    ):
        assert first.connect()
        registry.broken = True
        assert not second.connect()
        await_reason(caplog, "the disk is gone")
        wait_until(lambda: "open connections stay" in caplog.text, "the error")
        first.publish_acked("telemetry/van-1", sample_json())
        registry.broken = False
        registry.revoke("van-1")
        assert first.disconnected.wait(10)
    database.close()


def test_a_certificate_that_is_not_in_the_registry_is_refused(broker, tmp_path, caplog):
    folder = identity(broker.authority, "van-1", tmp_path / "unknown")
    with broker.vehicle(folder=folder) as van:
        assert not van.connect()
    await_reason(caplog, "not in the registry")


def test_the_servers_own_certificate_is_no_vehicles(broker, tmp_path):
    folder = broker.identity("van-1")
    server = broker.authority.server_file([], SystemClock().utc()).read_bytes()
    (folder / "certificate.pem").write_bytes(server)
    (folder / "key.pem").write_bytes(server)
    with broker.vehicle(folder=folder, client_id="localhost") as van:
        assert not van.connect()


def test_a_client_id_that_is_not_the_certificates_vehicle_is_refused(broker, caplog):
    with broker.vehicle("van-1", client_id="van-2") as van:
        assert not van.connect()
        assert van.connack == 135  # "not authorized", as paho translates 5
    await_reason(caplog, "not its certificate's vehicle")


def test_a_stranger_cannot_end_the_session_of_a_vehicle_by_using_its_client_id(broker):
    with broker.vehicle("van-1") as van, broker.vehicle("van-2", client_id="van-1") as stranger:
        assert van.connect()
        assert not stranger.connect()
        van.publish_acked("telemetry/van-1", sample_json())


@pytest.mark.parametrize(
    "topic",
    [
        "telemetry/van-2",
        "telemetry/van-2/batch",
        "events/van-2",
        "status/van-2",
        "$aws/rules/milepost_telemetry/telemetry/van-2",
        "$aws/rules/milepost_status/telemetry/van-1",
        "$aws/things/van-1/shadow/update",
        "telemetry/van-1/other",
        "anything",
    ],
)
def test_publishing_anywhere_but_on_its_own_topics_ends_the_connection(broker, topic, caplog):
    with broker.vehicle() as van:
        assert van.connect()
        mid = van.publish(topic, sample_json("van-2"))
        assert van.disconnected.wait(10)
        assert mid not in van.acked
    await_reason(caplog, "disconnected van-1")
    assert broker.stream.newest("TelemetryStream") == 0
    assert broker.stream.newest("VehicleStatusTable") == 0


@pytest.mark.parametrize(
    "topic_filter", ["#", "+/van-1", "telemetry/#", "telemetry/van-2", "status/+", "$SYS/#"]
)
def test_subscribing_beyond_its_own_topics_is_refused(broker, topic_filter):
    with broker.vehicle("van-1") as van, broker.vehicle("van-2") as other:
        assert van.connect()
        assert van.subscribe(topic_filter) == [128]
        assert other.connect()
        other.publish_acked("telemetry/van-2", sample_json("van-2"))
        van.publish_acked("telemetry/van-1", sample_json("van-1"))
        assert van.received == []


def test_a_last_will_on_another_vehicles_topic_is_refused(broker):
    with broker.vehicle("van-1", will=("status/van-2", "{}")) as van:
        assert not van.connect()


def test_a_payload_over_128_kb_ends_the_connection(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish("telemetry/van-1", b"x" * (128 * 1024 + 1))
        assert van.disconnected.wait(10)
    assert broker.records() == []


def test_qos_2_is_refused_as_on_aws(broker):
    with broker.vehicle() as van:
        assert van.connect()
        van.publish("telemetry/van-1", sample_json(), qos=2)
        assert van.disconnected.wait(10)
    assert broker.records() == []


def test_more_connections_than_allowed_are_refused(tmp_path, caplog):
    with (
        RunningBroker(tmp_path, max_connections=1) as broker,
        broker.vehicle("van-1") as first,
        broker.vehicle("van-2") as second,
    ):
        assert first.connect()
        assert not second.connect()
        first.publish_acked("telemetry/van-1", sample_json())
    await_reason(caplog, "connections are open already")


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\xff", b""])
def test_what_is_no_mqtt_is_hung_up_on(broker, garbage):
    folder = broker.identity("van-1")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with (
        socket.create_connection(("127.0.0.1", broker.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        secured.sendall(garbage)
        if garbage:
            assert secured.recv(100) == b""
    with broker.vehicle() as van:
        assert van.connect()


def test_plain_tcp_gets_no_word_of_mqtt(broker):
    with socket.create_connection(("127.0.0.1", broker.port), 10) as plain:
        plain.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05van-1")
        answer = plain.recv(100)
    assert not answer.startswith(b"\x20")


@pytest.mark.needs("mosquitto_pub")
def test_mosquitto_pub_is_served_and_refused_alike(broker):
    folder = broker.identity("van-1")

    def publish(topic, *, certificate=True, client_id="van-1"):
        own = ["--cert", folder / "certificate.pem", "--key", folder / "key.pem"]
        return subprocess.run(
            [
                *(program("mosquitto_pub"), "-h", "localhost", "-p", str(broker.port)),
                *("--cafile", folder / "ca.pem", *(own if certificate else [])),
                *("-i", client_id, "-q", "1", "-t", topic, "-m", sample_json()),
            ],
            capture_output=True,
            timeout=30,
            check=False,
        ).returncode

    assert publish("telemetry/van-1") == 0
    assert publish("telemetry/van-2") != 0
    assert publish("telemetry/van-1", certificate=False) != 0
    assert publish("telemetry/van-1", client_id="van-9") != 0
    assert len(broker.records()) == 1


def test_a_vehicle_object_without_a_broker_says_no(free_port, tmp_path):
    folder = identity(authority_in(tmp_path / "pki"), "van-1", tmp_path / "van-1")
    with Vehicle(free_port(), folder, "van-1") as van:
        assert not van.connect()
