"""The one place where the simulator reads a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

WallClock = Callable[[], datetime]
"""Gives the present moment, UTC, with zone."""


def utc_now() -> datetime:
    """The present moment by this machine's clock, UTC."""
    return datetime.now(UTC)  # noqa: TID251 -- the one place that reads wall time


monotonic_s: Final = time.monotonic
"""Seconds since an arbitrary start; never steps."""


def format_utc(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and ``Z``, the form gpsd sends."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
