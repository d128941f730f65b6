"""Topics, plain and through Basic Ingest."""

import pytest

from contract import ContractError, MessageKind, Topics, parse_topic


@pytest.mark.parametrize(
    ("kind", "topic"),
    [
        (MessageKind.TELEMETRY, "telemetry/van-1"),
        (MessageKind.BATCH, "telemetry/van-1/batch"),
        (MessageKind.EVENTS, "events/van-1"),
        (MessageKind.STATUS, "status/van-1"),
    ],
)
def test_every_kind_has_its_topic_and_is_found_again(kind, topic):
    assert Topics("van-1").topic(kind) == topic
    assert parse_topic(topic) == (kind, "van-1")


@pytest.mark.parametrize("kind", list(MessageKind))
def test_basic_ingest_prefixes_the_rule_and_is_found_again(kind):
    topics = Topics("van-1", basic_ingest_prefix="milepost")
    topic = topics.topic(kind)
    assert topic == f"$aws/rules/milepost_{kind}/{Topics('van-1').topic(kind)}"
    assert parse_topic(topic) == (kind, "van-1")
    assert not topics.may_retain()


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "telemetry",
        "telemetry/",
        "telemetry/a/b",
        "telemetry/+",
        "status/a/batch",
        "x/a",
        "$aws/rules/r/x/a",
        "telemetry/" + "a" * 129,
        "telemetry/a\n",
    ],
)
def test_other_topics_are_refused(topic):
    with pytest.raises(ContractError) as caught:
        parse_topic(topic)
    assert caught.value.field == "topic"


@pytest.mark.parametrize("vehicle_id", ["", "a/b", "#", "a b", "ä", "a" * 129, "a\n"])
def test_a_vehicle_id_that_is_unsafe_in_a_topic_is_refused(vehicle_id):
    with pytest.raises(ContractError):
        Topics(vehicle_id)
