"""Bytes a sample on the wire: single JSON, batches of 10 s and 60 s, gzip and zstd beside them.

The samples are what the agent's engine makes of a drive at 1 Hz: the built-in drive with
its CAN log, and the recorded NMEA traces where they are there ($MILEPOST_TRACES, or
../shared/traces), which have positions only. ``payload`` is the publish's payload;
``on_the_wire`` is what a counting proxy between the agent's transport and a Mosquitto saw
in both directions: MQTT, TLS records and PUBACKs, each publish alone, the connection's
start left out. TCP and IP add 52 bytes a packet to that.

    python bench/wire_bytes.py --seconds 600
"""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import zstandard
from _peers import (
    ROOT,
    VEHICLE_ID,
    SecuredBroker,
    arguments,
    progress,
    scratch,
    secured_broker,
    show,
)

from agent.config import CanSettings, PositionSettings, SamplingSettings
from agent.config.sampling import RateSettings
from agent.engine.engine import Engine, EngineIdentity
from agent.engine.odometer import GpsOdometer
from agent.engine.state import VehicleState
from agent.engine.trips import TripKeeper
from agent.host import SystemClock
from agent.inputs import FixReceived, Inbox, SignalReader
from agent.sources.can.ids import can_id
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.dbc.compile import compile_in_process
from agent.sources.gpsd.protocol import fix_from_tpv
from agent.transport import Credentials
from agent.transport.endpoint import Endpoint, Will
from agent.transport.paho_transport import PahoTransport
from contract import Sample, encode, encode_batch_rows
from simulator import gpsd_reports
from simulator.can_log import CanLog, LoggedFrame
from simulator.demo.signals import BUILT_IN
from simulator.trace import Trace, read_trace
from tests.fakes.clock import FakeClock
from tests.fakes.recorder import ListRecorder
from tests.fakes.relay import Relay

BUILT_IN_TRACES = ROOT / "simulator" / "traces"
TRACES = Path(os.environ.get("MILEPOST_TRACES", ROOT.parent / "shared" / "traces"))
RECORDED = (
    "dev01_munich_drive.nmea",
    "dev02_mtv_f9k_rtk_drive_a.nmea",
    "dev03_reno_tahoe_garmin_drive_a.nmea",
)
BATCHES_S = (10, 60)

# --- what the agent makes of a drive -----------------------------------------------


def built_in_map() -> SignalMap:
    """The built-in drive's signals, as the demo maps them."""
    settings = CanSettings.model_validate(
        {
            "interface": "virtual",
            "channel": "0",
            "dbc": [str(BUILT_IN_TRACES / "milepost-demo.dbc")],
            "signals": {
                name: {"signal": one.signal, "scale": one.scale} for name, one in BUILT_IN.items()
            },
        }
    )
    tables = compile_in_process(settings.dbc, references(settings))
    return SignalMap(settings, tables)


