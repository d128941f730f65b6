"""The account: what the agent created, and what became of every single message.

At any moment::

    samples_created + events_created + inherited_messages
        = samples_acknowledged + events_acknowledged + inherited_acknowledged
        + backlog_messages + sum(dropped_messages.values())

``inherited`` are messages that earlier runs left in the outbox. ``created``,
``acknowledged`` and ``dropped`` count since this process started; the first two are of
this run alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.outbox import Kind, Tally


def books(tally: Tally) -> dict[str, Any]:
    """The part of the account that must balance."""
    return {
        "samples_created": tally.created[Kind.SAMPLE],
        "events_created": tally.created[Kind.EVENT],
        "samples_acknowledged": tally.acknowledged[Kind.SAMPLE],
        "events_acknowledged": tally.acknowledged[Kind.EVENT],
        "inherited_messages": tally.inherited,
        "inherited_acknowledged": tally.inherited_acknowledged,
        "backlog_messages": tally.waiting,
        "dropped_messages": dict(tally.dropped),
    }


def imbalance(account: Mapping[str, Any]) -> int:
    """Messages that the account has nowhere; anything but 0 is a defect."""
    came = account["samples_created"] + account["events_created"] + account["inherited_messages"]
    settled = (
        account["samples_acknowledged"]
        + account["events_acknowledged"]
        + account["inherited_acknowledged"]
        + sum(account["dropped_messages"].values())
    )
    return int(came - settled - account["backlog_messages"])


def flash_bytes_written() -> int | None:
    """Bytes that this process caused to be written to storage; None where unknown.

    ``write_bytes`` of proc(5): what went to the block layer, the journal's and the file
    system's own share not counted, and nothing for a tmpfs.
    """
    try:
        text = Path("/proc/self/io").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "write_bytes":
            return int(value)
    return None


def process_age_s() -> float:
    """Seconds since the kernel started this process, imports included (proc(5), starttime)."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    # the second field is the program's name in brackets and may hold anything
    started_ticks = int(stat.rpartition(")")[2].split()[19])
    uptime_s = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return max(0.0, uptime_s - started_ticks / os.sysconf("SC_CLK_TCK"))


def read_last_run(state_dir: Path) -> tuple[str, int] | None:
    """``run_id`` and last sequence of the last orderly run, from ``last-run.json``."""
    try:
        account = json.loads((state_dir / "last-run.json").read_text(encoding="utf-8"))
        return str(account["run_id"]), int(account["last_sequence"])
    except (OSError, ValueError, KeyError, TypeError):
        # none yet, or a person edited it: the status then lacks what it cannot know
        return None
