"""The agent's inner ports, in one place; ``compose`` plugs the adapters in.

Threads: each source runs one thread and only enqueues. The engine owns its thread and
is the only caller of ``Recorder``. The publisher owns its thread and is the only caller
of ``Transport``, whose callbacks only enqueue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Protocol

from contract import Event, Sample, TimeQuality

if TYPE_CHECKING:
    from agent.transport.credentials import Credentials


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


class Flow(IntEnum):
    """How samples may be sent; the higher holds back more. Events always go."""

    FREE = 0
    """As configured."""

    GATHER = 1
    """In batches of at least a minute."""

    TRICKLE = 2
    """One every now and then, for the position; the rest waits in the outbox."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a data budget allows from now on; ``left_bytes`` ``None`` is without a bound."""

    flow: Flow = Flow.FREE
    left_bytes: int | None = None
    trickle_s: float = 900.0


class PublishOutcome(Enum):
    """How one handed-over message ended."""

    ACKNOWLEDGED = "acknowledged"
    """The broker sent a PUBACK."""

    CONNECTION_LOST = "connection_lost"
    """No PUBACK came before the connection ended; the message must be sent again."""

    REFUSED = "refused"
    """The transport can never send it, e.g. it is larger than the broker allows."""

    DENIED = "denied"
    """The broker does not let this vehicle publish on the topic; another message would not
    fare better. MQTT 5 only: an older broker closes the connection, or says nothing."""


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

    def on_subscribed(self, topic_filter: str, refusal: str | None) -> None:
        """The broker's answer to one filter: None when granted, else why not.

        There is no answer when the connection ends first.
        """
        ...

    def on_message(self, topic: str, payload: bytes) -> None:
        """A message came on a subscribed topic; larger ones than 128 KB are dropped before."""
        ...


class Transport(Protocol):
    """One MQTT connection, QoS 1, no queue of its own.

    Call order: ``start(events)`` once; ``connect()`` when disconnected and again after
    each ``on_disconnected`` (the transport never reconnects by itself, back-off is the
    publisher's); ``publish`` and ``subscribe`` only while connected; ``close()`` at any
    time, idempotent. Each connection begins a clean session: there are no subscriptions
    left of the one before, and nothing that it missed comes later (decision 0012). No
    call waits for the network but ``close``, which waits 3 s at most.
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

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for topics at QoS 1, at most 8 filters a call (AWS IoT Core's limit).

        Ends in one ``on_subscribed`` for each filter.
        """
        ...

    def disconnect(self) -> None:
        """Drop the connection without a word to the broker (its last will fires).

        ``on_disconnected`` is reported before this returns, whatever state the library is in.
        """
        ...

    def leave(self) -> None:
        """End the connection in order, so that its last will does not fire.

        What is in flight may still be acknowledged, for 2 s at most. Ends in
        ``on_disconnected``, unless the library hangs: then ``disconnect`` does.
        """
        ...

    def present(self, credentials: Credentials) -> None:
        """Show other credentials to the broker from the next ``connect`` on."""
        ...

    def wire_bytes(self) -> int | None:
        """Bytes that all connections so far sent and received, every layer's share included.

        From any thread; never falls. ``None`` where the transport cannot know.
        """
        ...

    def close(self, farewell: tuple[str, bytes] | None = None) -> None:
        """Publish the farewell (topic, retained payload), disconnect in order, stop."""
        ...


class ExchangeListener(Protocol):
    """A feature that asks the cloud and is answered, e.g. the device shadow.

    All three are called on the publisher's thread, so they return soon: what takes longer
    than some milliseconds goes to a thread of the feature's own.
    """

    def connected(self) -> None:
        """The broker is connected and has granted every filter: ask anew from the start.

        Nothing of earlier connections is left: neither requests nor answers to them.
        """
        ...

    def disconnected(self) -> None:
        """The connection that ``connected`` told of has ended; what was sent may be lost."""
        ...

    def received(self, topic: str, payload: bytes) -> None:
        """A message on one of the filters, at most 128 KB; duplicates are possible."""
        ...


class Channel(Protocol):
    """A listener's way to send; from any thread."""

    @property
    def refusal(self) -> str | None:
        """Why the broker does not serve it; None when it does, or was not asked yet."""
        ...

    def want(self, *, wanted: bool) -> None:
        """Whether an on-demand channel is to be subscribed; it is not at first."""
        ...

    def send(self, topic: str, payload: bytes) -> bool:
        """Queue one message for QoS 1, ahead of samples; False when it cannot be taken.

        It is kept in memory only and forgotten when the connection ends. False: not
        connected (do it in ``connected``), or too many wait already (do it later).

        Raises:
            ValueError: ``payload`` is larger than the broker takes, 128 KB.
        """
        ...


class Exchange(Protocol):
    """Requests and answers beside the samples: short, rare, and not durable."""

    def register(
        self, filters: Sequence[str], listener: ExchangeListener, *, on_demand: bool = False
    ) -> Channel:
        """Subscribe to ``filters`` (at most 8) on each connection; before the delivery starts.

        ``on_demand``: only on those on which the channel is wanted, and as soon as it is.
        """
        ...
