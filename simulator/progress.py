"""Progress bars on stderr, for a person; nothing when stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    # rich takes a tenth of a second to import: only a terminal pays for it.
    from rich.progress import Progress, TaskID

Fraction = Callable[[], float]
"""How much is done, 0 to 1; asked at each refresh."""

Note = Callable[[], str]
"""A few words behind the bar, e.g. ``"120 fixes"``."""


class ProgressBars:
    """One bar per thing under way.

    Use as a context manager, ``track`` each thing, call ``refresh`` now and then from one
    thread. ``enabled`` overrides the terminal check.
    """

    def __init__(self, *, enabled: bool | None = None) -> None:
        self._enabled = sys.stderr.isatty() if enabled is None else enabled
        self._progress: Progress | None = None
        self._tracked: list[tuple[TaskID, Fraction, Note | None]] = []

    def __enter__(self) -> Self:
        if self._enabled:
            from rich.console import Console  # noqa: PLC0415 -- slow, see above
            from rich.progress import (  # noqa: PLC0415 -- slow, see above
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self.refresh()
            self._progress.stop()

    def track(self, name: str, fraction: Fraction, note: Note | None = None) -> None:
        """Add a bar."""
        if self._progress is not None:
            task = self._progress.add_task(name, total=1.0, note="")
            self._tracked.append((task, fraction, note))

    def refresh(self) -> None:
        """Ask every fraction and note, and draw."""
        if self._progress is None:
            return
        for task, fraction, note in self._tracked:
            self._progress.update(task, completed=fraction(), note="" if note is None else note())
