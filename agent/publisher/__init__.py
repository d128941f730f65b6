"""The publisher: takes from the outbox, hands to the transport, settles on PUBACK.

``core`` is one round of it, ``worker`` the threads; ``link`` minds the connection,
``window`` what is in flight, ``lanes`` the order of sending, ``exchange`` the requests of
features such as the device shadow, ``blame`` which message a connection ended for;
``bucket``, ``backoff``, ``sizing``, ``poison`` and ``schedule`` are its policies, each pure
and in one file.
"""

from agent.publisher.backoff import Backoff, BackoffSettings
from agent.publisher.bucket import TokenBucket
from agent.publisher.core import Publisher
from agent.publisher.exchange import ControlLane
from agent.publisher.limits import PublisherLimits
from agent.publisher.link import LinkState
from agent.publisher.poison import Suspicion
from agent.publisher.schedule import StatusSchedule
from agent.publisher.sizing import BatchSizer
from agent.publisher.worker import OutboxWriter, PublisherThread

__all__ = [
    "Backoff",
    "BackoffSettings",
    "BatchSizer",
    "ControlLane",
    "LinkState",
    "OutboxWriter",
    "Publisher",
    "PublisherLimits",
    "PublisherThread",
    "StatusSchedule",
    "Suspicion",
    "TokenBucket",
]
