"""The cloud's clock; the only module of this package that reads the time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Time for everything that needs it."""

    def utc(self) -> datetime:
        """Now, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never steps."""
        ...

    def sleep_s(self, duration_s: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def utc(self) -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)  # noqa: TID251  this is the one place

    def monotonic_s(self) -> float:
        """Seconds since boot or so."""
        return time.monotonic()

    def sleep_s(self, duration_s: float) -> None:
        """Wait."""
        time.sleep(duration_s)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970, the form in which stores keep moments."""
    return round(moment.timestamp() * 1000)


def from_milliseconds(value_ms: int) -> datetime:
    """The moment of ``milliseconds``, in UTC; exact, which division by 1000 is not.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(milliseconds=value_ms)
