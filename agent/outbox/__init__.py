"""The outbox: what was created and is not yet acknowledged, in memory and on flash.

Invariants
----------
1. A message leaves only on its PUBACK, or by the eviction policy below, which counts it
   by reason (:class:`~agent.outbox.message.DropReason`) in the same commit that removes it.
2. Nothing unacknowledged lives in memory alone for longer than ``flush_interval_s``: a
   power cut loses at most that. What its PUBACK settles sooner is never written, so a
   connected vehicle hardly touches its flash.
3. Bounded by bytes and age. Full means that the oldest samples go first and events last.
4. After any crash it opens. A damaged file is renamed, never deleted; the loss is counted
   as far as it is known, and the agent goes on with a new file.
5. A full or failing disk is survived: acknowledgements still free space, messages stay in
   memory up to ``MEMORY_LIMIT_MESSAGES``, and what goes beyond is counted.

Eviction policy: ``max_mb`` reached, the oldest samples go until it fits, events only when
no sample is left (``outbox_full``); ``max_age_days`` passed (``too_old``); the disk is
full or failing and the memory's reserve too (``disk_full``).

Schema: see :mod:`agent.outbox.schema`.
"""

from agent.outbox.box import LEAST_DUE_SHARE, MEMORY_LIMIT_MESSAGES, Outbox
from agent.outbox.eviction import Eviction
from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.message import DropReason, Kind, Message, Place
from agent.outbox.store import Batch, Store
from agent.outbox.tally import Tally
from agent.outbox.untimed import Untimed

__all__ = [
    "LEAST_DUE_SHARE",
    "MEMORY_LIMIT_MESSAGES",
    "Batch",
    "DropReason",
    "Eviction",
    "Kind",
    "Message",
    "Outbox",
    "Place",
    "Store",
    "StoreError",
    "StoreFault",
    "Tally",
    "Untimed",
]
