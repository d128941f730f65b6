"""How the last rotation ended, kept for ``doctor`` and ``status``; nothing depends on it."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent.files import write_atomically
from agent.identity.store import IdentityStore

LOG = logging.getLogger("agent.identity")

FILE: Final = "last-rotation.json"


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

    def as_json(self) -> dict[str, Any]:
        """For the account."""
        return asdict(self)


def load_last(store: IdentityStore) -> LastRotation | None:
    """What is known of it; ``None`` if there was none, or the file cannot be read."""
    try:
        return LastRotation(**json.loads((store.folder / FILE).read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def save_last(store: IdentityStore, last: LastRotation) -> None:
    """Keep it, if the disk lets it."""
    try:
        data = json.dumps(last.as_json(), indent=2).encode() + b"\n"
        write_atomically(store.folder / FILE, data, mode=0o600)
    except OSError as error:
        LOG.warning("%s cannot be written: %s", FILE, error)
