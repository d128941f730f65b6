"""What each receiver behind gpsd says within a few seconds.

It is polled with gpsd-py3, an independent client, so that a fault of the agent's own does
not hide. That takes the last receiver of a poll only, so a poll is divided before; and a poll
does not tell a receiver that is silent from one that has no mode yet, so its reports are
watched as well: gpsd sends none of a silent one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agent.host import boottime_s, system_utc

LISTEN_S: Final = 6.0
"""A cold receiver reports once a second; gpsd opens it only when somebody watches."""

ADVANCE_S: Final = 2.5
"""A fix that stays the same for so long is stale."""

WATCH: Final = '?WATCH={"enable":true,"json":true};\n'


@dataclass(slots=True)
class Heard:
    """Of one receiver. ``mode`` is gpsd's: 0 nothing yet, 1 no fix, 2 and 3 a fix."""

    device: str
    speaks: bool = False
    """Whether gpsd sent a report of it."""
    mode: int = 0
    seen: int = 0
    used: int = 0
    first_fix: str = ""
    last_fix: str = ""
    first_fix_s: float | None = None
    watched_s: float = 0.0
    off: timedelta | None = None
    """How far the board's clock is ahead of the receiver's time."""

    @property
    def has_fix(self) -> bool:
        """Whether gpsd calls it a fix, new or not."""
        return self.mode >= 2

    @property
    def repeats(self) -> bool:
        """Whether its fix did not change for too long."""
        return self.watched_s >= ADVANCE_S and self.first_fix == self.last_fix

    @property
    def is_judged(self) -> bool:
        """Whether its fix was seen to move on, or not to for long enough."""
        return self.has_fix and (self.first_fix != self.last_fix or self.repeats)

    def take(self, fix: Any, now_s: float) -> None:
        """One ``GpsResponse`` of this receiver."""
        self.mode, self.seen, self.used = fix.mode, fix.sats, fix.sats_valid
        if not self.has_fix:
            return
        if self.first_fix_s is None:
            self.first_fix_s, self.first_fix = now_s, fix.time
        self.last_fix, self.watched_s = fix.time, now_s - self.first_fix_s
        self.off = _ahead(fix.time)


def poll(host: str, port: int, wanted: tuple[str, ...]) -> tuple[Heard, ...] | str:
    """Poll until the fix of each wanted receiver was judged, or the time is up.

    Without a wanted one any will do. What is no gpsd gives the reason, and gpsd-py3 has no time
    limit: call it in a thread that may be left behind.
    """
    import gpsd as client  # noqa: PLC0415  of the running agent nobody needs it

    logging.getLogger(client.__name__).setLevel(logging.CRITICAL)  # what it says is a finding here
    try:
        client.connect(host, port)
        devices = client.state.get("devices", {}).get("devices", [])
        heard = {path: Heard(path) for path in (one.get("path", "?") for one in devices)}
        if heard:
            _watch(client, heard, wanted)
        return tuple(heard.values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001  its own errors are bare Exceptions
        return str(error) or type(error).__name__
    finally:
        with contextlib.suppress(OSError, AttributeError):
            client.gpsd_stream.close()
            client.gpsd_socket.close()


def _watch(client: Any, heard: dict[str, Heard], wanted: tuple[str, ...]) -> None:
    ours = [one for path, one in heard.items() if not wanted or path in wanted]
    enough = all if wanted else any
    pause = threading.Event()
    ends_s = boottime_s() + LISTEN_S
    client.gpsd_stream.write(WATCH)
    while (now_s := boottime_s()) < ends_s and ours:
        reports = _reports(client, heard)
        skies = {_path(sky, heard): sky for sky in reports.get("sky", ())}
        for tpv in reports.get("tpv", ()):
            path = _path(tpv, heard)
            if path in heard:
                divided = {"active": 1, "tpv": [tpv], "sky": [skies.get(path, {})]}
                with contextlib.suppress(LookupError):  # nothing came from it yet
                    heard[path].take(client.GpsResponse.from_json(divided), now_s)
        if enough(one.is_judged for one in ours):
            break
        pause.wait(0.3)


def _reports(client: Any, heard: dict[str, Heard]) -> dict[str, Any]:
    """The answer to a poll; what is reported before it shows who speaks."""
    client.gpsd_stream.write("?POLL;\n")
    client.gpsd_stream.flush()
    while True:
        report: dict[str, Any] = json.loads(client.gpsd_stream.readline())
        if report["class"] == "POLL":
            return report
        path = _path(report, heard)
        if report["class"] in {"TPV", "SKY"} and path in heard:
            heard[path].speaks = True


def _path(report: dict[str, Any], heard: dict[str, Heard]) -> str:
    """The receiver that a report is of; where it does not say, the first one."""
    return str(report.get("device") or next(iter(heard)))


def _ahead(fix_time: str) -> timedelta | None:
    try:
        moment = datetime.fromisoformat(fix_time)
    except ValueError:
        return None
    return system_utc() - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
