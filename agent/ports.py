"""The agent's inner ports, in one place; ``compose`` plugs the adapters in.

Threads: each source runs one thread and only enqueues. The engine owns its thread and
is the only caller of ``Recorder``. The publisher owns its thread and is the only caller
of ``Transport``, whose callbacks only enqueue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Protocol

from contract import Event, Sample, TimeQuality


@dataclass(frozen=True, slots=True)
class TimeBase:
    """How this boot's monotonic time becomes UTC, and who vouches for it.

    ``zero`` is the UTC time at which the monotonic clock stood at 0. While nobody vouches
    (``unsynced``) it is provisional and stays the same for the life of the process, so
    that one shift puts right whatever was stamped with it.
    """

    zero: datetime
    quality: TimeQuality

    @property
    def trusted(self) -> bool:
        """Whether GPS or NTP stands behind it."""
        return self.quality is not TimeQuality.UNSYNCED

    def at(self, monotonic_s: float) -> datetime:
        """UTC at a monotonic time."""
        return self.zero + timedelta(seconds=monotonic_s)

    def zero_ms(self) -> int:
        """``zero`` in whole milliseconds since 1970."""
        return round((self.zero - _EPOCH) / timedelta(milliseconds=1))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Time for everything that needs it; nothing else reads a clock."""

    def monotonic_s(self) -> float:
        """Seconds since the boot, those of a suspend counted; never steps."""
        ...

    def base(self) -> TimeBase:
        """What turns monotonic time into UTC now; time and its quality in one answer."""
        ...

    def utc(self) -> datetime:
        """The best known UTC time, from the trusted source where there is one."""
        ...

    def quality(self) -> TimeQuality:
        """What stands behind ``utc``."""
        ...

    def sleep_s(self, duration_s: float) -> None:
        """Wait; only for threads that have nothing to be woken by."""
        ...


class Recorder(Protocol):
    """Where the engine puts what it creates. From here on nothing may be lost uncounted."""

    def record_sample(self, sample: Sample) -> None:
        """Take over one sample; returns at once and never raises for a full or broken disk."""
        ...

    def record_event(self, event: Event) -> None:
        """Take over one event; it goes before samples and is never thinned."""
        ...


class PublishOutcome(Enum):
    """How one handed-over message ended."""

    ACKNOWLEDGED = "acknowledged"
    """The broker sent a PUBACK."""

    CONNECTION_LOST = "connection_lost"
    """No PUBACK came before the connection ended; the message must be sent again."""

    REFUSED = "refused"
    """The transport can never send it, e.g. it is larger than the broker allows."""


class TransportEvents(Protocol):
    """What a transport reports, from its own thread; implementations only enqueue."""

    def on_connected(self) -> None:
        """CONNACK accepted the session."""
        ...

    def on_disconnected(self, reason: str, *, unauthorised: bool) -> None:
        """The connection ended or could not be made; every hand-over in flight is void."""
        ...

    def on_outcome(self, token: int, outcome: PublishOutcome) -> None:
        """Called once for each ``publish``, with the token that it was given."""
        ...


class Transport(Protocol):
    """One MQTT connection, QoS 1, no queue of its own.

    Call order: ``start(events)`` once; ``connect()`` when disconnected and again after
    each ``on_disconnected`` (the transport never reconnects by itself, back-off is the
    publisher's); ``publish`` only while connected; ``close()`` at any time, idempotent.
    """

    def start(self, events: TransportEvents) -> None:
        """Give the receiver of the callbacks."""
        ...

    def connect(self) -> None:
        """Begin to connect; ends in ``on_connected`` or ``on_disconnected``."""
        ...

    def publish(self, token: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand one message over at QoS 1; ends in ``on_outcome``."""
        ...

    def disconnect(self) -> None:
        """Drop the connection without a word to the broker (its last will fires)."""
        ...

    def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """Publish the farewell (topic, retained payload), disconnect in order, stop."""
        ...
