"""One thread per consumer of a stream, with the manners of a Lambda event source mapping.

Records are delivered in order, in batches. A partial failure is retried from the lowest
failed record on; a function that raises is asked again with half the batch, until the
record that breaks it is alone. After ``max_tries`` that record becomes a dead letter and
the rest goes on. A store that fails (``StoreError``) is waited for, however long: nothing
is wrong with the record then. What is not done when the thread is told to stop comes
again at the next start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cloud.clock import Clock
from cloud.errors import StoreError
from cloud.serve.stream import StreamReader, StreamRecord

POLL_S: Final = 1.0
FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0

log = logging.getLogger(__name__)


class PartialFailure(Exception):  # noqa: N818  an answer, not an error
    """The batch is done up to, and without, the record at ``index``."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class Scope(Enum):
    """What a failure says something about."""

    RECORD = "record"
    """The first record that is not done."""
    BATCH = "batch"
    """Some record of the batch, nobody knows which."""
    STORE = "store"
    """No record at all."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a batch was not done to its end."""

    scope: Scope
    reason: str


Process = Callable[[Sequence[StreamRecord]], None]
"""Handles a batch; raises ``PartialFailure``, ``StoreError``, or anything for all of it."""

GiveUp = Callable[[StreamRecord, str], None]
"""Keeps a record that cannot be handled, with the reason; may raise ``StoreError``."""


@dataclass(frozen=True, slots=True)
class Batching:
    """How records are gathered, as in the template's event source mapping."""

    batch_size: int = 100
    window_s: float = 0.0
    """Wait this long for a full batch; 0 delivers at once."""
    max_tries: int = 8


class Consumer:
    """``start`` once; ``stop`` from any thread, any number of times."""

    def __init__(
        self,
        name: str,
        *,
        reader: StreamReader,
        process: Process,
        give_up: GiveUp,
        clock: Clock,
        batching: Batching,
    ) -> None:
        self.name = name
        self._reader = reader
        self._process = process
        self._give_up = give_up
        self._clock = clock
        self._batching = batching
        self._stopping = threading.Event()
        self._abandoning = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failing = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end when it has caught up; windows close at once. Wake the stream after."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; past the time-out it ends after the batch at hand.

        False when even that takes longer than the same time again.
        """
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        self._abandoning.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close the reader; only after ``join``."""
        self._reader.close()

    def _run(self) -> None:
        while not self._abandoning.is_set():
            try:
                records = self._next_batch()
                caught_up = not records
                if records and not self._deliver(records):
                    return
            except Exception as error:  # noqa: BLE001  this thread must not die in silence
                self._note_failure(str(error) if isinstance(error, StoreError) else repr(error))
                if self._stopping.wait(POLL_S):
                    return
                continue
            if caught_up:
                if self._stopping.is_set():
                    return
                self._reader.wait(self._reader.position, POLL_S, self._stopping.is_set)

    def _next_batch(self) -> list[StreamRecord]:
        size, window_s = self._batching.batch_size, self._batching.window_s
        records = self._reader.read(size)
        if not records or window_s <= 0 or len(records) >= size:
            return records
        deadline_s = self._clock.monotonic_s() + window_s
        while not self._stopping.is_set():
            left_s = deadline_s - self._clock.monotonic_s()
            if left_s <= 0 or self._reader.may_hold(size):
                break
            self._stopping.wait(min(left_s, 0.2))
        return self._reader.read(size)

    def _deliver(self, records: list[StreamRecord]) -> bool:
        """Whether all is settled; False when told to stop in the middle of failures."""
        size, tries, in_a_row = len(records), 0, 0
        while records:
            done, failure = self._attempt(records[:size])
            if done:
                self._reader.done_up_to(records[done - 1].sequence)
                records, tries, in_a_row = records[done:], 0, 0
            if failure is None:
                size = len(records)
                self._note_success()
                continue
            self._note_failure(failure.reason)
            if failure.scope is Scope.BATCH and size > 1:
                size = (size + 1) // 2
            elif failure.scope is not Scope.STORE:
                tries += 1
                if tries >= self._batching.max_tries:
                    self._bury(records[0], f"failed {tries} times: {failure.reason}")
                    records, tries, in_a_row = records[1:], 0, 0
                    size = len(records)
                    continue
            in_a_row += 1
            if self._abandoning.is_set() or self._stopping.wait(backoff_s(in_a_row)):
                return False
        return True

    def _attempt(self, batch: Sequence[StreamRecord]) -> tuple[int, Failure | None]:
        try:
            self._process(batch)
        except PartialFailure as partial:
            return partial.index, Failure(Scope.RECORD, str(partial))
        except StoreError as error:
            return 0, Failure(Scope.STORE, str(error))
        except Exception as error:  # noqa: BLE001  a function may raise anything
            scope = Scope.BATCH if len(batch) > 1 else Scope.RECORD
            return 0, Failure(scope, f"{type(error).__name__}: {error}")
        return len(batch), None

    def _bury(self, record: StreamRecord, reason: str) -> None:
        self._give_up(record, f"{self.name} {reason}")
        self._reader.done_up_to(record.sequence)
        log.warning("%s: record %d is a dead letter now: %s", self.name, record.sequence, reason)

    def _note_failure(self, reason: str) -> None:
        if not self._failing:
            log.warning("%s fails and tries again: %s", self.name, reason)
        self._failing = True

    def _note_success(self) -> None:
        if self._failing:
            log.warning("%s works again", self.name)
        self._failing = False


def backoff_s(tries: int) -> float:
    """How long to wait after so many failures in a row; no jitter, there is one client."""
    return min(FIRST_BACKOFF_S * 2.0 ** min(max(tries - 1, 0), 60), MAX_BACKOFF_S)
