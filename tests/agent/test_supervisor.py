"""The main thread: READY, WATCHDOG only with progress, and an orderly way out."""

import os
import signal
import threading

import pytest

from agent import supervisor
from agent.errors import StateError


class FakeNotifier:
    def __init__(self, interval_s=None):
        self.watchdog_interval_s = interval_s
        self.told = []
        self.beat = threading.Event()
        """The watchdog was fed."""

    def ready(self):
        self.told.append("ready")

    def watchdog(self):
        self.told.append("watchdog")
        self.beat.set()

    def stopping(self):
        self.told.append("stopping")

    def extend_timeout(self, duration_s):
        self.told.append(f"extend {duration_s:g}")


class FakeAgent:
    def __init__(self, *, progress_s=0.0, start_fails=False):
        self.progress_s = progress_s
        self.start_fails = start_fails
        self.calls = []

    def start(self):
        self.calls.append("start")
        if self.start_fails:
            raise StateError("no")

    def stop(self):
        self.calls.append("stop")

    def progress(self):
        return self.progress_s


class CountingClock:
    """Stands still at ``now_s``; ``looked`` is set once the agent was looked at three times."""

    def __init__(self, now_s):
        self.now_s = now_s
        self.looked = threading.Event()
        self._looks = 0

    def __call__(self):
        self._looks += 1
        if self._looks == 3:
            self.looked.set()
        return self.now_s


def run(agent, notifier, clock=None, signal_after=None):
    """Run in this thread; another sends the signal, never before the handler is there."""

    def send():
        if signal_after.wait(20):
            os.kill(os.getpid(), signal.SIGTERM)

    clock = clock or CountingClock(0.0)
    before = signal.getsignal(signal.SIGTERM)
    sender = threading.Thread(target=send, name="sender")
    if signal_after is not None:
        sender.start()
    try:
        supervisor.run(agent, notifier=notifier, stop_takes_s=25, monotonic_s=clock)
    finally:
        if sender.ident is not None:
            sender.join()
        assert signal.getsignal(signal.SIGTERM) is before


def test_a_healthy_agent_is_ready_feeds_the_watchdog_and_stops_on_sigterm():
    agent, notifier = FakeAgent(progress_s=-10.0), FakeNotifier(0.01)
    run(agent, notifier, signal_after=notifier.beat)
    assert agent.calls == ["start", "stop"]
    assert notifier.told[0] == "ready"
    assert "watchdog" in notifier.told
    assert notifier.told[-2:] == ["stopping", "extend 25"]


def test_an_agent_without_progress_does_not_feed_the_watchdog():
    agent, notifier = FakeAgent(progress_s=0.0), FakeNotifier(0.01)
    clock = CountingClock(supervisor.STUCK_AFTER_S + 1)
    run(agent, notifier, clock, signal_after=clock.looked)
    assert "watchdog" not in notifier.told
    assert agent.calls == ["start", "stop"]


def test_a_start_that_fails_is_cleared_up_and_never_ready():
    agent, notifier = FakeAgent(start_fails=True), FakeNotifier()
    with pytest.raises(StateError):
        run(agent, notifier)
    assert agent.calls == ["start", "stop"]
    assert "ready" not in notifier.told
