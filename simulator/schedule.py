"""When each epoch is due: pure arithmetic, from the log's offsets alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite

from simulator.epoch import Epoch


def require_speed(speed: float) -> float:
    """The speed, if it is one.

    Raises:
        ValueError: it is not a finite number above 0.
    """
    if not isfinite(speed) or speed <= 0:
        raise ValueError(f"speed must be a number above 0, not {speed}")
    return speed


class Schedule:
    """Due times in seconds after the replay's beginning.

    ``max_gap_s`` is in the log's time: a longer pause is shortened to it. ``loop`` starts
    again ``interval_s`` after the last epoch, without end.
    """

    def __init__(
        self,
        epochs: Sequence[Epoch],
        *,
        speed: float,
        interval_s: float,
        loop: bool = False,
        max_gap_s: float | None = None,
    ) -> None:
        self._speed = require_speed(speed)
        self._loop = loop
        longest_s = inf if max_gap_s is None else max_gap_s
        self._offsets_s: list[float] = []
        offset_s = previous_s = 0.0
        for epoch in epochs:
            offset_s += min(epoch.offset_s - previous_s, longest_s)
            previous_s = epoch.offset_s
            self._offsets_s.append(offset_s)
        self._pass_s = offset_s + interval_s

    @property
    def duration_s(self) -> float:
        """From the first epoch of a pass to its last, at this speed."""
        return self._offsets_s[-1] / self._speed if self._offsets_s else 0.0

    def due_s(self, index: int) -> float | None:
        """When epoch number ``index`` is due, counted over all passes; ``None`` after the end."""
        count = len(self._offsets_s)
        if not count or (index >= count and not self._loop):
            return None
        passes, within = divmod(index, count)
        return (passes * self._pass_s + self._offsets_s[within]) / self._speed
