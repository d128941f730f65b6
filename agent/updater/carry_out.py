"""Carry an update out, from whatever step the journal has. Standard library only.

A step's work, then the journal, then the next step: what was cut off is begun again. A
step that was begun ``MOST_TRIES`` times does not come to its end on this board, e.g.
because the new version takes the whole board down, and counts as failed.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent.updater import journal
from agent.updater.board import UpdateError, install
from agent.updater.health import restart, wait_until_well
from agent.updater.inbox import opened
from agent.updater.journal import Health, Step, Update

MOST_TRIES: Final = 3
RESULT: Final = "result.json"

_log = logging.getLogger("agent.updater")


def carry_out(home: Path) -> Update | None:
    """Go on with the update that the journal has, to its end; how it ended.

    Raises:
        UpdateError: the journal cannot be used.
        OSError: it cannot be written, e.g. the disk is full; a later start goes on.
    """
    update = journal.load(home)
    if update is None:
        return None
    while update.step is not Step.TELLING:
        update = replace(update, tries=update.tries + 1)
        journal.save(update)
        _log.info(
            "%s -> %s: %s%s",
            update.from_version,
            update.to_version,
            update.step.value,
            f", try {update.tries}" if update.tries > 1 else "",
        )
        update = _WORK[update.step](update)
        journal.save(update)
    _tell(update)
    return update


def _install(update: Update) -> Update:
    if update.tries > MOST_TRIES:
        return update.at(Step.ROLLING_BACK, reason="the installation never came to its end")
    try:
        install(update.board, update.board.new_package)
    except UpdateError as error:
        return update.at(Step.ROLLING_BACK, reason=str(error))
    return update.at(Step.CHECKING)


def _check(update: Update) -> Update:
    if update.tries > MOST_TRIES:
        return update.at(Step.ROLLING_BACK, reason="the board went down again and again")
    try:
        since_s = restart(update.board)
        wrong = wait_until_well(update.board, since_s, update.health, update.health_timeout_s)
    except UpdateError as error:
        wrong = str(error)
    if wrong:
        return update.at(Step.ROLLING_BACK, reason=wrong)
    return update.at(Step.TELLING, succeeded=True)


def _roll_back(update: Update) -> Update:
    _log.warning("rolling back to %s: %s", update.from_version, update.reason)
    try:
        install(update.board, update.board.current_package)
    except UpdateError as error:
        if update.tries < MOST_TRIES:
            _log.warning("the roll back failed, once more: %s", error)
            return update
        return update.at(Step.TELLING, reason=f"{update.reason}; AND THE ROLL BACK FAILED: {error}")
    return update.at(Step.RESTARTING)


def _restart(update: Update) -> Update:
    try:
        since_s = restart(update.board)
        # the vehicle may be offline; the cloud hears of it when it is back
        wrong = wait_until_well(update.board, since_s, Health.STARTED, update.board.started_s)
    except UpdateError as error:
        wrong = str(error)
    ended = f"{update.reason}; {update.from_version} runs again"
    if wrong:
        ended = f"{update.reason}; {update.from_version} is back, but {wrong}"
    return update.at(Step.TELLING, reason=ended)


_WORK: Final[dict[Step, Callable[[Update], Update]]] = {
    Step.INSTALLING: _install,
    Step.CHECKING: _check,
    Step.ROLLING_BACK: _roll_back,
    Step.RESTARTING: _restart,
}


def result_of(update: Update) -> dict[str, Any]:
    """What is told of an update that is over."""
    return {
        "job_id": update.job_id,
        "succeeded": update.succeeded,
        "from_version": update.from_version,
        "to_version": update.to_version,
        "reason": update.reason,
    }


def _tell(update: Update) -> None:
    """Each of these may be done twice."""
    board, result = update.board, result_of(update)
    if update.succeeded and board.new_package.exists():
        board.new_package.replace(board.current_package)
    journal.write_durably(board.home / RESULT, json.dumps(result, indent=1).encode() + b"\n")
    if update.job_id:
        try:
            with opened(board.inbox) as inbox:
                if inbox is not None:
                    inbox.finish(result)
        except (UpdateError, OSError) as error:
            _log.error("the result cannot be left for the agent: %s", error)
    board.new_package.unlink(missing_ok=True)
    journal.remove(board.home)


def main(home: Path) -> int:
    """The staged program: go on, and say how it ended; 0 when the new version runs."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        with journal.locked(home):
            update = carry_out(home)
    except (UpdateError, OSError) as error:
        _log.error("the update cannot go on: %s", error)
        return 1
    if update is None:
        _log.info("no update is under way")
        return 0
    if update.succeeded:
        _log.info("%s runs and is healthy", update.to_version)
        return 0
    _log.error("%s was not kept: %s", update.to_version, update.reason)
    return 1
