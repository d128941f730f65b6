"""What the day's data budget lets go between two measurements: pure.

The budget measures what really went over the wire, about once a second; in a second a
backlog can be many times what is left. So each hand-over is taken off beforehand, and what
was in flight at the measurement too, since it may not have been on the wire yet.
"""

from __future__ import annotations

from typing import Final

from agent.ports import Allowance, Flow

PUBLISH_OVERHEAD_BYTES: Final = 250
"""One QoS 1 publish beside its payload: topic and MQTT header (about 45), a TLS record (22)
and TCP/IP (52), then the PUBACK's packet (78) and the bare ACK (52)."""

GATHER_S: Final = 60.0
"""Live batches are at least so long while data is short: 13 bytes a sample at 1 Hz, not 600."""


class Spending:
    """Not thread-safe: the publisher owns it."""

    def __init__(self) -> None:
        self._allowance = Allowance()
        self._spent_bytes = 0
        self._trickled_s: float | None = None

    @property
    def flow(self) -> Flow:
        """How samples may go now."""
        left = self._allowance.left_bytes
        if left is not None and self._spent_bytes >= left:
            return Flow.TRICKLE
        return self._allowance.flow

    @property
    def trickle_s(self) -> float:
        """Seconds from one sample to the next while they only trickle."""
        return self._allowance.trickle_s

    def allow(self, allowance: Allowance, *, in_flight_bytes: int) -> None:
        """A new measurement."""
        self._allowance = allowance
        self._spent_bytes = in_flight_bytes

    def spend(self, payload_bytes: int) -> None:
        """One publish is handed over."""
        self._spent_bytes += payload_bytes + PUBLISH_OVERHEAD_BYTES

    def trickled(self, now_s: float) -> None:
        """A sample went although samples are held back."""
        self._trickled_s = now_s

    def trickle_in_s(self, now_s: float) -> float:
        """Seconds until one more may."""
        if self._trickled_s is None:
            return 0.0
        return max(0.0, self._trickled_s + self._allowance.trickle_s - now_s)
