"""What goes wrong with GPS, told once: a log line and a fault event for each change.

==========================  ===================================================================
code in the event           raised when
==========================  ===================================================================
``source:gps``              no position comes any more; ``cause`` says what is known of why;
                            cleared by the next new fix
``source:gps-preferred``    another receiver than the most preferred one is in use
``source:gps-antenna``      the receiver says that its antenna is short-circuited, or is not
                            there and no fix comes
==========================  ===================================================================
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final

from agent.config import GpsSettings
from agent.errors import SourceError
from agent.inputs import Inbox, SourceChanged
from agent.logs import StateLog

GPS: Final = "gps"
PREFERRED: Final = "gps-preferred"
ANTENNA: Final = "gps-antenna"


class Cause(StrEnum):
    """Why there is no position; stable, for whoever sorts events by it."""

    UNREACHABLE = "unreachable"
    """gpsd does not answer, closed the connection, or is something else."""

    NO_RECEIVER = "no_receiver"
    """gpsd runs, and has no receiver that the config allows."""

    REMOVED = "removed"
    """The receiver was unplugged, or its port failed."""

    SILENT = "silent"
    """The receiver is there and says nothing."""

    STALE = "stale"
    """The same fix comes again and again."""

    NO_FIX = "no_fix"
    """The receiver works and has had no position for long: antenna, garage, jamming."""


class GpsLostError(SourceError):
    """The session with the receiver is over, e.g. gpsd was restarted; the next one is tried."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class GpsFaults:
    """Used by the source's thread alone; ``cause`` may be read from any."""

    def __init__(
        self, settings: GpsSettings, inbox: Inbox, log: logging.Logger, what: str, now_s: float
    ) -> None:
        self._settings = settings
        self._inbox = inbox
        self._fix_s = now_s
        self._position = StateLog(log, what)
        self._preferred = StateLog(log, "the preferred GPS receiver")
        self._antenna = StateLog(log, "the GPS antenna")
        self.cause: Cause | None = None
        """The newest, also where the event told an earlier one."""

    def lost(self, cause: Cause, reason: str) -> None:
        """There is no position any more."""
        self.cause = cause
        if self._position.failed(reason):
            change = SourceChanged(GPS, available=False, reason=reason, cause=cause.value)
            self._inbox.put(change)

    def look(self, now_s: float, *, repeats: bool, in_view: int) -> None:
        """The receiver speaks: raise what its missing fixes mean by now.

        ``in_view``: the satellites that it tells of; none at all is what a missing antenna does.
        """
        without_s = now_s - self._fix_s
        if repeats and without_s >= self._settings.silent_after_s:
            self.lost(Cause.STALE, f"the same fix is repeated for {without_s:.0f} s")
        elif without_s >= self._settings.no_fix_after_s:
            sees = f"it tells of {in_view or 'no'} satellites in view"
            self.lost(Cause.NO_FIX, f"the receiver has had no fix for {without_s:.0f} s, {sees}")

    def found(self, now_s: float) -> None:
        """A new fix came."""
        self._fix_s = now_s
        self.cause = None
        if self._position.recovered():
            self._inbox.put(SourceChanged(GPS, available=True))

    def uses(self, path: str | None, *, instead_of: str | None) -> None:
        """Which receiver is in use now, and which more preferred one is not."""
        reason = "" if instead_of is None else f"{instead_of} gives no fix; {path} is used"
        changed = self._preferred.failed(reason) if reason else self._preferred.recovered()
        if changed:
            self._inbox.put(SourceChanged(PREFERRED, available=not reason, reason=reason))

    def antenna(self, fault: str | None) -> None:
        """What is wrong with the antenna now, or that it is well again."""
        changed = self._antenna.failed(fault) if fault else self._antenna.recovered()
        if changed:
            self._inbox.put(SourceChanged(ANTENNA, available=fault is None, reason=fault or ""))
