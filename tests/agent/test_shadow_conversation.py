"""What the agent says to the shadow service, against the one-machine cloud's own rules."""

import json

import pytest

from contract.shadow import ShadowAction
from tests.fakes.shadow_pair import VAN, Pair


def deep(levels):
    tree = 1
    for _ in range(levels):
        tree = {"a": tree}
    return tree


HALF = {"sampling": {"normal": {"interval_s": 0.5}}}


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


def interval_s(pair):
    return pair.remote.settings.sampling.normal.interval_s


def test_the_first_connection_makes_the_shadow_and_reports_every_live_key(pair):
    pair.connect()
    assert pair.counts() == (1, 1)
    assert pair.reported()["sampling"]["normal"]["interval_s"] == 1.0
    assert "desired_version" not in pair.reported()


def test_nothing_new_costs_one_question_a_connection_and_no_report(pair):
    pair.connect()
    pair.desire({**HALF, "delivery": {"batch_s": -1}, "nonsense": 1})
    pair.run(60)
    pair.counts()
    for _ in range(5):
        pair.disconnect()
        pair.connect()
        pair.run(3600)
        assert pair.counts() == (1, 0)
    pair.restart()
    pair.connect()
    assert pair.counts() == (1, 0)


def test_a_change_is_applied_and_reported_once(pair):
    pair.connect()
    pair.counts()
    pair.desire(HALF)
    pair.run(60)
    assert interval_s(pair) == 0.5
    assert [one.sampling.normal.interval_s for one in pair.applied] == [0.5]
    assert pair.counts() == (1, 1)
    assert pair.reported()["sampling"]["normal"]["interval_s"] == 0.5
    assert pair.reported()["desired_version"] == 2
    assert "delta" not in pair.cloud.get("van-1")["state"]


def test_a_report_holds_only_what_changed(pair):
    pair.connect()
    pair.said.clear()
    pair.desire(HALF)
    pair.run()
    (report,) = [document for topic, document in pair.said if topic.endswith("/update")]
    assert report["state"] == {
        "reported": {"sampling": {"normal": {"interval_s": 0.5}}, "desired_version": 2}
    }


def test_a_bad_change_is_refused_with_the_reason_and_the_old_stays(pair):
    pair.connect()
    pair.desire(HALF)
    pair.run()
    pair.desire({"sampling": {"normal": {"interval_s": -3}}})
    pair.run(60)
    assert interval_s(pair) == 0.5
    assert len(pair.applied) == 1
    reported = pair.reported()
    assert "sampling.normal.interval_s = -3" in reported["refused"]["sampling"]
    assert reported["sampling"]["normal"]["interval_s"] == 0.5
    assert pair.cloud.get("van-1")["state"]["delta"] == {"sampling": {"normal": {"interval_s": -3}}}
    pair.desire({"sampling": {"normal": {"interval_s": 2}}})
    pair.run(60)
    assert interval_s(pair) == 2
    assert "refused" not in pair.reported()


def test_what_stays_refused_is_no_reason_to_speak_again(pair):
    pair.connect()
    pair.desire({"sampling": {"normal": {"interval_s": -3}}})
    pair.run(5)
    pair.counts()
    assert [topic for topic, _ in pair.heard].count(VAN.delta) == 2, "one follows our report"
    pair.run(24 * 3600)
    assert pair.counts() == (0, 0)


def test_a_key_that_is_asked_for_no_more_returns_to_the_file_without_a_delta(pair):
    pair.connect()
    pair.desire(HALF)
    pair.run()
    pair.heard.clear()
    pair.desire({"sampling": None})
    pair.run()
    assert VAN.delta not in [topic for topic, _ in pair.heard]
    assert interval_s(pair) == 1.0
    assert pair.reported()["sampling"]["normal"]["interval_s"] == 1.0


def test_a_change_while_offline_is_found_on_the_next_connection(pair):
    pair.connect()
    pair.disconnect()
    pair.desire(HALF)
    pair.run(600)
    assert interval_s(pair) == 1.0
    pair.connect()
    assert interval_s(pair) == 0.5


def test_a_late_delta_of_an_old_version_changes_nothing(pair):
    pair.connect()
    pair.desire({"delivery": {"batch_s": 5}})
    pair.desire({"delivery": {"batch_s": 6}})
    pair.run(10)
    pair.counts()
    pair.hear(VAN.delta, {"state": {"delivery": {"batch_s": 5}}, "version": 2})
    assert pair.remote.settings.delivery.batch_s == 6
    assert pair.counts() == (0, 0)


def test_an_update_between_our_question_and_report_is_not_missed(pair):
    pair.connect()
    pair.desire(HALF)
    pair._underway.clear()  # it was not heard
    pair.disconnect()
    pair.online = True
    pair.talk.connected(pair.now_s)
    pair.talk.step(pair.now_s)  # asks, and the answer is on its way
    pair.cloud.update("van-1", {"state": {"desired": {"delivery": {"batch_s": 7}}}})
    pair.cloud.take_announcements()  # lost
    pair.run(10)
    assert interval_s(pair) == 0.5
    assert pair.remote.settings.delivery.batch_s == 7


def test_a_deleted_shadow_means_the_config_file_and_is_made_again(pair):
    pair.connect()
    pair.desire(HALF)
    pair.run()
    pair.cloud.delete("van-1")
    pair.disconnect()
    pair.connect()
    assert interval_s(pair) == 1.0
    assert pair.reported()["sampling"]["normal"]["interval_s"] == 1.0


