"""When a certificate is due to be rotated. Pure; times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agent.config import IdentitySettings

_LONGEST_SHARE: Final = 3
"""A certificate that is made for a week is not due on its first day."""


@dataclass(frozen=True, slots=True)
class Validity:
    """What is known of a certificate's days."""

    not_before: datetime
    not_after: datetime
    obtained_at: datetime | None
    """By the board's clock, which may have been wrong then."""

    def days_left(self, now: datetime) -> float:
        """Until it expires; negative once it has."""
        return (self.not_after - now) / timedelta(days=1)


def due_at(validity: Validity, settings: IdentitySettings) -> datetime | None:
    """From when on it is due; ``None`` for never."""
    found = []
    if settings.rotate_before_days:
        life = validity.not_after - validity.not_before
        before = min(timedelta(days=settings.rotate_before_days), life / _LONGEST_SHARE)
        found.append(validity.not_after - before)
    if settings.rotate_after_days:
        since = max(validity.not_before, validity.obtained_at or validity.not_before)
        found.append(since + timedelta(days=settings.rotate_after_days))
    return min(found, default=None)


def why_due(validity: Validity, settings: IdentitySettings, now: datetime) -> str | None:
    """Why it is due now, in words; ``None`` while it is not."""
    at = due_at(validity, settings)
    if at is None or now < at:
        return None
    left = validity.days_left(now)
    if left < 0:
        return f"the certificate expired {-left:.0f} days ago"
    if settings.rotate_before_days and left <= settings.rotate_before_days:
        return f"the certificate expires in {left:.0f} days"
    return f"the certificate is older than {settings.rotate_after_days:g} days"
