"""The J1939 source: faults of all ECUs of a bus, its VIN and engine hours, in one thread.

It only listens, unless requests are configured. Faults are held while the bus sleeps; an ECU
that stops to tell of any while the bus is awake has none any more.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from agent.config.obd import J1939Request, J1939Settings
from agent.inputs import Inbox
from agent.ports import Clock
from agent.sources.can.worker import BusWorker
from agent.sources.j1939 import dm1, frames
from agent.sources.j1939.claim import AddressClaim, make_name
from agent.sources.j1939.transport import BroadcastReceiver
from agent.sources.obd.codes import vin_text

if TYPE_CHECKING:
    import can

WAIT_S: Final = 0.5
GATHER_S: Final = 0.1
"""How long frames are left in the socket to gather."""

MOST_FRAMES_A_TURN: Final = 500

AWAKE_S: Final = 5.0
"""A bus without any of the frames that are listened to for so long sleeps."""

HOURS_A_BIT: Final = 0.05
MOST_HOURS: Final = 0xFAFF_FFFF
"""Larger raw values mean "error" or "not available"."""

VIN_BYTES: Final = 17

GROUPS: Final[tuple[int, ...]] = (
    frames.EEC1,  # tells that the engine's ECU is awake
    frames.DM1,
    frames.ENGINE_HOURS,
    frames.VEHICLE_ID,
    frames.TRANSPORT | frames.EVERYONE,
    frames.TRANSPORT_DATA | frames.EVERYONE,
    frames.ADDRESS_CLAIMED | frames.EVERYONE,
)

REQUESTS: Final = {
    J1939Request.VIN: frames.VEHICLE_ID,
    J1939Request.ENGINE_HOURS: frames.ENGINE_HOURS,
}


class J1939Source(BusWorker):
    """``start()`` once; ``stop()`` at any time, idempotent; ``read`` from the engine."""

    def __init__(self, settings: J1939Settings, inbox: Inbox, clock: Clock) -> None:
        super().__init__("j1939", settings, inbox, clock)
        self._j1939 = settings
        self._messages = BroadcastReceiver()
        self._claim = AddressClaim(settings.address, make_name(secrets.randbits(21)))
        self._groups = GROUPS
        if settings.requests:
            # who has an address is asked for it
            to_us = (frames.REQUEST | frames.EVERYONE, frames.REQUEST | settings.address)
            self._groups = GROUPS + to_us
        self._taken = frozenset(frames.parse_id(group << 8).group for group in self._groups)
        self._told_s: dict[int, float] = {}
        self._lamps: dict[int, dict[str, bool]] = {}
        self._heard_s: float | None = None
        self._due_s = 0.0
        self.frames = 0
        self.too_short = 0

    def account(self) -> dict[str, Any]:
        """Frames taken, messages that were not completed, and frames sent."""
        return {
            "channel": self._settings.channel,
            "frames": self.frames,
            "telling_faults": sorted(self._told_s),
            "given_up": sum(self._messages.given_up.values()),
            "too_short": self.too_short,
            "frames_sent": self.frames_sent,
            "bus_errors": self.bus_errors,
        }

    def _work(self) -> None:
        self._claim.claimed_s = None
        self._filter([(group << 8, frames.GROUP_MASK, True) for group in self._groups])
        while not self._stopping.is_set():
            self._hold()
            message = self._receive(WAIT_S)
            taken = 0
            while message is not None and taken < MOST_FRAMES_A_TURN:
                self._take(message)
                taken += 1
                message = self._receive(0)
            now_s = self._clock.monotonic_s()
            self._forget_silent(now_s)
            if self._is_awake(now_s):
                self._ask(now_s)
            if taken:
                self._stopping.wait(GATHER_S)

    def _take(self, message: can.Message) -> None:
        if not message.is_extended_id:
            return
        header = frames.parse_id(message.arbitration_id)
        if header.group not in self._taken:
            return
        self.frames += 1
        now_s = self._heard_s = self._clock.monotonic_s()
        data = bytes(message.data)
        if header.group in {frames.TRANSPORT, frames.TRANSPORT_DATA}:
            whole = self._messages.take(header, data, now_s)
            if whole is not None:
                self._understand(whole[0], header.source, whole[1], now_s)
        elif header.group == frames.ADDRESS_CLAIMED:
            self._hear_claim(header.source, data, now_s)
        elif header.group == frames.REQUEST:
            self._hear_request(header.destination, data, now_s)
        else:
            self._understand(header.group, header.source, data, now_s)

    def _understand(self, group: int, source: int, data: bytes, now_s: float) -> None:
        if group == frames.DM1:
            self._take_faults(source, data, now_s)
        elif group == frames.VEHICLE_ID:
            # an asterisk ends the VIN; some ECUs put bytes of their own before it
            vin = vin_text(b"\x01" + data.partition(b"*")[0][:VIN_BYTES])
            if vin is not None:
                self.readings.put("signals.vin", vin, now_s)
        elif group == frames.ENGINE_HOURS:
            raw = int.from_bytes(data[:4], "little")
            if len(data) >= 4 and raw <= MOST_HOURS:
                hours = round(raw * HOURS_A_BIT, 2)
                self.readings.put("signals.engine_hours", hours, now_s)

    def _take_faults(self, source: int, data: bytes, now_s: float) -> None:
        wanted = self._j1939.source_addresses
        if wanted and source not in wanted:
            return
        told = dm1.decode(data)
        if told is None:
            self.too_short += 1
            return
        self._told_s[source] = now_s
        self._lamps[source] = told.lamps
        self.readings.put_codes(source, told.codes)
        self._put_lamps(now_s)

    def _put_lamps(self, now_s: float) -> None:
        """A lamp is on if any ECU wants it on."""
        for name, _ in dm1.LAMPS:
            wishes = [lamps[name] for lamps in self._lamps.values() if name in lamps]
            if wishes:
                self.readings.put(f"signals.{name}", any(wishes), now_s)

    def _is_awake(self, now_s: float) -> bool:
        return self._heard_s is not None and now_s - self._heard_s <= AWAKE_S

    def _forget_silent(self, now_s: float) -> None:
        """ECUs that the bus went on without; one that fell silent as a whole sleeps."""
        for source, told_s in list(self._told_s.items()):
            if self._heard_s is not None and self._heard_s - told_s > self._j1939.dm1_timeout_s:
                del self._told_s[source]
                self._lamps[source] = dict.fromkeys(self._lamps[source], False)
                self.readings.put_codes(source, ())
                self._put_lamps(now_s)

    def _ask(self, now_s: float) -> None:
        if not self._j1939.requests or self._claim.lost:
            return
        if self._claim.claimed_s is None:
            self._send_claim(now_s)
        elif self._claim.usable(now_s) and now_s >= self._due_s:
            self._due_s = now_s + self._j1939.request_interval_s
            for wanted in self._j1939.requests:
                frame_id = frames.make_id(frames.REQUEST, self._j1939.address)
                self._send(frame_id, REQUESTS[wanted].to_bytes(3, "little"), extended=True)

    def _hear_claim(self, source: int, data: bytes, now_s: float) -> None:
        if self._claim.contested(source, data):
            self._send_claim(now_s)
        elif self._claim.lost:
            if source == self._j1939.address:
                self._send_claim(now_s)
            self._lost(f"another node has the address {self._j1939.address}: set j1939.address")

    def _hear_request(self, destination: int, data: bytes, now_s: float) -> None:
        """Somebody asks who has which address; a node that has claimed one must say so."""
        if destination not in {frames.EVERYONE, self._j1939.address}:
            return
        asked = int.from_bytes(data[:3], "little")
        if asked == frames.ADDRESS_CLAIMED and self._claim.claimed_s is not None:
            self._send_claim(now_s)

    def _send_claim(self, now_s: float) -> None:
        """Claim the address; or, if it is lost, say that we have none."""
        source = frames.NOBODY if self._claim.lost else self._j1939.address
        frame_id = frames.make_id(frames.ADDRESS_CLAIMED, source)
        self._send(frame_id, self._claim.claim(now_s), extended=True)
