"""``python -m agent.updater``: take the agent's request, prepare, and hand over.

Runs as root, by ``milepost-update.path`` when the request is there. It is replaced by the
staged program (``exec``), because dpkg is about to replace the files that this one is of.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from agent.updater import journal
from agent.updater.board import Board, UpdateError
from agent.updater.carry_out import RESULT
from agent.updater.inbox import PACKAGE_NAME, Inbox, opened
from agent.updater.prepare import prepare, wish_of

_log = logging.getLogger("agent.updater")


def take(board: Board) -> bool:
    """Take the request; whether there is an update to be carried out now.

    Raises:
        UpdateError: the inbox or the journal cannot be used.
        OSError: a result could not be written.
    """
    with journal.locked(board.home):
        if journal.load(board.home) is not None:
            return True  # one that was cut off goes first; the request is still there then
        with opened(board.inbox) as inbox:
            return inbox is not None and _take(board, inbox)


def _take(board: Board, inbox: Inbox) -> bool:
    request: dict[str, Any] = {}
    try:
        taken = inbox.take()
        if taken is None:
            return False
        request = taken
        wish = wish_of(request)
        with inbox.open(PACKAGE_NAME) as package:
            update = prepare(board, package, wish)
    except (UpdateError, OSError) as error:
        _finish(board, inbox, request, succeeded=False, reason=str(error))
        return False
    if update is None:
        _finish(board, inbox, request, succeeded=True, reason="it was installed already")
        return False
    return True


def _finish(
    board: Board, inbox: Inbox, request: dict[str, Any], *, succeeded: bool, reason: str
) -> None:
    _log.warning("the update is not carried out: %s", reason)
    job_id, version = (str(request.get(key, ""))[:128] for key in ("job_id", "version"))
    result = {
        "job_id": job_id,
        "succeeded": succeeded,
        "from_version": "",
        "to_version": version,
        "reason": reason,
    }
    journal.write_durably(board.home / RESULT, json.dumps(result, indent=1).encode() + b"\n")
    inbox.finish(result)


def main(board: Board) -> int:
    """Take a request and become the program that carries it out; 0 where there is none."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if take(board):
            sys.stderr.flush()
            os.execv(board.program, [str(board.program)])  # noqa: S606  root's own file
    except (UpdateError, OSError) as error:
        _log.error("no update can be taken: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Board()))
