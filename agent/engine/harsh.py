"""``harsh_braking`` and ``harsh_acceleration``: told once each, and not for noise. Pure.

Where CAN gives the acceleration along the vehicle (``motion.acceleration.x``, positive
forward), its mean over ``MEAN_S`` counts, so that a pothole does not. Else the change of the
speed counts: of CAN where it gives one, else of GPS. There

* a measurement counts as the median of itself and its neighbours, so that a single wrong
  one is neither a braking nor an acceleration; an event is told one measurement later;
* only speeds of one sensor that lie ``WINDOWS_S`` apart are compared: closer is noise;
* of GPS no single step may be more than ``GPS_LARGEST_STEP`` of the change: receivers smooth
  slow speeds and then leap to the true one; so of less than a fix a second nothing is told;
* what no tyre can do (``IMPLAUSIBLE_MPS2``, or three times the limit) is no event, and
  speeds from before it are not compared with those after;
* speeds of a receiver whose position is worse than ``GPS_ERROR_M`` are not used.

An event is over when the change has fallen to half the limit.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from statistics import median
from typing import Final

from agent.config import ThresholdSettings
from agent.engine.state import Speed

KMH_TO_MPS: Final = 1 / 3.6
WINDOWS_S: Final = {"can": (0.5, 2.0), "gps": (1.5, 2.5)}
MEAN_S: Final = 0.5
FORGET_S: Final = 2.0
"""Measurements further apart say nothing of what was between."""

IMPLAUSIBLE_MPS2: Final = 12.0
IMPLAUSIBLE_FACTOR: Final = 3.0
GPS_ERROR_M: Final = 100.0
GPS_LARGEST_STEP: Final = 0.7
MOST_KEPT: Final = 64


class Harshness(Enum):
    """Which way; the value is the sign of the acceleration."""

    BRAKING = -1
    ACCELERATION = 1


@dataclass(frozen=True, slots=True)
class HarshEvent:
    """One event; ``mps2`` is positive either way, ``source`` what it was measured by.

    ``can_acceleration``, ``can_speed`` or ``gps_speed``.
    """

    kind: Harshness
    mps2: float
    source: str


class HarshWatch:
    """Show it each view of the vehicle."""

    def __init__(self, thresholds: ThresholdSettings) -> None:
        self._changes = _SpeedChanges()
        self._mean = _MeanAcceleration()
        self._under_way: set[Harshness] = set()
        self.apply(thresholds)

    def apply(self, thresholds: ThresholdSettings) -> None:
        """Other limits from now on."""
        self._limits_mps2 = {
            Harshness.BRAKING: thresholds.harsh_braking_mps2,
            Harshness.ACCELERATION: thresholds.harsh_acceleration_mps2,
        }

    def observe(
        self, speed: Speed | None, forward_mps2: float | None, now_s: float
    ) -> HarshEvent | None:
        """What began just now; ``forward_mps2`` is CAN's acceleration, ``None`` without."""
        if forward_mps2 is not None:
            mean_mps2 = self._mean.add(forward_mps2, now_s)
            if mean_mps2 is None:
                return None
            source = "can_acceleration"
            strongest_mps2 = {kind: mean_mps2 * kind.value for kind in Harshness}
        else:
            self._mean.clear()
            if speed is not None and (speed.accuracy_m or 0.0) > GPS_ERROR_M:
                speed = None
            changes = self._changes.observe(speed)
            if changes is None or speed is None:
                return None
            source = f"{speed.source}_speed"
            strongest_mps2 = changes
        begun = [kind for kind in Harshness if self._begins(kind, strongest_mps2[kind])]
        return HarshEvent(begun[0], strongest_mps2[begun[0]], source) if begun else None

    def _begins(self, kind: Harshness, mps2: float) -> bool:
        limit_mps2 = self._limits_mps2[kind]
        if mps2 > max(IMPLAUSIBLE_MPS2, IMPLAUSIBLE_FACTOR * limit_mps2):
            self._changes.forget()
            self._under_way.discard(kind)
            return False
        if kind in self._under_way:
            if mps2 <= limit_mps2 / 2:
                self._under_way.discard(kind)
            return False
        if mps2 <= limit_mps2:
            return False
        self._under_way.add(kind)
        return True


class _SpeedChanges:
    """The strongest fall and rise of the speed within its window."""

    def __init__(self) -> None:
        self._raw: deque[Speed] = deque(maxlen=3)
        self._speeds: deque[tuple[float, float]] = deque(maxlen=MOST_KEPT)

    def forget(self) -> None:
        """What comes is not compared with what was so far."""
        self._speeds.clear()

    def observe(self, speed: Speed | None) -> dict[Harshness, float] | None:
        """Changes up to the measurement before this one; ``None`` if this one is not new."""
        last = self._raw[-1] if self._raw else None
        gone_s = speed.measured_s - last.measured_s if speed and last else 0.0
        if speed is None or (last and last.source != speed.source) or gone_s > FORGET_S:
            self._raw.clear()
            self._speeds.clear()
        if speed is None or (self._raw and gone_s <= 0):
            return None
        self._raw.append(speed)
        if len(self._raw) < 3:
            return None
        self._speeds.append((self._raw[1].measured_s, median(one.kmh for one in self._raw)))
        largest = GPS_LARGEST_STEP if speed.source == "gps" else 1.0
        return self._strongest(WINDOWS_S[speed.source], largest)

    def _strongest(self, window_s: tuple[float, float], largest: float) -> dict[Harshness, float]:
        """Of the changes up to the newest speed; the window's rest is thrown away."""
        nearest_s, furthest_s = window_s
        at_s, kmh = self._speeds[-1]
        while at_s - self._speeds[0][0] > furthest_s:
            self._speeds.popleft()
        strongest_mps2 = dict.fromkeys(Harshness, 0.0)
        largest_kmh, after_kmh = 0.0, kmh
        for then_s, then_kmh in reversed(self._speeds):
            change_kmh = kmh - then_kmh
            largest_kmh = max(largest_kmh, abs(after_kmh - then_kmh))
            after_kmh = then_kmh
            if at_s - then_s < nearest_s or largest_kmh > largest * abs(change_kmh):
                continue
            change_mps2 = change_kmh * KMH_TO_MPS / (at_s - then_s)
            for kind in Harshness:
                strongest_mps2[kind] = max(strongest_mps2[kind], change_mps2 * kind.value)
        return strongest_mps2


class _MeanAcceleration:
    """The mean over the last ``MEAN_S``, weighted by time; needs readings that span it."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, float]] = deque(maxlen=MOST_KEPT)

    def clear(self) -> None:
        """What was so far does not count for what comes."""
        self._readings.clear()

    def add(self, mps2: float, now_s: float) -> float | None:
        """One reading; the mean, or ``None`` while too little is known."""
        if self._readings and now_s - self._readings[-1][0] > FORGET_S:
            self._readings.clear()
        self._readings.append((now_s, mps2))
        while now_s - self._readings[0][0] > MEAN_S and now_s - self._readings[1][0] >= MEAN_S:
            self._readings.popleft()
        spanned_s = now_s - self._readings[0][0]
        if spanned_s < MEAN_S:
            return None
        area = sum(
            (before + after) / 2 * (after_s - before_s)
            for (before_s, before), (after_s, after) in pairwise(self._readings)
        )
        return area / spanned_s
