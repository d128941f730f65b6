"""How rotations end, and who is told: observers, a fault event, a file for ``doctor``.

Nothing depends on the file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent.files import write_atomically
from agent.identity.store import IdentityStore
from agent.inputs import SourceChanged
from agent.ports import Clock
from contract.fields import format_timestamp

LOG = logging.getLogger("agent.identity")

FILE: Final = "last-rotation.json"
_SOURCE: Final = "identity"
_CAUSE: Final = "rotation"


@dataclass(frozen=True, slots=True)
class LastRotation:
    """``reason``: why it was begun if it went well, else why it failed."""

    ended_at: str
    """RFC 3339, by the best time known then."""

    succeeded: bool
    reason: str
    certificate_id: str
    """In use since then."""

    number: int
    """Counts the vehicle's rotations, failed ones too."""


class Ends:
    """Told by the rotation's thread, read from any."""

    def __init__(
        self, *, clock: Clock, store: IdentityStore, tell: Callable[[SourceChanged], None]
    ) -> None:
        self._clock = clock
        self._store = store
        self._tell = tell
        self._observers: list[Callable[[LastRotation], None]] = []
        self._is_faulty = False
        self._last: LastRotation | None = None

    def load(self) -> None:
        """Go on where an earlier process left it."""
        self._last = load_last(self._store)

    def observe(self, on_end: Callable[[LastRotation], None]) -> Callable[[], None]:
        """Be told of each end; what is given ends that."""
        self._observers.append(on_end)
        return lambda: self._observers.remove(on_end)

    @property
    def number(self) -> int:
        """How many there were."""
        return self._last.number if self._last else 0

    def account(self) -> dict[str, Any] | None:
        """The last one; ``None`` if there was none."""
        return asdict(self._last) if self._last else None

    def ended(self, reason: str, *, succeeded: bool, certificate_id: str) -> None:
        """Tell of an end. The fault stands until a rotation goes well."""
        if succeeded and self._is_faulty:
            self._tell(SourceChanged(_SOURCE, available=True))
        elif not succeeded and not self._is_faulty:
            self._tell(SourceChanged(_SOURCE, available=False, reason=reason, cause=_CAUSE))
        self._is_faulty = not succeeded
        last = LastRotation(
            ended_at=format_timestamp(self._clock.utc()),
            succeeded=succeeded,
            reason=reason,
            certificate_id=certificate_id,
            number=self.number + 1,
        )
        _save(self._store, last)
        self._last = last
        for observer in list(self._observers):
            observer(last)


def load_last(store: IdentityStore) -> LastRotation | None:
    """What is known of it; ``None`` if there was none, or the file cannot be read."""
    try:
        return LastRotation(**json.loads((store.folder / FILE).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _save(store: IdentityStore, last: LastRotation) -> None:
    try:
        data = json.dumps(asdict(last), indent=2).encode() + b"\n"
        write_atomically(store.folder / FILE, data, mode=0o600)
    except OSError as error:
        LOG.warning("%s cannot be written: %s", FILE, error)
