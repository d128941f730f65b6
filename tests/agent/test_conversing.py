"""The thread of a conversation: nothing that is said to it can hold up, end or fill it."""

import threading

import pytest

from agent.conversing import MOST_QUEUED, ConversationThread
from tests.fakes.clock import FakeClock


class Heard:
    """A conversation that writes down what it was told."""

    def __init__(self):
        self.said = []
        self.stepped = threading.Event()
        self.wait_s = None

    def connected(self, now_s):
        self.said.append(("connected", now_s))

    def disconnected(self):
        self.said.append("disconnected")

    def received(self, topic, payload, now_s):
        if payload == b"bad":
            raise ValueError("a defect")
        self.said.append((topic, payload, now_s))

    def step(self, now_s):
        self.stepped.set()
        return self.wait_s


@pytest.fixture
def thread():
    made = ConversationThread("jobs", FakeClock())
    yield made
    made.stop()


def test_what_was_queued_is_taken_in_order_also_before_the_start_and_at_the_stop(thread):
    heard, now_s = Heard(), FakeClock().monotonic_s()
    thread.connected()
    thread.start(heard)
    thread.received("a/topic", b"text")
    thread.put(lambda conversation, at_s: conversation.said.append(("own", at_s)))
    thread.disconnected()
    thread.stop()
    own = ("own", now_s)
    assert heard.said == [("connected", now_s), ("a/topic", b"text", now_s), own, "disconnected"]
    thread.stop()


def test_a_flood_of_messages_does_not_fill_the_memory_and_hides_no_change_of_the_connection(thread):
    heard = Heard()
    for _ in range(10 * MOST_QUEUED):
        thread.received("a/topic", b"text")
    thread.disconnected()
    thread.start(heard)
    thread.stop()
    assert len(heard.said) == MOST_QUEUED + 1
    assert heard.said[-1] == "disconnected"


def test_a_defect_is_logged_and_the_conversation_goes_on(thread, caplog):
    heard = Heard()
    thread.start(heard)
    thread.received("a/topic", b"bad")
    thread.received("a/topic", b"good")
    thread.stop()
    assert [payload for _, payload, _ in heard.said] == [b"good"]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("agent.jobs", "ERROR")
    assert "a defect" in caplog.text


def test_time_that_passes_is_told_when_the_conversation_asked_for_it(thread):
    heard = Heard()
    heard.wait_s = 0.01
    thread.start(heard)
    thread.connected()
    assert heard.stepped.wait(20)
    heard.stepped.clear()
    assert heard.stepped.wait(20), "no step without a message"


def test_a_thread_that_never_began_can_be_stopped(thread):
    thread.connected()
    thread.stop()
