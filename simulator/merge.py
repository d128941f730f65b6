"""Sentences to epochs: never a mixture of two seconds.

A receiver says one moment in several sentences. RMC, GGA and GST carry the time of day;
the others belong to the timed sentence before them. A new epoch begins when

- a timed sentence gives another time of day than the epoch has, or
- a sentence of a kind and talker that the epoch already has comes again and one of the
  two has no time (a receiver without a fix may give none), except GSA and GSV, of which
  an epoch holds several.

What has neither RMC nor GGA is no epoch (a log that starts or is torn in the middle of
one) and is counted as partial. There is a fix only if no sentence of the epoch denies it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date

from simulator.epoch import Epoch, FixMode, Satellite, SatelliteId
from simulator.nmea import NO_FIX_QUALITIES, Gga, Gsa, Gst, Gsv, Ignored, Rmc, Sentence, Vtg

MAX_SATELLITES = 128


@dataclass(slots=True)
class _Open:
    """The epoch that is being collected."""

    time_of_day_ms: int | None = None
    rmc: Rmc | None = None
    gga: Gga | None = None
    vtg: Vtg | None = None
    gst: Gst | None = None
    gsas: list[Gsa] = field(default_factory=list)
    in_view: dict[SatelliteId, Satellite] = field(default_factory=dict)
    seen: set[tuple[type[Sentence], str]] = field(default_factory=set)


class EpochMerger:
    """Feed it sentences in the log's order; it hands out the epochs that they complete.

    The epochs' ``offset_s`` is 0; the timeline sets it.
    """

    def __init__(self) -> None:
        self._open = _Open()
        self._torn = False
        self.partial_epochs = 0

    def feed(self, sentence: Sentence) -> Epoch | None:
        """Take one sentence; the epoch before it, if it begins a new one."""
        if isinstance(sentence, Ignored):
            return None
        done = None
        if self._begins_epoch(sentence):
            done = self.finish()
        if isinstance(sentence, Rmc | Gga | Gst):
            self._torn = False
        if not self._torn:
            self._take(sentence)
        return done

    def tear(self) -> None:
        """A line was lost that may have begun a new moment.

        What follows without a time is not taken until the next timed sentence.
        """
        self._torn = True

    def finish(self) -> Epoch | None:
        """The epoch collected so far, if it is one; at the end of the log."""
        collected, self._open = self._open, _Open()
        if collected.rmc is None and collected.gga is None:
            self.partial_epochs += bool(collected.seen)
            return None
        return _epoch(collected)

    def _begins_epoch(self, sentence: Sentence) -> bool:
        if isinstance(sentence, Gsa | Gsv):
            return False
        time_ms = None
        if isinstance(sentence, Rmc | Gga | Gst):
            time_ms = sentence.time_of_day_ms
        if self._open.time_of_day_ms is not None and time_ms is not None:
            return time_ms != self._open.time_of_day_ms
        if time_ms is not None and self._open.seen and self._open.time_of_day_ms is None:
            # Nothing says that what came before it without a time is of the same moment.
            return True
        return _key(sentence) in self._open.seen

    def _take(self, sentence: Sentence) -> None:
        self._open.seen.add(_key(sentence))
        match sentence:
            case Gsa():
                self._open.gsas.append(sentence)
            case Gsv():
                for satellite in sentence.satellites:
                    self._see(satellite)
            case Vtg():
                self._open.vtg = sentence
            case Rmc():
                self._open.rmc = sentence
            case Gga():
                self._open.gga = sentence
            case Gst():
                self._open.gst = sentence
        if isinstance(sentence, Rmc | Gga | Gst) and sentence.time_of_day_ms is not None:
            self._open.time_of_day_ms = sentence.time_of_day_ms

    def _see(self, satellite: Satellite) -> None:
        identity = (satellite.gnss, satellite.svid)
        known = self._open.in_view.get(identity)
        if known is None and len(self._open.in_view) >= MAX_SATELLITES:
            return
        if known is None or (satellite.snr_dbhz or 0) > (known.snr_dbhz or 0):
            self._open.in_view[identity] = satellite


def _key(sentence: Sentence) -> tuple[type[Sentence], str]:
    return type(sentence), "" if isinstance(sentence, Ignored) else sentence.talker


def _epoch(parts: _Open) -> Epoch:
    mode = _mode(parts)
    known = Epoch(
        offset_s=0.0,
        mode=mode,
        time_of_day_ms=parts.time_of_day_ms,
        date=_date(parts),
        satellites=tuple(_satellites(parts)),
    )
    if mode is FixMode.NO_FIX:
        return known
    gga, rmc, gst = parts.gga, parts.rmc, parts.gst
    where = gga or rmc
    speed_mps, track_deg = _motion(parts)
    return replace(
        known,
        lat=where.lat if where else None,
        lon=where.lon if where else None,
        altitude_msl_m=gga.altitude_msl_m if gga and mode is FixMode.FIX_3D else None,
        geoid_separation_m=gga.geoid_separation_m if gga else None,
        speed_mps=speed_mps,
        track_deg=track_deg,
        quality=gga.quality if gga else None,
        hdop=_dilution(parts, "hdop"),
        pdop=_dilution(parts, "pdop"),
        vdop=_dilution(parts, "vdop"),
        lat_sigma_m=gst.lat_sigma_m if gst else None,
        lon_sigma_m=gst.lon_sigma_m if gst else None,
        altitude_sigma_m=gst.altitude_sigma_m if gst else None,
        satellites_used=gga.satellites_used if gga else None,
    )


def _mode(parts: _Open) -> FixMode:
    if parts.rmc is not None and not parts.rmc.valid:
        return FixMode.NO_FIX
    if parts.gga is not None and parts.gga.quality in NO_FIX_QUALITIES:
        return FixMode.NO_FIX
    if parts.gsas:
        return FixMode(max(gsa.mode for gsa in parts.gsas))
    if parts.gga is not None and parts.gga.altitude_msl_m is not None:
        return FixMode.FIX_3D
    return FixMode.FIX_2D


def _date(parts: _Open) -> date | None:
    return parts.rmc.date if parts.rmc else None


def _motion(parts: _Open) -> tuple[float | None, float | None]:
    """RMC's speed and track first: VTG carries no time, so only RMC's moment is certain."""
    speed_mps = parts.rmc.speed_mps if parts.rmc else None
    track_deg = parts.rmc.track_deg if parts.rmc else None
    if parts.vtg is not None:
        speed_mps = parts.vtg.speed_mps if speed_mps is None else speed_mps
        track_deg = parts.vtg.track_deg if track_deg is None else track_deg
    return speed_mps, track_deg


def _dilution(parts: _Open, name: str) -> float | None:
    for gsa in parts.gsas:
        value: float | None = getattr(gsa, name)
        if value is not None:
            return value
    return parts.gga.hdop if parts.gga and name == "hdop" else None


def _satellites(parts: _Open) -> Iterator[Satellite]:
    used = {identity for gsa in parts.gsas for identity in gsa.used}
    for identity, satellite in parts.in_view.items():
        yield replace(satellite, used=True) if identity in used else satellite
