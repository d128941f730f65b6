"""Finds the message that a connection may have ended for; the rule is that of ``poison``.

Not thread-safe: the publisher owns it.
"""

from __future__ import annotations

from agent.publisher.exchange import ControlChannel, ControlLane
from agent.publisher.lanes import Lanes
from agent.publisher.window import HandOver, Lane, Window


class Blame:
    """Told of every PUBACK and of every connection's end."""

    def __init__(
        self, lanes: Lanes, window: Window, exchange: ControlLane, *, batch_rows: int
    ) -> None:
        self._lanes = lanes
        self._window = window
        self._exchange = exchange
        self._batch_rows = batch_rows

    def acknowledged(self, over: HandOver) -> None:
        """The broker has it: it is above suspicion, and batches may grow again."""
        lanes = self._lanes
        lanes.suspicion.acknowledged(over.key)
        if over.key is not None:
            lanes.suspects.pop(over.key, None)
        if over.lane is Lane.BATCH:
            lanes.sizer.max_rows = min(self._batch_rows, lanes.sizer.max_rows * 2)

    def lost(self, now_s: float) -> ControlChannel | None:
        """The broker or the network ended the connection; the channel it may have ended for."""
        oldest = self._window.oldest
        if oldest is None:
            guilty = self._exchange.suspect(None, now_s, now_s)
        else:
            guilty = self._exchange.suspect(oldest.channel, oldest.sent_s, now_s)
        if oldest is None or guilty is not None:
            self._lanes.suspicion.lost(None, 0.0)
        else:
            self._charge(oldest, now_s - oldest.sent_s, "the broker closes the connection on it")
        return guilty

    def given_up(self) -> None:
        """The connection was given up for want of a PUBACK; a dead one is nobody's fault."""
        lanes, oldest = self._lanes, self._window.oldest
        for over in self._window.overtaken:
            if over.key is not None:
                lanes.suspicion.suspects(over.key)
                lanes.suspects[over.key] = over.messages[0]
        if oldest is not None and (lanes.suspicion.on_trial or oldest.lane is Lane.BATCH):
            self._charge(oldest, 0.0, "the broker does not acknowledge it")
        else:
            lanes.suspicion.abandoned()

    def _charge(self, oldest: HandOver, in_flight_s: float, why: str) -> None:
        lanes, suspicion = self._lanes, self._lanes.suspicion
        if oldest.lane is Lane.BATCH:
            # a smaller batch next time: what is wrong with one row ends up alone, and a link
            # too slow for this one may carry its half
            lanes.sizer.max_rows = max(1, len(oldest.messages) // 2)
        convicted = suspicion.lost(oldest.key, in_flight_s)
        if convicted is not None:
            lanes.set_aside(oldest.messages[0], why)
            lanes.suspects.pop(convicted, None)
        elif oldest.key is not None and suspicion.suspect == oldest.key:
            lanes.suspects[oldest.key] = oldest.messages[0]
