"""The outbox: what was created and is not yet acknowledged, in memory and on flash.

Invariants
----------
1. A message leaves only on its PUBACK, or by the eviction policy below, which counts it
   by reason (:class:`~agent.outbox.message.DropReason`) in the same commit that removes it.
2. Nothing unacknowledged lives in memory alone for longer than ``flush_interval_s``: a
   power cut loses at most that. What its PUBACK settles sooner is never written, so a
   connected vehicle hardly touches its flash.
3. Bounded by bytes and age. Full means thinning: old samples lose resolution first, every
   second one, again and again; ends of gaps and turns stay (:mod:`agent.outbox.thinning`).
   Events go last.
4. After any crash it opens. A damaged file is renamed, never deleted, and the outbox goes
   on with a new one; its messages are salvaged beside that, and what is lost is counted.
5. A full or failing disk is survived: acknowledgements still free space, old samples are
   thinned to make room within the file, messages stay in memory up to
   ``MEMORY_LIMIT_MESSAGES`` and are thinned there too, and what goes beyond is counted.

Eviction policy, by reason: ``max_mb`` reached, old samples are ``thinned``; at the
coarsest level the oldest samples go, events only when no sample is left
(``outbox_full``). In the last quarter of ``max_age_days`` samples are thinned, at its
end samples and events are ``expired``. The disk is full or failing and the memory's
reserve too: samples in memory are ``thinned``; at the coarsest level the oldest go
(``disk_full``).

=================  ============================================================
module             concept
=================  ============================================================
``box``            the outbox as the others see it
``ledger``         the engine's and the publisher's side of the books
``disk_ledger``    the writer's side of them
``books``          lanes and counts under one lock (``lanes``, ``tally``, ``message``)
``writer``         group commit, faults, chores
``bounds``         what goes and when (policy: ``thinning``, ``eviction``)
``reserve``        what goes when memory must do for the disk
``store``          the file (``schema``, ``connection``, ``opening``, ``commit``, ``batch``,
                   ``faults``)
``salvage``        damaged files (``salvage_jobs``, ``rescue``, ``pages``)
``verify``         is a file sound
=================  ============================================================

Schema: see :mod:`agent.outbox.schema`.
"""

from agent.outbox.batch import Batch
from agent.outbox.box import Outbox
from agent.outbox.eviction import Eviction
from agent.outbox.faults import StoreError, StoreFault
from agent.outbox.message import DropReason, Kind, Message, Place
from agent.outbox.store import Store
from agent.outbox.tally import Tally
from agent.outbox.untimed import Untimed
from agent.outbox.writer import LEAST_DUE_SHARE, MEMORY_LIMIT_MESSAGES

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
