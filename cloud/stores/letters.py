"""The identity of a dead letter."""

from __future__ import annotations

import hashlib

from cloud.clock import milliseconds
from cloud.ports import DeadLetter


def letter_id(letter: DeadLetter) -> str:
    """The same for equal letters, so that a letter written twice can be told."""
    digest = hashlib.sha256(letter.payload)
    for part in (letter.topic or "", letter.field, letter.reason):
        digest.update(b"\0" + part.encode(errors="surrogatepass"))
    digest.update(b"\0%d" % milliseconds(letter.received_at))
    return digest.hexdigest()[:32]
