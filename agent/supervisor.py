"""The main thread: signals, the watchdog, and the way out.

``READY=1`` when all threads run, ``WATCHDOG=1`` only while the engine and the publisher
make progress, ``STOPPING=1`` on SIGTERM and SIGINT. Being offline is healthy.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
from collections.abc import Callable
from typing import Final, Protocol

STUCK_AFTER_S: Final = 60.0
"""No progress for so long means that a thread hangs; systemd then restarts the agent."""

IDLE_WAIT_S: Final = 3600.0
"""Without a watchdog the main thread waits for signals alone."""

_log = logging.getLogger(__name__)


class Notifier(Protocol):
    """The service manager."""

    watchdog_interval_s: float | None

    def ready(self) -> None:
        """Start-up is finished."""
        ...

    def watchdog(self) -> None:
        """Alive and making progress."""
        ...

    def stopping(self) -> None:
        """An orderly stop has begun."""
        ...

    def extend_timeout(self, duration_s: float) -> None:
        """Ask for so much time to stop."""
        ...


class Supervised(Protocol):
    """What the supervisor runs."""

    def start(self) -> None:
        """Start all threads."""
        ...

    def stop(self) -> None:
        """Stop in order."""
        ...

    def progress(self) -> float:
        """Monotonic time since when all parts have made progress."""
        ...


def run(
    supervised: Supervised,
    *,
    notifier: Notifier,
    stop_takes_s: float,
    monotonic_s: Callable[[], float],
) -> None:
    """Start, wait for SIGTERM or SIGINT, stop. Only for the main thread.

    Raises:
        AgentError: the start failed; everything was stopped again.
    """
    # The interpreter writes each signal's number here the moment it comes. A lock would not
    # do: set in a handler it may deadlock with the wait that the handler interrupts, and a
    # signal just before the wait would not end it.
    told, teller = socket.socketpair()
    told.settimeout(0)
    teller.settimeout(0)
    wakeup_before = signal.set_wakeup_fd(teller.fileno(), warn_on_full_buffer=False)

    previous = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        supervised.start()
        notifier.ready()
        interval_s = notifier.watchdog_interval_s
        is_stuck = False
        while (number := _wait_for(told, interval_s or IDLE_WAIT_S)) is None:
            idle_s = monotonic_s() - supervised.progress()
            if idle_s <= STUCK_AFTER_S:
                notifier.watchdog()
            elif interval_s and not is_stuck:
                _log.error("no progress for %.0f s; waiting for the watchdog", idle_s)
            is_stuck = idle_s > STUCK_AFTER_S
        _log.info("%s: stopping", signal.Signals(number).name)
    finally:
        notifier.stopping()
        notifier.extend_timeout(stop_takes_s)
        supervised.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        told.close()
        teller.close()


def _wait_for(told: socket.socket, timeout_s: float) -> int | None:
    """The signal to stop that came, or None after the time or another signal."""
    if not select.select([told], [], [], timeout_s)[0]:
        return None
    return next((n for n in told.recv(64) if n in {signal.SIGTERM, signal.SIGINT}), None)
