"""Is the agent well after its restart? Standard library only.

The agent leaves a mark at the first PUBACK of each run: ``{"boot_id", "run_id",
"acknowledged_s"}``, the last in seconds since the boot (``CLOCK_BOOTTIME``), so that no
wall clock has to be right.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Final

from agent.updater.board import Board, UpdateError, ask
from agent.updater.journal import Health

MAX_MARK_BYTES: Final = 4096
MANY_RESTARTS: Final = 5
"""By systemd, since the updater has restarted it."""

_log = logging.getLogger("agent.updater")


def boottime_s() -> float:
    """Seconds since the boot, a suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def restart(board: Board) -> float:
    """Have the agent restarted; the moment just before. How that goes is for the wait to see.

    Raises:
        UpdateError: systemd does not take it.
    """
    before_s = boottime_s()
    ask(*board.systemctl, "daemon-reload")
    ask(*board.systemctl, "restart", "--no-block", board.unit)
    return before_s


def wait_until_well(board: Board, since_s: float, health: Health, timeout_s: float) -> str:
    """Wait for the agent; empty when it is well, else what is wrong with it.

    Well is: it has told systemd that it is up, it has its mark since then, and both are
    still so ``board.settle_s`` later.
    """
    deadline_s = boottime_s() + timeout_s
    well_since_s: float | None = None
    wrong = ""
    while (now_s := boottime_s()) < deadline_s:
        before, wrong = wrong, _what_is_wrong(board, since_s, health)
        if wrong != before:
            _log.info("%s", wrong or "the agent is well; will it stay so?")
        if wrong.startswith("it fails"):
            return wrong
        if wrong:
            well_since_s = None
        elif well_since_s is None:
            well_since_s = now_s
        if well_since_s is not None and now_s - well_since_s >= board.settle_s:
            return ""
        time.sleep(board.poll_s)
    return f"{wrong or 'it does not stay up'} ({timeout_s:g} s after the restart)"


def _what_is_wrong(board: Board, since_s: float, health: Health) -> str:
    try:
        told = ask(*board.systemctl, "show", "-p", "ActiveState,SubState,NRestarts", board.unit)
    except UpdateError as error:
        return str(error)
    state = dict(line.partition("=")[::2] for line in told.splitlines())
    restarts = state.get("NRestarts", "")
    if restarts.isdecimal() and int(restarts) >= MANY_RESTARTS:
        return f"it fails at its start: systemd has restarted it {restarts} times"
    if state.get("ActiveState") == "failed":
        return "it fails at its start, and systemd has given it up"
    if (state.get("ActiveState"), state.get("SubState")) != ("active", "running"):
        return f"{board.unit} is {state.get('ActiveState')} ({state.get('SubState')})"
    if health is Health.ACKNOWLEDGED and not _is_acknowledged(board.health_mark, since_s):
        return "the cloud has acknowledged nothing of the new run"
    return ""


def _is_acknowledged(mark: Path, since_s: float) -> bool:
    try:
        # the folder is the agent's user's: no link of theirs is followed
        descriptor = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            told = json.loads(file.read(MAX_MARK_BYTES))
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return bool(told["boot_id"] == boot_id and float(told["acknowledged_s"]) >= since_s)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False
