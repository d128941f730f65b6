"""What a receiver knew at one moment: fix, errors and satellites."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum


class FixMode(IntEnum):
    """As gpsd numbers them (``man gpsd_json``, TPV ``mode``)."""

    NO_FIX = 1
    FIX_2D = 2
    FIX_3D = 3


class Gnss(IntEnum):
    """Satellite systems, numbered as ``gnssid`` in gpsd's SKY report."""

    GPS = 0
    SBAS = 1
    GALILEO = 2
    BEIDOU = 3
    QZSS = 5
    GLONASS = 6


SatelliteId = tuple[Gnss, int]
"""System and the number within that system (GLONASS: the slot, 1 to 32)."""


@dataclass(frozen=True, slots=True)
class Satellite:
    """One satellite in view; of several signals the strongest."""

    gnss: Gnss
    svid: int
    elevation_deg: int | None = None
    azimuth_deg: int | None = None
    snr_dbhz: int | None = None
    used: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """All sentences of one moment, merged. ``None`` means that the log does not say.

    ``offset_s`` is the time since the log's first epoch and never decreases; it is what
    a replay paces by. ``time_of_day_ms`` and ``date`` are what the receiver said (UTC).
    """

    offset_s: float
    mode: FixMode
    time_of_day_ms: int | None = None
    date: date | None = None
    lat: float | None = None
    lon: float | None = None
    altitude_msl_m: float | None = None
    geoid_separation_m: float | None = None
    speed_mps: float | None = None
    track_deg: float | None = None
    quality: int | None = None
    """GGA's quality: 1 autonomous, 2 differential, 4 RTK fixed, 5 RTK float, 6 estimated."""
    hdop: float | None = None
    pdop: float | None = None
    vdop: float | None = None
    lat_sigma_m: float | None = None
    lon_sigma_m: float | None = None
    altitude_sigma_m: float | None = None
    satellites_used: int | None = None
    satellites: tuple[Satellite, ...] = ()

    @property
    def has_fix(self) -> bool:
        """Whether there is a position that the receiver vouches for."""
        return self.mode is not FixMode.NO_FIX

    @property
    def time(self) -> datetime | None:
        """The receiver's UTC time, where the log gives date and time of day."""
        if self.date is None or self.time_of_day_ms is None:
            return None
        midnight = datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC)
        return midnight + timedelta(milliseconds=self.time_of_day_ms)
