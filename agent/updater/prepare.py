"""Prepare an update: everything that can be refused is refused here, and nothing is changed."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from agent.updater import journal
from agent.updater.board import Board, UpdateError, ask
from agent.updater.journal import Health, Update
from agent.updater.keep import keep_current
from agent.updater.stage import stage
from agent.updater.verify import (
    Claim,
    check_package,
    check_signature,
    claim_of,
    copy_and_digest,
)

MARGIN_BYTES: Final = 64 * 1024 * 1024
"""Left for the agent and the system."""
HEALTH_TIMEOUT_S: Final = (30.0, 86_400.0)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for, beside the package."""

    claim: Claim
    job_id: str = ""
    health: Health = Health.ACKNOWLEDGED
    health_timeout_s: float = 900.0


def wish_of(request: dict[str, Any]) -> Wish:
    """From the agent's request, which may hold anything.

    Raises:
        UpdateError: it cannot be used; says why.
    """
    job_id, timeout_s = request.get("job_id"), request.get("health_timeout_s", 900)
    if not isinstance(job_id, str) or not 0 < len(job_id) <= 64:
        raise UpdateError("the request names no job")
    low_s, high_s = HEALTH_TIMEOUT_S
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise UpdateError("health_timeout_s is no number")
    if not low_s <= timeout_s <= high_s:
        raise UpdateError(f"health_timeout_s is {low_s:g} to {high_s:g}")
    claim = claim_of(
        request.get("version"), request.get("signature"), request.get("downgrade", False)
    )
    return Wish(claim, job_id, Health.ACKNOWLEDGED, float(timeout_s))


def prepare(board: Board, package: IO[bytes], wish: Wish) -> Update | None:
    """Copy, verify, keep what runs, stage, and open the journal; ``None``: it runs already.

    Raises:
        UpdateError: it is refused; nothing was changed.
        OSError: a file cannot be read or written; likewise.
    """
    board.home.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = board.home / "new.deb.part"
    try:
        architecture = ask("dpkg", "--print-architecture")
        sha256 = copy_and_digest(package, draft)
        check_signature(wish.claim, sha256, architecture, board.keys)
        installed = check_package(board, draft, wish.claim, architecture)
        if installed == wish.claim.version:
            return None
        _check_room(board, draft)
        keep_current(board, installed)
        stage(board)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(board.new_package)
    finally:
        draft.unlink(missing_ok=True)
    update = Update(
        board=board,
        from_version=installed,
        to_version=wish.claim.version,
        job_id=wish.job_id,
        health=wish.health,
        health_timeout_s=wish.health_timeout_s,
    )
    journal.save(update)
    return update


def _check_room(board: Board, package: Path) -> None:
    """The new files are unpacked beside the old ones; the old ones may be packed first."""
    told = ask("dpkg-deb", "--field", str(package), "Installed-Size")
    unpacked = 1024 * int(told) if told.isdecimal() else 4 * package.stat().st_size
    for folder in {board.home, board.root}:
        needed = unpacked + MARGIN_BYTES + (unpacked // 2 if folder == board.home else 0)
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise UpdateError(
                f"{free // 1_000_000} MB are free on {folder}, and the update needs "
                f"{needed // 1_000_000} MB"
            )
