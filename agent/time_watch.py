"""When the time becomes known, the outbox is told; and when the wait for it is over.

``unsynced`` on the wire means that no trusted time was seen before that boot of the board
ended. So what a boot creates before it knows the time waits in the outbox: until GPS or
NTP tells it (then it is re-stamped and goes), or until the board has been started again
(then it goes as it is). A vehicle that never gets a time would never be heard; for it the
wait ends after ``hold_s``, and what it sends from then on is called ``unsynced`` too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from agent.outbox import Outbox
from agent.ports import Clock, TimeBase

LOG = logging.getLogger("agent.time")

REMEMBER_EVERY_S: Final = 600.0
_LONGEST_LOOK_S: Final = 30.0
"""Between two looks, unless the board slept."""


class TimeWatch:
    """``look`` from any thread, often; ``stop`` at the end. Costs one look at the clock."""

    def __init__(
        self,
        *,
        clock: Clock,
        outbox: Outbox,
        hold_s: float,
        remember: Callable[[TimeBase], None],
        on_release: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._outbox = outbox
        self._hold_s = hold_s
        self._remember = remember
        self._on_release = on_release
        self._lock = threading.Lock()
        self._looked_s = clock.monotonic_s()
        self._waited_s = 0.0
        self._remembered_s: float | None = None
        self._holds = not clock.base().trusted
        if self._holds and hold_s > 0:
            LOG.info(
                "no trusted time yet: messages wait for a GPS fix or NTP, at most %g s", hold_s
            )

    @property
    def holds(self) -> bool:
        """Whether messages are kept back for the time."""
        return self._holds

    def look(self) -> None:
        """Whether the time is known by now, or the wait is over."""
        base = self._clock.base()
        now_s = self._clock.monotonic_s()
        with self._lock:
            if base.trusted:
                self._known(base, now_s)
                return
            # a suspend is no waiting: nobody could have told the time
            self._waited_s += min(now_s - self._looked_s, _LONGEST_LOOK_S)
            self._looked_s = now_s
            if self._holds and self._waited_s >= self._hold_s:
                self._holds = False
                self._outbox.stop_waiting_for_time()
                if self._hold_s > 0:
                    LOG.warning(
                        "no trusted time after %g s: messages are sent with this board's own"
                        " time, called unsynced; connect a GPS receiver or let NTP through",
                        self._hold_s,
                    )
                self._on_release()

    def stop(self) -> None:
        """Keep the time for the next process of this boot."""
        base = self._clock.base()
        if base.trusted:
            self._remember(base)

    def _known(self, base: TimeBase, now_s: float) -> None:
        if self._outbox.waits_for_time:
            self._holds = False
            self._outbox.time_is_known(base)
            LOG.info(
                "the time is known (%s): what this boot created before it is re-stamped",
                base.quality.value,
            )
            self._on_release()
        if self._remembered_s is None or now_s - self._remembered_s >= REMEMBER_EVERY_S:
            self._remembered_s = now_s
            self._remember(base)
