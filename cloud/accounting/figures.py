"""Reconciled runs as figures: JSON for programs, and words for causes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cloud.accounting.reconcile import (
    LOST_IN_CRASH,
    NO_DROPS,
    TOO_NEW,
    UNEXPLAINED,
    WAITING,
    ExplainedGap,
    RunAccount,
)
from cloud.clock import from_milliseconds
from contract.fields import format_timestamp

Json = dict[str, Any]

LATE_AFTER_S: Final = 60
"""What "late" means where nobody says otherwise; one of ``ledger.LATENESS_EDGES_S``."""

WORDS: Final = {
    WAITING: "waiting on the vehicle",
    LOST_IN_CRASH: "lost in the crash's last moments",
    TOO_NEW: "newer than the last status",
    UNEXPLAINED: "UNEXPLAINED",
}


def words(cause: str) -> str:
    """A cause for people; the reason of a drop speaks for itself."""
    return WORDS.get(cause, cause.replace("_", " "))


def summary(runs: Sequence[RunAccount], late_after_s: int = LATE_AFTER_S) -> Json:
    """The figures of several runs together."""
    causes: dict[str, int] = {}
    for run in runs:
        for cause, messages in run.causes().items():
            causes[cause] = causes.get(cause, 0) + messages
    return {
        "runs": len(runs),
        "samples": sum(run.head.samples for run in runs),
        "events": sum(run.head.events for run in runs),
        "received": sum(run.head.received for run in runs),
        "missing": sum(run.missing for run in runs),
        "waiting": causes.get(WAITING, 0),
        "dropped": sum(n for cause, n in causes.items() if cause not in NO_DROPS),
        "unexplained": causes.get(UNEXPLAINED, 0),
        "late": sum(run.head.late(late_after_s) for run in runs),
        "duplicates": sum(run.head.duplicates for run in runs),
        "causes": causes,
    }


def run_figures(run: RunAccount, late_after_s: int = LATE_AFTER_S) -> Json:
    """One run with every gap; absent is null."""
    head = run.head
    return {
        "run_id": head.run_id,
        "state": run.state.value,
        "first_timestamp": moment(head.first_ms),
        "last_timestamp": moment(head.last_ms),
        "last_received_at": moment(head.received_ms or None),
        "last_sequence": run.last_sequence,
        "samples": head.samples,
        "events": head.events,
        "received": head.received,
        "missing": run.missing,
        "causes": run.causes(),
        "unexplained": run.unexplained,
        "late": head.late(late_after_s),
        "max_lateness_s": head.max_lateness_ms / 1000,
        "untimed": head.untimed,
        "duplicates": head.duplicates,
        "tail_unknown_s": run.tail_unknown_s,
        "gaps": [_gap_figures(one) for one in run.gaps],
    }


def _gap_figures(one: ExplainedGap) -> Json:
    return {
        "first": one.gap.first,
        "last": one.gap.last,
        "messages": one.gap.messages,
        "after_timestamp": moment(one.gap.before_ms),
        "before_timestamp": moment(one.gap.after_ms),
        "causes": one.causes,
    }


def moment(at_ms: int | None) -> str | None:
    """A timestamp as the contract writes it."""
    return None if at_ms is None else format_timestamp(from_milliseconds(at_ms))
