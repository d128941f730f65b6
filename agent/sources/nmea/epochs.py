"""Sentences to fixes: one fix an epoch, never a mixture of two seconds. Pure.

A receiver says one moment in several sentences. Those that carry a time of day say which
moment they are of; the others belong to the timed one before them in the same burst, and
only as long as nothing says otherwise:

- a sentence with another time ends the epoch;
- after a line that could not be used (it may have begun a new moment), after a pause of
  the line, and after a VTG that comes twice, sentences without a time are not taken until
  the next timed one;
- a fix that any sentence of the epoch denies is none.

An epoch is handed out when it has ended or the line has paused; what the same epoch still
brings after that completes it (``is_new`` false). The date comes from RMC and ZDA alone and
is carried on, over midnight too, to epochs that have none of their own. Where nobody ever
says the date, fixes have no ``time``, and the sample has its time of arrival instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from agent.inputs import Fix, FixReceived
from agent.sources.gps.accuracy import UNKNOWN_DILUTION, from_hdop
from agent.sources.nmea.parser import (
    NO_FIX_QUALITIES,
    Gga,
    Gll,
    Gsa,
    Gst,
    Gsv,
    Rmc,
    Sentence,
    Txt,
    Vtg,
    Zda,
)
from contract import FixMode

HALF_DAY_MS: Final = 43_200_000

DATE_KEPT_S: Final = 6 * 3_600.0
"""A date is carried on only so long: over half a day a midnight could pass unseen."""


@dataclass(slots=True)
class _Epoch:
    """What the sentences of one moment said, the first of each kind."""

    time_ms: int | None = None
    begun_s: float = 0.0
    rmc: Rmc | None = None
    gga: Gga | None = None
    gll: Gll | None = None
    gst: Gst | None = None
    vtg: Vtg | None = None
    modes: list[int] = field(default_factory=list)
    hdop: float | None = None
    is_denied: bool = False
    told: Fix | None = None


class EpochMerger:
    """Feed it all sentences in their order; it hands out the fixes that they complete.

    ``device`` stands in the fixes.
    """

    def __init__(self, device: str = "") -> None:
        self._device = device
        self._epoch = _Epoch()
        self._is_torn = True
        self._dates = _Dates()
        self.repeats = False
        """Whether a sentence with a fix came again with its time unchanged."""

    def feed(self, sentence: Sentence, received_s: float) -> FixReceived | None:
        """Take one sentence that came at a monotonic time; the fix that it brings to an end."""
        match sentence:
            case Gsv() | Txt():
                return None
            case Gsa() | Vtg():
                if not self._is_torn:
                    self._take_untimed(sentence)
                return None
            case Zda():
                return self._take_date(sentence, received_s)
            case _:
                return self._take_timed(sentence, received_s)

    def tear(self) -> None:
        """A line was lost that may have begun a new moment."""
        self._is_torn = True

    def pause(self) -> FixReceived | None:
        """The line fell quiet: the epoch is over as far as one can tell."""
        self._is_torn = True
        return self._hand_out()

    def _take_date(self, zda: Zda, received_s: float) -> FixReceived | None:
        """ZDA is no part of an epoch: some receivers give it the full second's time."""
        if zda.time_ms is None or zda.date is None:
            return None
        done = None
        if zda.time_ms != self._epoch.time_ms:
            done = self.pause()
        self._dates.learn(zda.date, zda.time_ms, received_s)
        return done

    def _take_timed(self, sentence: Rmc | Gga | Gll | Gst, received_s: float) -> FixReceived | None:
        epoch, time_ms = self._epoch, sentence.time_ms
        if time_ms is None:
            # without a time it is no position, but "no fix" counts for the moment going on
            epoch.is_denied |= not self._is_torn and _denies(sentence)
            return None
        done = None
        if time_ms != epoch.time_ms:
            done = self._hand_out()
            self._epoch = epoch = _Epoch(time_ms, received_s)
            self.repeats = False
        self._is_torn = False
        match sentence:
            case Rmc():
                self.repeats |= sentence == epoch.rmc and sentence.is_fix
                epoch.rmc = epoch.rmc or sentence
                if sentence.date is not None and sentence.is_fix:
                    self._dates.learn(sentence.date, time_ms, received_s)
            case Gga():
                self.repeats |= sentence == epoch.gga and not _denies(sentence)
                epoch.gga = epoch.gga or sentence
            case Gll():
                epoch.gll = epoch.gll or sentence
            case Gst():
                epoch.gst = epoch.gst or sentence
        epoch.is_denied |= _denies(sentence)
        return done

    def _take_untimed(self, sentence: Gsa | Vtg) -> None:
        epoch = self._epoch
        if isinstance(sentence, Gsa):
            epoch.modes.append(sentence.mode)
            epoch.hdop = sentence.hdop if epoch.hdop is None else epoch.hdop
        elif epoch.vtg is None:
            epoch.vtg = sentence
        else:
            self._is_torn = True

    def _hand_out(self) -> FixReceived | None:
        epoch = self._epoch
        fix = self._fix(epoch)
        if fix is None or fix == epoch.told:
            return None
        is_new, epoch.told = epoch.told is None, fix
        return FixReceived(fix, is_new)

    def _fix(self, epoch: _Epoch) -> Fix | None:
        where = epoch.gga or epoch.rmc or epoch.gll
        if where is None or where.lat is None or where.lon is None or epoch.time_ms is None:
            return None
        mode = _mode(epoch)
        if epoch.is_denied or mode is None:
            return None
        gga = epoch.gga
        hdop = gga.hdop if gga is not None and gga.hdop is not None else epoch.hdop
        if hdop is not None and not 0 < hdop < UNKNOWN_DILUTION:
            hdop = None
        speed_kmh, heading = _motion(epoch)
        return Fix(
            received_s=epoch.begun_s,
            lat=where.lat,
            lon=where.lon,
            time=self._dates.moment(epoch.time_ms, epoch.begun_s),
            altitude_m=gga.altitude_m if gga is not None and mode is FixMode.FIX_3D else None,
            accuracy_m=_accuracy_m(epoch, hdop),
            speed_kmh=speed_kmh,
            heading=heading,
            device=self._device,
            mode=mode,
            satellites=gga.satellites if gga is not None else None,
            hdop=hdop,
        )


