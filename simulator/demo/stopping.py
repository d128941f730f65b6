"""Ctrl-C and SIGTERM end the demo in order; a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from simulator.demo.errors import DemoError
from simulator.stopping import Stopping


@contextmanager
def stop_signals(stopping: Stopping) -> Iterator[None]:
    """Set ``stopping`` on the first signal; raise DemoError in the main thread on the next."""

    def handle(number: int, _frame: object) -> None:
        if stopping.is_set():
            raise DemoError(
                f"stopped at once by a second {signal.Signals(number).name}",
                hint="there is no report; what was not delivered is in the vehicles' outboxes",
            )
        stopping.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
