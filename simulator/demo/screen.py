"""What the person sees: lines that stay, and one that lives.

On a terminal the living line is redrawn in place; elsewhere (a pipe, a CI log) it is
printed every few seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from simulator.clock import monotonic_s

Json = dict[str, Any]

PLAIN_EVERY_S: Final = 5.0
RATE_OVER_S: Final = 2.0


class Screen:
    """A context: on leaving it the living line is gone."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._printed_s = -PLAIN_EVERY_S

    def __enter__(self) -> Self:
        """Begin."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self.end_line()

    def end_line(self) -> None:
        """The living line has said all; lines that stay may follow. Idempotent."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text))

    def status(self, text: str) -> None:
        """The living line."""
        if self._live is not None:
            line = Text(text, style="bold", no_wrap=True, overflow="ellipsis")
            self._live.update(line, refresh=True)
            return
        now_s = monotonic_s()
        if now_s - self._printed_s >= PLAIN_EVERY_S:
            self._printed_s = now_s
            self._console.print(Text(text))


@dataclass(frozen=True, slots=True)
class Latency:
    """From a sample's creation to its being the latest position, milliseconds."""

    p50: float


class StatusLine:
    """Words for the agents' accounts: mode, rate, backlog, acknowledged, latency."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def text(self, accounts: Sequence[Json], latency: Latency | None, *, where: str = "") -> str:
        """The line, short enough for 80 columns; ``where`` says how far the drive is."""
        if not accounts:
            return "waiting for the first words of the agents"
        modes = Counter(str(account.get("mode") or "starting") for account in accounts)
        mode = next(iter(modes))
        if len(accounts) > 1:
            mode = ", ".join(f"{count} {name}" for name, count in sorted(modes.items()))
        created, acknowledged, backlog = (
            sum(account.get(key, 0) for account in accounts)
            for key in ("samples_created", "samples_acknowledged", "backlog_messages")
        )
        parts = [
            mode,
            f"{self._rate(created):.1f}/s",
            f"backlog {backlog:,}",
            f"acknowledged {acknowledged:,}",
            "latency …" if latency is None else f"latency {latency.p50:.0f} ms",
        ]
        return " · ".join([*parts, where] if where else parts)

    def _rate(self, created: int) -> float:
        now_s = monotonic_s()
        self._seen.append((now_s, created))
        while len(self._seen) > 2 and now_s - self._seen[1][0] >= RATE_OVER_S:
            self._seen.pop(0)
        then_s, before = self._seen[0]
        return (created - before) / (now_s - then_s) if now_s > then_s else 0.0


def span(seconds: float) -> str:
    """``95`` as ``1:35``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