def _denies(sentence: Rmc | Gga | Gll | Gst) -> bool:
    match sentence:
        case Rmc() | Gll():
            return not sentence.is_fix
        case Gga():
            return sentence.quality in NO_FIX_QUALITIES
        case Gst():
            return False


def _mode(epoch: _Epoch) -> FixMode | None:
    """``None`` if there is no fix. Without GSA, who gives an altitude has measured it."""
    if epoch.modes:
        return {2: FixMode.FIX_2D, 3: FixMode.FIX_3D}.get(max(epoch.modes))
    if epoch.gga is not None and epoch.gga.altitude_m is not None:
        return FixMode.FIX_3D
    return FixMode.FIX_2D


def _motion(epoch: _Epoch) -> tuple[float | None, float | None]:
    """RMC's speed and course first: only its moment is certain."""
    speed_kmh = epoch.rmc.speed_kmh if epoch.rmc is not None else None
    heading = epoch.rmc.heading if epoch.rmc is not None else None
    if epoch.vtg is not None:
        speed_kmh = epoch.vtg.speed_kmh if speed_kmh is None else speed_kmh
        heading = epoch.vtg.heading if heading is None else heading
    return speed_kmh, heading


def _accuracy_m(epoch: _Epoch, hdop: float | None) -> float | None:
    if epoch.gst is not None and epoch.gst.accuracy_m is not None:
        return epoch.gst.accuracy_m
    if hdop is None:
        return None
    accuracy_m = from_hdop(hdop, epoch.gga.quality if epoch.gga is not None else 1)
    return None if accuracy_m is None else round(accuracy_m, 3)


class _Dates:
    """The date of a time of day, from the last one that was said with a date."""

    def __init__(self) -> None:
        self._date: date | None = None
        self._time_ms = 0
        self._at_s = 0.0

    def learn(self, day: date, time_ms: int, at_s: float) -> None:
        self._date, self._time_ms, self._at_s = day, time_ms, at_s

    def moment(self, time_ms: int, at_s: float) -> datetime | None:
        """UTC, or ``None`` where the date is not known."""
        if self._date is None or at_s - self._at_s > DATE_KEPT_S:
            return None
        midnight = datetime(self._date.year, self._date.month, self._date.day, tzinfo=UTC)
        past_ms = time_ms - self._time_ms
        if past_ms < -HALF_DAY_MS:
            midnight += timedelta(days=1)
        elif past_ms > HALF_DAY_MS:
            midnight -= timedelta(days=1)
        return midnight + timedelta(milliseconds=time_ms)