def drive(folder: Path, trace: Trace, seconds: float, can: Sequence[LoggedFrame]) -> list[Sample]:
    """Play a drive through the engine, in its own time, one sample a second."""
    clock = FakeClock()
    start_s = clock.monotonic_s()
    signals = built_in_map() if can else None
    readers: tuple[SignalReader, ...] = (signals,) if signals is not None else ()
    recorder = ListRecorder()
    every_second = RateSettings(interval_s=1.0)
    engine = Engine(
        identity=EngineIdentity(VEHICLE_ID, "f3a1c2d4"),
        sampling=SamplingSettings(in_trip=every_second, idle=every_second),
        clock=clock,
        inbox=Inbox(),
        state=VehicleState(
            observe_time=lambda fix_time, _: fix_time,
            readers=readers,
            position=PositionSettings(),
            odometer=GpsOdometer(folder),
            stale_after_s=5.0,
        ),
        trips=TripKeeper(folder, boot_id="bench", resume_s=900),
        recorder=recorder,
        on_rate=lambda _: None,
        take_unreported_drops=dict,
    )
    engine.prepare()
    frames = iter(can)
    frame = next(frames, None)
    for epoch in trace.epochs:
        if epoch.offset_s > seconds:
            break
        now_s = start_s + epoch.offset_s
        clock.advance(now_s - clock.monotonic_s())
        while signals is not None and frame is not None and frame.offset_s <= epoch.offset_s:
            received_s = start_s + frame.offset_s
            identifier = can_id(frame.arbitration_id, extended=frame.extended)
            signals.take([(identifier, len(frame.data), frame.data)], received_s)
            frame = next(frames, None)
        taken = (clock.utc() - timedelta(seconds=0.1)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        fix = fix_from_tpv(gpsd_reports.tpv(epoch, "/dev/ttyACM0", f"{taken}Z"), now_s)
        engine.step(FixReceived(fix) if fix is not None else None, now_s)
    samples: list[Sample] = recorder.samples
    return samples


def drives(folder: Path, seconds: float) -> dict[str, list[Sample]]:
    """All that there are, by name."""
    can = list(CanLog(BUILT_IN_TRACES / "default.candump"))
    found = {"built-in": drive(folder, read_trace(BUILT_IN_TRACES / "default.nmea"), seconds, can)}
    for name in RECORDED:
        path = TRACES / "nmea" / name
        if path.exists():
            found[path.stem] = drive(folder, read_trace(path), seconds, ())
        else:
            progress(f"{name} is not there and left out")
    return found


# --- bytes -------------------------------------------------------------------------


class CountingRelay(Relay):  # type: ignore[misc]  # the tests' fakes have no types
    """Counts the bytes that pass, both ways."""

    def __init__(self, target_port: int) -> None:
        self.bytes = 0
        self._count = threading.Lock()
        super().__init__(target_port)

    def _pump(self, source: Any, sink: Any) -> None:
        try:
            while data := source.recv(65_536):
                with self._count:
                    self.bytes += len(data)
                sink.sendall(data)
        except OSError:
            return


class Wire:
    """The agent's transport through the counting relay; one publish at a time."""

    def __init__(self, broker: SecuredBroker) -> None:
        self._relay = CountingRelay(broker.port)
        self._connected, self._settled = threading.Event(), threading.Event()
        identity = broker.identity
        self._transport = PahoTransport(
            clock=SystemClock(),
            endpoint=Endpoint("127.0.0.1", self._relay.port, VEHICLE_ID, 60),
            credentials=Credentials(
                identity.ca_file, identity.certificate_file, identity.key_file, "localhost"
            ),
            make_will=lambda: Will(f"status/{VEHICLE_ID}", b"{}", retain=True),
        )
        self._transport.start(self)
        self._transport.connect()
        assert self._connected.wait(10)

    def on_connected(self) -> None:
        """From the transport."""
        self._connected.set()

    def on_outcome(self, *_: object) -> None:
        """From the transport."""
        self._settled.set()

    def on_disconnected(self, *_: object, **__: object) -> None:
        """From the transport."""

    on_subscribed = on_message = on_disconnected

    def cost(self, topic: str, payloads: Sequence[bytes]) -> int:
        """Bytes that passed for these publishes and their PUBACKs."""
        self._send(topic, payloads[0])  # what the start of the connection left is through then
        before = self._relay.bytes
        for payload in payloads:
            self._send(topic, payload)
        return int(self._relay.bytes - before)

    def _send(self, topic: str, payload: bytes) -> None:
        self._settled.clear()
        self._transport.publish(1, topic, payload)
        assert self._settled.wait(10)

    def close(self) -> None:
        """End both."""
        self._transport.close()
        self._relay.close()


def as_json(samples: Sequence[Sample]) -> bytes:
    """A JSON array."""
    return b"[" + b",".join(encode(sample) for sample in samples) + b"]"


def zstd(data: bytes) -> bytes:
    """At its usual hard level."""
    return zstandard.ZstdCompressor(level=19).compress(data)


def batch(samples: Sequence[Sample]) -> bytes:
    """The contract's format, from what the outbox keeps."""
    return encode_batch_rows([json.loads(encode(sample)) for sample in samples])


FORMATS: dict[str, Callable[[Sequence[Sample]], bytes]] = {
    "batch": batch,
    "json": as_json,
    "json_gzip": lambda samples: gzip.compress(as_json(samples), 9, mtime=0),
    "json_zstd": lambda samples: zstd(as_json(samples)),
}


def figures_of(samples: list[Sample], wire: Wire, count: int) -> dict[str, Any]:
    """Bytes a sample in every form."""
    single = [encode(sample) for sample in samples]
    some = single[:: max(1, len(single) // count)]
    figures: dict[str, Any] = {
        "samples": len(samples),
        "single": {
            "json": round(sum(map(len, single)) / len(single), 1),
            "json_gzip": round(sum(len(gzip.compress(one, 9)) for one in single) / len(single), 1),
            "json_zstd": round(sum(len(zstd(one)) for one in single) / len(single), 1),
            "json_on_the_wire": round(wire.cost(f"telemetry/{VEHICLE_ID}", some) / len(some), 1),
        },
    }
    for length_s in BATCHES_S:
        groups = [
            samples[first : first + length_s]
            for first in range(0, len(samples) - length_s + 1, length_s)
        ]
        sizes = {
            name: round(sum(len(form(group)) for group in groups) / len(groups) / length_s, 1)
            for name, form in FORMATS.items()
        }
        payloads = [batch(group) for group in groups]
        spent = wire.cost(f"telemetry/{VEHICLE_ID}/batch", payloads)
        sizes["batch_on_the_wire"] = round(spent / len(groups) / length_s, 1)
        figures[f"batch_{length_s}_s"] = sizes
    return figures


def main() -> None:
    """Measure and print."""
    parser = arguments(
        __doc__,
        seconds=(600.0, "seconds of each drive"),
        publishes=(200, "single publishes that go through the proxy"),
    )
    words = parser.parse_args()
    figures: dict[str, Any] = {"benchmark": "wire_bytes", "rate_hz": 1}
    with scratch() as folder, secured_broker(folder) as broker:
        wire = Wire(broker)
        try:
            for name, samples in drives(folder, words.seconds).items():
                progress(f"{name}: {len(samples)} samples")
                figures[name] = figures_of(samples, wire, words.publishes)
        finally:
            wire.close()
    show(figures, as_json=words.json)


if __name__ == "__main__":
    main()
