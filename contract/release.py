"""What a release key signs: which package this is, and its bytes.

Whoever checks makes the statement anew, from what it has read out of the package itself,
and compares signatures; nothing of a statement that came along has to be believed or parsed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

PACKAGE: Final = "milepost-agent"
_CONTEXT: Final = b"milepost release statement 1\n"
"""Keeps a signature of this key over anything else from counting as one."""


@dataclass(frozen=True, slots=True)
class ReleaseStatement:
    """One package of one architecture; ``downgrade`` allows it over a newer version."""

    package: str
    version: str
    architecture: str
    sha256: str
    downgrade: bool = False

    def signed_bytes(self) -> bytes:
        """What Ed25519 signs: a fixed first line, then JSON with sorted keys and no blanks."""
        return _CONTEXT + json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()
