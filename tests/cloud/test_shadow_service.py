"""Shadows over MQTT: real clients at the one-machine broker."""

import json

import pytest

from cloud.clock import SystemClock
from cloud.errors import StoreError
from cloud.serve.device_services import MAX_IN_FLIGHT
from cloud.serve.shadow_service import ShadowService
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_shadows import SqliteShadows
from contract.shadow import ShadowAction, ShadowTopics
from tests.fakes.one_machine import RunningBroker, wait_until

VAN = ShadowTopics("van-1")
OTHER = ShadowTopics("van-2")


@pytest.fixture
def shadows(tmp_path):
    database = Database(tmp_path / "milepost.db", MIGRATIONS, create=True)
    yield SqliteShadows(database, SystemClock())
    database.close()


@pytest.fixture
def broker(tmp_path, shadows):
    with RunningBroker(tmp_path, services=[ShadowService(shadows, SystemClock())]) as running:
        yield running


@pytest.fixture
def van(broker):
    with broker.vehicle() as vehicle:
        assert vehicle.connect()
        for topic in sorted(VAN.answers()):
            assert vehicle.subscribe(topic) == [1]
        yield vehicle


def request(vehicle, action, document=None):
    payload = b"" if document is None else json.dumps(document).encode()
    vehicle.publish_acked(VAN.request(action), payload)


def heard(vehicle, topic, count=1):
    """The ``count``-th message on a topic."""
    messages = wait_until(
        lambda: len(found := [m for m in vehicle.received if m.topic == topic]) >= count and found,
        f"{count} on {topic}",
    )
    return json.loads(messages[count - 1].payload)


def test_a_vehicle_reports_asks_and_deletes(van):
    request(van, ShadowAction.GET, {"clientToken": "first"})
    missing = heard(van, VAN.rejected(ShadowAction.GET))
    assert (missing["code"], missing["clientToken"]) == (404, "first")

    request(van, ShadowAction.UPDATE, {"state": {"reported": {"a": 1}}, "clientToken": "second"})
    accepted = heard(van, VAN.accepted(ShadowAction.UPDATE))
    assert (accepted["version"], accepted["clientToken"]) == (1, "second")
    assert heard(van, VAN.documents)["current"]["state"] == {"reported": {"a": 1}}

    request(van, ShadowAction.GET)
    assert heard(van, VAN.accepted(ShadowAction.GET))["state"] == {"reported": {"a": 1}}

    request(van, ShadowAction.DELETE)
    assert heard(van, VAN.accepted(ShadowAction.DELETE))["version"] == 1
    request(van, ShadowAction.GET)
    assert heard(van, VAN.rejected(ShadowAction.GET), 2)["code"] == 404
    assert [m for m in van.received if m.topic == VAN.delta] == []


def test_a_change_of_the_operator_reaches_a_connected_vehicle(van, shadows):
    shadows.update("van-1", {"state": {"desired": {"a": 5}}})
    assert heard(van, VAN.delta)["state"] == {"a": 5}
    assert heard(van, VAN.accepted(ShadowAction.UPDATE))["state"] == {"desired": {"a": 5}}
    request(van, ShadowAction.UPDATE, {"state": {"reported": {"a": 5}}})
    assert heard(van, VAN.documents, 2)["current"]["version"] == 2
    assert len([m for m in van.received if m.topic == VAN.delta]) == 1
    assert "delta" not in shadows.get("van-1")["state"]


def test_a_change_made_while_nobody_listens_is_not_told_but_there_to_get(broker, shadows):
    shadows.update("van-1", {"state": {"desired": {"a": 5}}})
    wait_until(lambda: not shadows.take_announcements(), "the announcement to be forgotten")
    with broker.vehicle() as late:
        assert late.connect()
        late.subscribe(VAN.delta)
        late.subscribe(VAN.accepted(ShadowAction.GET))
        request(late, ShadowAction.GET)
        assert heard(late, VAN.accepted(ShadowAction.GET))["state"]["delta"] == {"a": 5}
        assert [m.topic for m in late.received] == [VAN.accepted(ShadowAction.GET)]


def test_requests_of_one_vehicle_are_answered_in_order(van):
    for number in range(30):
        van.publish(
            VAN.request(ShadowAction.UPDATE), json.dumps({"state": {"reported": {"n": number}}})
        )
        if number % 5 == 4:
            heard(van, VAN.accepted(ShadowAction.UPDATE), number + 1)
    wait_until(lambda: len(van.acked) >= 30, "all acknowledgements")
    heard(van, VAN.accepted(ShadowAction.UPDATE), 30)
    answers = [
        json.loads(m.payload) for m in van.received if m.topic == VAN.accepted(ShadowAction.UPDATE)
    ]
    assert [one["version"] for one in answers] == list(range(1, 31))
    assert [one["state"]["reported"]["n"] for one in answers] == list(range(30))