def test_what_somebody_else_wrote_into_reported_is_mended(pair):
    pair.connect()
    good = pair.reported()
    bad = {"reported": {"sampling": {"normal": {"interval_s": 99}}, "joke": {"a": 1}}}
    pair.cloud.update("van-1", {"state": bad})
    pair.disconnect()
    pair.connect()
    assert pair.reported() == good


def test_a_service_that_never_answers_is_asked_ever_more_rarely(pair, caplog):
    pair.lossy = True
    pair.connect()
    pair.run(24 * 3600)
    questions, reports = pair.counts()
    assert 20 < questions < 40
    assert reports == 0
    assert 1 <= caplog.text.count("does not answer") <= 8
    pair.lossy = False
    pair.desire(HALF)
    pair.run(3700)
    assert interval_s(pair) == 0.5


@pytest.mark.parametrize("code", [429, 500])
def test_a_service_in_trouble_is_asked_again_later(pair, code):
    pair.broken = code
    pair.connect()
    pair.run(100)
    assert pair.counts()[0] <= 4
    pair.broken = None
    pair.run(300)
    assert pair.reported() is not None


@pytest.mark.parametrize("code", [400, 401, 403, 413, 415])
def test_a_service_that_refuses_for_good_is_not_asked_again_on_this_connection(pair, code, caplog):
    pair.broken = code
    pair.connect()
    pair.run(24 * 3600)
    assert pair.counts() == (1, 0)
    assert f"({code})" in caplog.text


def test_a_report_that_is_refused_is_not_repeated_until_there_is_another(pair):
    pair.desire({**HALF, "z": "x" * 7_700})  # with what the vehicle says it is over 8 KB
    pair.connect()
    pair.run(3600)
    assert interval_s(pair) == 0.5, "applied all the same"
    assert pair.counts() == (1, 1)
    assert VAN.rejected(ShadowAction.UPDATE) in [topic for topic, _ in pair.heard]
    pair.desire({"z": None})
    pair.run(60)
    assert pair.counts() == (1, 1)
    assert pair.reported()["sampling"]["normal"]["interval_s"] == 0.5


def test_a_flood_of_changes_is_answered_at_a_bounded_rate(pair):
    pair.connect()
    pair.counts()
    for number in range(600):
        pair.desire({"delivery": {"batch_s": number}})
        pair.run(0.1)
    pair.run(60)
    questions, reports = pair.counts()
    assert questions <= 5 + 120 * 0.2 + 1
    assert reports <= 5 + 120 * 0.1 + 1
    assert pair.remote.settings.delivery.batch_s == 599
    assert pair.reported()["delivery"]["batch_s"] == 599


TOPICS = sorted(VAN.answers())
HOSTILE = [
    b"",
    b"\xff\x00",
    b"[]",
    b"7",
    b"null",
    b"{}",
    b"[" * 60_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"version": 1e999, "state": NaN}',
    b'{"version": true, "state": {"desired": {"delivery": {"batch_s": 9}}}}',
    b'{"version": -1, "state": {"desired": {"delivery": {"batch_s": 9}}}}',
    b'{"version": 99, "state": 5, "clientToken": ["x"]}',
    b'{"version": 99, "state": {"desired": 5}, "clientToken": null}',
    b'{"code": "x", "message": {"a": 1}}',
    b'{"code": 404}',
    json.dumps({"state": {"desired": {"a": "x" * 100_000}}, "version": 99}).encode(),
]


@pytest.mark.parametrize("topic", TOPICS)
def test_hostile_messages_change_nothing_and_break_nothing(pair, topic):
    pair.connect()
    pair.desire(HALF)
    pair.run()
    for payload in HOSTILE:
        pair.hear(topic, payload)
    pair.run(60)
    assert interval_s(pair) == 0.5
    assert pair.remote.settings.delivery.batch_s == 0
    pair.desire({"delivery": {"batch_s": 4}})
    pair.run(60)
    assert pair.remote.settings.delivery.batch_s == 4


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"version": 99},
        {"version": 99, "state": None},
        {"version": 99, "state": [1]},
        {"version": "99", "state": {"desired": {"delivery": {"batch_s": 9}}}},
        {"version": True, "state": {"desired": {"delivery": {"batch_s": 9}}}},
        {"version": 99, "state": {"desired": {"delivery": {"batch_s": -9}}, "reported": 5}},
        {"version": 99, "state": {"desired": 5, "reported": {"delivery": [1]}}},
        {"version": 99, "state": {"desired": {"sampling": deep(900)}}},
    ],
    ids=range(9),
)
def test_a_hostile_answer_to_our_question_changes_no_setting(pair, answer):
    pair.connect()
    before = pair.remote.settings
    pair.disconnect()
    pair.lossy, pair.online = True, True
    pair.talk.connected(pair.now_s)
    pair.talk.step(pair.now_s)
    (_, question) = pair.said[-1]
    pair.hear(VAN.accepted(ShadowAction.GET), {**answer, **question})
    assert pair.remote.settings == before
    pair.lossy = False
    pair.disconnect()
    pair.desire(HALF)
    pair.connect()
    assert interval_s(pair) == 0.5
