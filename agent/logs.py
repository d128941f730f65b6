"""Log lines on standard error: for people, or as JSON.

Changes of state are logged once: the first failure, then "recovered" (:class:`StateLog`).
Rates and repetitions go to counters.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final

from agent.config import LogFormat, LogSettings

RECENT_LINES: Final = 300
RECENT_CHARACTERS: Final = 500
"""150 kB at most; usual lines take a third of that."""

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class TextFormatter(logging.Formatter):
    """``2026-03-01T12:00:00Z warning  gpsd: lost: connection refused``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        line = f"{_moment(record)} {record.levelname.lower():<8} {_component(record)}: "
        line += record.getMessage()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, component, thread, message."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; a traceback is a field of it."""
        entry: dict[str, Any] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "component": _component(record),
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _moment(record: logging.LogRecord) -> str:
    return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S}Z"


def _component(record: logging.LogRecord) -> str:
    """The source, whichever of its modules speaks; else the module."""
    _, _, of_source = record.name.partition("agent.sources.")
    return of_source.partition(".")[0] or record.name.rpartition(".")[2]


class RecentLines(logging.Handler):
    """The last lines in memory, for a bundle of a board whose journal the agent may not read."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TextFormatter())
        self._lines: deque[str] = deque(maxlen=RECENT_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._lines.append(self.format(record)[:RECENT_CHARACTERS])

    def text(self) -> str:
        """All of them; from any thread."""
        self.acquire()
        try:
            return "".join(f"{line}\n" for line in self._lines)
        finally:
            self.release()


RECENT: Final = RecentLines()


def set_up(settings: LogSettings) -> None:
    """Send the root logger's lines to standard error in the configured form, and keep the last."""
    handler = logging.StreamHandler(sys.stderr)
    as_json = settings.format is LogFormat.JSON
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler, RECENT]
    root.setLevel(_LEVELS[settings.level.value])
    # A log line must never stop the agent, e.g. when the journal's pipe is gone.
    logging.raiseExceptions = False


class StateLog:
    """Logs a component's failure once, and its recovery once. Not thread-safe."""

    def __init__(self, log: logging.Logger, what: str, failure_word: str = "lost") -> None:
        self._log = log
        self._what = what
        self._failure_word = failure_word
        self._failure: str | None = None

    @property
    def is_failed(self) -> bool:
        """Whether a recovery is still to come."""
        return self._failure is not None

    def failed(self, reason: str) -> bool:
        """Whether this was a change, and so was logged."""
        if self._failure is not None:
            return False
        self._failure = reason
        self._log.warning("%s %s: %s", self._what, self._failure_word, reason)
        return True

    def recovered(self) -> bool:
        """Whether this was a change, and so was logged."""
        if self._failure is None:
            return False
        self._failure = None
        self._log.info("%s recovered", self._what)
        return True
