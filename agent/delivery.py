"""The delivery: outbox, publisher and transport as one; the engine's ``Recorder``."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.account import books, flash_bytes_written, process_age_s
from agent.budgets import Budget, Budgets
from agent.config import BrokerSettings, BudgetSettings, DeliverySettings, OutboxSettings
from agent.engine.rate import Rate
from agent.outbox import Eviction, Kind, Message, Outbox, Store, Untimed
from agent.ports import Clock, Exchange, TimeBase, Transport
from agent.publisher import OutboxWriter, Publisher, PublisherLimits, PublisherThread
from agent.state_lock import StateLock
from agent.statuses import Statuses, told
from agent.time_watch import TimeWatch
from agent.transport import make_transport
from agent.transport.endpoint import Will
from contract import (
    Event,
    MessageKind,
    Sample,
    TimeQuality,
    Topics,
    VehicleState,
    encode,
)

LOG = logging.getLogger("agent.delivery")

OUTBOX_FILE: Final = "outbox.db"
_MEGABYTE: Final = 1_000_000
_DAY_S: Final = 86_400.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LOOK_S: Final = 0.05
_FINISH_S: Final = 5.0
"""To re-stamp at the end: some 10,000 messages on a Pi."""


class Delivery:
    """``start()`` once; ``stop()`` at any time, idempotent, after the engine has ended.

    ``boot_id`` lets a later process of the same boot re-stamp what this one left without a
    trusted time; ``remember_time`` is given each trusted time for it.
    ``on_first_ack`` is called once, by the publisher's thread.
    ``transport`` is for tests; by default the one that ``broker`` names.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        vehicle_id: str,
        run_id: str,
        state_dir: Path,
        outbox: OutboxSettings,
        delivery: DeliverySettings,
        broker: BrokerSettings,
        budget: BudgetSettings | None = None,
        software_version: str,
        boot_id: str = "",
        remember_time: Callable[[TimeBase], None] = lambda _: None,
        on_first_ack: Callable[[], None] = lambda: None,
        transport: Transport | None = None,
        limits: PublisherLimits | None = None,
        fixes_rejected: Callable[[], dict[str, int]] = dict,
        frames_dropped: Callable[[], dict[str, int]] = dict,
        files_wire_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._clock = clock
        self._vehicle_id = vehicle_id
        self._run_id = run_id
        self._state_dir = state_dir
        self._software_version = software_version
        self._lock = StateLock(state_dir)
        self._topics = Topics(vehicle_id, delivery.basic_ingest_prefix or None)
        self._on_first_ack = on_first_ack
        self._files_wire_bytes = files_wire_bytes
        self._first_publish_s: float | None = None
        self.has_reached_broker = False
        """It has acknowledged something to this process, be it a status."""
        self._started = False
        self._stopped = False
        self.outbox = Outbox(
            store=Store(state_dir / OUTBOX_FILE),
            clock=clock,
            run_id=run_id,
            flush_interval_s=outbox.flush_interval_s,
            eviction=Eviction(max_bytes=_max_bytes(outbox), max_age_s=_max_age_s(outbox)),
            untimed=Untimed(run_id, boot_id, clock.base()),
        )
        self._statuses = Statuses(
            clock=clock,
            outbox=self.outbox,
            vehicle_id=vehicle_id,
            run_id=run_id,
            software_version=software_version,
            fixes_rejected=fixes_rejected,
            frames_dropped=frames_dropped,
        )
        self._transport: Transport = transport or make_transport(
            broker, clock=clock, client_id=vehicle_id, make_will=self._make_will
        )
        self.publisher = Publisher(
            clock=clock,
            random=random.SystemRandom(),
            outbox=self.outbox,
            transport=self._transport,
            topics=self._topics,
            settings=delivery,
            make_status=self._make_online_status,
            limits=limits,
        )
        self.publisher.on_first_ack = self._note_first_ack
        self.publisher.on_first_delivery = self._note_first_delivery
        self.budgets = Budgets(
            clock=clock,
            vehicle_id=vehicle_id,
            folder=state_dir,
            settings=budget or BudgetSettings(),
            read_bytes={Budget.DATA: self._wire_bytes, Budget.FLASH: flash_bytes_written},
            on_allowance=self.publisher.allow,
        )
        self._publisher_thread = PublisherThread(self.publisher, clock)
        self.time_watch = TimeWatch(
            clock=clock,
            outbox=self.outbox,
            hold_s=delivery.hold_unsynced_s,
            remember=remember_time,
            on_release=self.publisher.wake,
        )
        self._writer_thread = OutboxWriter(self.outbox, clock, self._look)

    def start(self) -> None:
        """Open the outbox, begin to connect and to deliver what earlier runs left.

        Raises:
            StateError: the state directory cannot be used, or another agent uses it.
        """
        self._lock.take()
        self._started = True
        self.outbox.open()
        self.budgets.start()
        self.time_watch.look()
        self._statuses.find_previous_run(self._state_dir)
        self._publisher_thread.start()
        self._writer_thread.start()

    def stop(self, drain_s: float = 0.0) -> None:
        """Deliver for up to ``drain_s`` more, leave the rest in the outbox, say farewell."""
        if self._stopped or not self._started:
            return
        self._stopped = True
        self.publisher.drain()
        deadline_s = self._clock.monotonic_s() + drain_s
        while self._can_drain() and self._clock.monotonic_s() < deadline_s:
            self._clock.sleep_s(_LOOK_S)
        self._publisher_thread.stop()
        self._writer_thread.stop()
        self._finish_restamping()
        self.time_watch.stop()
        self.outbox.close(self._statuses.last_sequence)
        farewell = encode(self._statuses.make(VehicleState.OFFLINE))
        self._transport.close((self._topics.topic(MessageKind.STATUS), farewell))
        self.budgets.stop()
        self._lock.release()
        left = self.outbox.waiting()
        LOG.info(
            "delivery ended, %s", f"{left} messages wait in the outbox" if left else "all sent"
        )

    def apply(
        self, *, delivery: DeliverySettings, outbox: OutboxSettings, budget: BudgetSettings
    ) -> None:
        """Other rates, bounds and caps from now on; from any thread."""
        self.publisher.apply(delivery)
        self.outbox.apply(
            flush_interval_s=outbox.flush_interval_s,
            max_bytes=_max_bytes(outbox),
            max_age_s=_max_age_s(outbox),
        )
        self.budgets.apply(budget)

    @property
    def exchange(self) -> Exchange:
        """For features that ask the cloud and are answered; they register before ``start``."""
        return self.publisher.exchange

    # --- the engine's side ---------------------------------------------------------

    def record_sample(self, sample: Sample) -> None:
        """See ``agent.ports.Recorder``."""
        self._record(Kind.SAMPLE, sample)

    def record_event(self, event: Event) -> None:
        """See ``agent.ports.Recorder``."""
        self._record(Kind.EVENT, event)

    def _record(self, kind: Kind, message: Sample | Event) -> None:
        trusted = message.time_quality is not TimeQuality.UNSYNCED
        taken_ms = int((message.timestamp - _EPOCH).total_seconds() * 1000) if trusted else None
        self._statuses.last_sequence = message.sequence
        if trusted and self.outbox.waits_for_time:
            self.time_watch.look()
        self.outbox.put(
            Message(
                kind,
                message.run_id,
                message.sequence,
                encode(message),
                taken_ms,
                self._clock.monotonic_s(),
            )
        )
        self.publisher.wake()

    def set_rate(self, rate: Rate) -> None:
        """The sampling rate changed; the next status says so, soon."""
        self._statuses.rate = rate
        self.publisher.request_status()

    # --- what others ask -----------------------------------------------------------

    def progress(self) -> float:
        """Monotonic time at which the slower of the two threads was last seen working.

        Both go round at least every 5 s, connected or not, so one that is a minute old
        means a thread that hangs.
        """
        return min(self._publisher_thread.last_round_s, self._writer_thread.last_round_s)

    def take_unreported_drops(self) -> list[dict[str, Any]]:
        """Drops by reason since the last call, of earlier runs too; for a ``dropped`` event."""
        totals = told(self.outbox.take_unreported_drops())
        return [total.model_dump(mode="json", exclude_none=True) for total in totals]

    def account(self) -> dict[str, Any]:
        """The delivery's half of the account; from any thread."""
        previous_run = self._statuses.previous_run
        return {
            "vehicle_id": self._vehicle_id,
            "run_id": self._run_id,
            "software_version": self._software_version,
            "connected": self.publisher.connected and not self._stopped,
            **books(self.outbox.tally()),
            "last_sequence": self._statuses.last_sequence,
            "previous_run": previous_run.model_dump() if previous_run else None,
            "time_quality": self._clock.quality().value,
            "waits_for_time": self.time_watch.holds,
            "publishes": self.publisher.publishes,
            "bytes_published": self.publisher.bytes_published,
            "flash_bytes_written": flash_bytes_written(),
            "wire_bytes": self._wire_bytes(),
            "budgets": self.budgets.account(),
            "first_publish_s": self._first_publish_s,
            "uptime_s": round(process_age_s(), 3),
        }

    # --- inside --------------------------------------------------------------------

    def _look(self) -> None:
        """What the writer's thread looks at on its way; it may wait for the flash card."""
        self.time_watch.look()
        self.budgets.look()

    def _wire_bytes(self) -> int:
        measured = self._transport.wire_bytes()
        messages = self.publisher.estimated_wire_bytes if measured is None else measured
        return messages + self._files_wire_bytes()

    def _can_drain(self) -> bool:
        """Whether waiting helps: what the data budget holds back is left for the next day."""
        return self.outbox.anything_to_send() and not self.publisher.holds_back

    def _finish_restamping(self) -> None:
        """The boot may end next, and what it leaves without a time is flagged for ever."""
        deadline_s = self._clock.monotonic_s() + _FINISH_S
        while self._clock.monotonic_s() < deadline_s and self.outbox.restamp():
            pass

    def _note_first_ack(self) -> None:
        self.has_reached_broker = True
        self._on_first_ack()

    def _note_first_delivery(self) -> None:
        self._first_publish_s = round(process_age_s(), 3)

    def _make_will(self) -> Will:
        status = self._statuses.make(VehicleState.OFFLINE)
        topic = self._topics.topic(MessageKind.STATUS)
        return Will(topic, encode(status), self._topics.may_retain())

    def _make_online_status(self) -> bytes:
        return encode(self._statuses.make(VehicleState.ONLINE))


def _max_bytes(outbox: OutboxSettings) -> int:
    return int(outbox.max_mb * _MEGABYTE)


def _max_age_s(outbox: OutboxSettings) -> float:
    return outbox.max_age_days * _DAY_S