def test_a_stale_version_and_a_broken_document_are_rejected_and_change_nothing(van, shadows):
    shadows.update("van-1", {"state": {"desired": {"a": 5}}})
    for document, code in (
        ({"state": {"reported": {"a": 5}}, "version": 9}, 409),
        ({"state": {"repported": {}}}, 400),
        ({"state": {"reported": {"a": "x" * 8200}}}, 413),
    ):
        van.received.clear()
        request(van, ShadowAction.UPDATE, document)
        assert heard(van, VAN.rejected(ShadowAction.UPDATE))["code"] == code
    assert shadows.get("van-1")["version"] == 1


@pytest.mark.parametrize(
    "topic",
    [
        *(OTHER.request(action) for action in ShadowAction),
        VAN.request(ShadowAction.GET).replace("/milepost/", "/other/"),
        VAN.request(ShadowAction.UPDATE) + "/",
        VAN.delta,
        VAN.accepted(ShadowAction.GET),
        "$aws/things/van-1/shadow/update",
        "$aws/rules/milepost_telemetry/" + VAN.request(ShadowAction.UPDATE),
    ],
)
def test_a_vehicle_that_publishes_on_a_topic_that_is_not_its_own_is_disconnected(
    topic, van, broker, shadows
):
    shadows.update("van-2", {"state": {"desired": {"a": 1}}})
    van.publish(topic, json.dumps({"state": {"desired": {"a": 2}}}))
    assert van.disconnected.wait(20)
    assert shadows.get("van-2")["version"] == 1


@pytest.mark.parametrize(
    "topic_filter",
    [
        *sorted(OTHER.answers()),
        "$aws/things/+/shadow/name/milepost/update/delta",
        "$aws/things/van-1/shadow/name/+/update/delta",
        "$aws/things/van-1/shadow/#",
        "$aws/#",
        VAN.request(ShadowAction.UPDATE),
    ],
)
def test_a_vehicle_cannot_subscribe_to_what_is_not_its_own(topic_filter, broker):
    with broker.vehicle() as vehicle:
        assert vehicle.connect()
        assert vehicle.subscribe(topic_filter) == [128]


def test_a_vehicle_hears_nothing_of_another_ones_shadow(van, broker, shadows):
    with broker.vehicle("van-2") as other:
        assert other.connect()
        other.subscribe(OTHER.delta)
        shadows.update("van-2", {"state": {"desired": {"a": 1}}})
        heard(other, OTHER.delta)
        shadows.update("van-1", {"state": {"desired": {"a": 2}}})
        assert heard(van, VAN.delta)["state"] == {"a": 2}
        assert {m.topic for m in other.received} == {OTHER.delta}
        assert all("van-1" in m.topic for m in van.received)


def test_a_last_will_or_a_retained_message_on_a_shadow_topic_is_refused(broker):
    topic = VAN.request(ShadowAction.UPDATE)
    with broker.vehicle(will=(topic, b"{}")) as vehicle:
        assert not vehicle.connect()
    with broker.vehicle() as vehicle:
        assert vehicle.connect()
        vehicle.publish(topic, b"{}", retain=True)
        assert vehicle.disconnected.wait(20)


class Failing(SqliteShadows):
    def answer(self, *_):
        raise StoreError("the disk is full")


def test_a_broken_store_is_an_internal_failure_and_the_connection_stays(tmp_path, shadows):
    service = ShadowService(Failing(shadows._database, SystemClock()), SystemClock())
    with RunningBroker(tmp_path, services=[service]) as broker, broker.vehicle() as vehicle:
        assert vehicle.connect()
        vehicle.subscribe(VAN.rejected(ShadowAction.GET))
        request(vehicle, ShadowAction.GET, {"clientToken": "mine"})
        answer = heard(vehicle, VAN.rejected(ShadowAction.GET))
        assert (answer["code"], answer["clientToken"]) == (500, "mine")
        assert broker.broker.connected() == ["van-1"]


def test_more_requests_at_once_than_aws_takes_are_refused(van):
    for _ in range(50):
        van.publish(VAN.request(ShadowAction.UPDATE), b'{"state": {"reported": {"a": 1}}}')
    wait_until(
        lambda: sum(m.topic.endswith(("accepted", "rejected")) for m in van.received) == 50,
        "50 answers",
    )
    codes = [json.loads(m.payload)["code"] for m in van.received if m.topic.endswith("rejected")]
    assert set(codes) <= {429}
    assert len(codes) <= 50 - MAX_IN_FLIGHT
