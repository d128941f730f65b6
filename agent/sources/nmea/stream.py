"""What a receiver's line says: bytes in, fixes out, everything else counted. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agent.inputs import FixReceived
from agent.sources.gps import antenna
from agent.sources.nmea.epochs import EpochMerger
from agent.sources.nmea.fields import NmeaError
from agent.sources.nmea.frames import NOISE, UBX_SYNC, Framer
from agent.sources.nmea.parser import Gsv, Sentence, Txt, parse

UBX_KEPT: Final = 16


class NmeaStream:
    """One session's line; ``device`` stands in the fixes."""

    def __init__(self, device: str = "") -> None:
        self._framer = Framer()
        self._merger = EpochMerger(device)
        self._in_view: dict[str, int] = {}
        self._ubx: list[bytes] = []
        self.bytes_read = 0
        self.sentences = 0
        """Sound ones, those included that are not read."""
        self.bad_sentences = 0
        self.noise = 0
        """Runs of bytes that were no sentence."""
        self.ubx_messages = 0
        self.fixes = 0
        self.antenna: str | None = None
        """``OK``, ``OPEN`` or ``SHORT``, as the receiver said last."""

    @property
    def in_view(self) -> int:
        """The satellites that GSV told of last, all systems together."""
        return sum(self._in_view.values())

    def feed(self, data: bytes, received_s: float) -> Iterator[FixReceived]:
        """The fixes that these bytes complete; ``received_s`` is monotonic."""
        self.bytes_read += len(data)
        for frame in self._framer.feed(data):
            sentence = self._sentence(frame)
            if sentence is None:
                continue
            if isinstance(sentence, Gsv):
                self._in_view[sentence.talker] = sentence.in_view
            elif isinstance(sentence, Txt):
                self._read_remark(sentence.text)
            fix = self._merger.feed(sentence, received_s)
            if fix is not None:
                self.fixes += fix.is_new
                yield fix

    def pause(self) -> FixReceived | None:
        """The line fell quiet; the fix that was waiting for more."""
        fix = self._merger.pause()
        if fix is not None:
            self.fixes += fix.is_new
        return fix

    @property
    def repeats(self) -> bool:
        """Whether the receiver only says again what it said before."""
        return self._merger.repeats

    def take_ubx(self) -> list[bytes]:
        """The UBX messages since the last time, whole and with sound checksums."""
        taken, self._ubx = self._ubx, []
        return taken

    def account(self) -> dict[str, Any]:
        """Counters of this session."""
        return {
            "bytes_read": self.bytes_read,
            "sentences": self.sentences,
            "bad_sentences": self.bad_sentences,
            "noise": self.noise,
            "fixes": self.fixes,
            "satellites_in_view": self.in_view,
            "antenna": self.antenna,
        }

    def _sentence(self, frame: bytes) -> Sentence | None:
        if frame == NOISE:
            self.noise += 1
            self._merger.tear()
            return None
        if frame.startswith(UBX_SYNC):
            self.ubx_messages += 1
            if len(self._ubx) < UBX_KEPT:
                self._ubx.append(frame)
            return None
        try:
            sentence = parse(frame)
        except NmeaError:
            self.bad_sentences += 1
            # whatever it begins with: lost bytes may have joined it to one of a later moment
            self._merger.tear()
            return None
        self.sentences += 1
        return sentence

    def _read_remark(self, text: str) -> None:
        self.antenna = antenna.word_in(text) or self.antenna
